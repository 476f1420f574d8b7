"""Evidence under a space limit: what differs before what does not, and never one side of a tensor without the other."""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.torch import load

from shadow.entry import KeysValues, leaves
from tests.shadow.entries import assert_equal_entries, make_entry
from validator.entries.compare import valid
from validator.entries.evidence import evidence


def with_changed(entry: KeysValues, *wrong: int) -> KeysValues:
    """Copy an entry, other values in some of its tensors."""
    own = KeysValues.empty_like(leaves(entry))
    own.copy_from(leaves(entry))
    for index in wrong:
        valid(leaves(own)[index]).add_(1)
    return own


def nbytes(entry: Any, index: int) -> int:
    return int(valid(leaves(entry)[index]).nbytes)


def test_all_of_both_sides_is_kept_where_there_is_room() -> None:
    control = make_entry(1)

    blob, note = evidence(control, with_changed(control, 3), limit_bytes=1 << 20)

    assert len(load(blob)) == 2 * len(leaves(control))
    assert note == ""


def test_room_for_one_tensor_of_both_sides_goes_to_the_one_that_differs() -> None:
    control = make_entry(1)
    candidate = with_changed(control, 3)

    blob, note = evidence(control, candidate, limit_bytes=2 * nbytes(control, 3))

    kept = load(blob)
    assert kept.keys() == {"control.layer1.v", "candidate.layer1.v"}
    assert kept["control.layer1.v"].equal(valid(leaves(control)[3]))
    assert kept["candidate.layer1.v"].equal(valid(leaves(candidate)[3]))
    left_out = 2 * nbytes(control, 0)
    assert note == (
        f"3 of 4 tensors left out, {3 * left_out:,} bytes of both sides, because {left_out:,} are allowed: "
        "L0 K, L0 V, L1 K"
    )


def test_what_differs_and_has_no_room_is_told_apart() -> None:
    control = make_entry(1)

    _, note = evidence(control, with_changed(control, 1, 2), limit_bytes=2 * nbytes(control, 1))

    assert note.endswith(": L1 K (differs), L0 K, L1 V")


def test_room_for_one_side_alone_keeps_neither() -> None:
    control = make_entry(1)

    blob, note = evidence(control, with_changed(control, 0), limit_bytes=2 * nbytes(control, 0) - 1)

    assert blob == b""
    assert note.startswith("4 of 4 tensors left out")


def test_a_side_that_answered_alone_is_kept_from_its_first_layer_on() -> None:
    candidate = make_entry(1)

    blob, _ = evidence(None, candidate, limit_bytes=nbytes(candidate, 0))

    assert load(blob).keys() == {"candidate.layer0.k"}


def test_a_layer_that_one_side_lacks_comes_before_those_that_are_equal() -> None:
    control = make_entry(1)
    candidate = make_entry(1, layers=1)

    blob, _ = evidence(control, candidate, limit_bytes=2 * nbytes(control, 2))

    assert load(blob).keys() == {"control.layer1.k", "control.layer1.v"}


def test_of_many_tensors_left_out_the_first_are_named_and_the_others_counted() -> None:
    control = make_entry(1, layers=8)

    _, note = evidence(control, with_changed(control, 15), limit_bytes=0)

    assert note.endswith(": L7 V (differs), L0 K, L0 V, L1 K, L1 V, L2 K, L2 V, L3 K and 8 more")


@pytest.mark.parametrize("answer", ["text", object()])
def test_what_is_no_entry_leaves_the_other_side(answer: object) -> None:
    control = make_entry(1)
    before = with_changed(control)

    blob, note = evidence(control, answer, limit_bytes=1 << 20)

    assert len(load(blob)) == len(leaves(control))
    assert note == ""
    assert_equal_entries(control, before)

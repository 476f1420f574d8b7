"""Wrong rows are named by where they were stored, and only if every one of them is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reports.record.words import Cause
from shadow.entry import KeysValues, leaves
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.trials import ENVS, manager, trial
from validator.entries.digest import digest
from validator.judge.rows import named_rows
from validator.models.stored import Stored

WIDE = {"head_dim": 4, "heads": 2, "max_tokens": 6, "size": 5}


def stored(key: int, env_id: int = 0) -> Stored:
    run = trial(manager(), manager())
    run.cache.set_init_cache(env_id, key, make_entry(key, **WIDE))
    found = run.pair.case.control.model.pool("init", env_id).peek(key)
    assert found is not None
    return found


def named(change: Callable[[KeysValues, KeysValues], Any], *others: tuple[int, int]) -> Any:
    """Name what is wrong with entry 1 of env 0 after a change that may take from entry 2."""
    answer = make_entry(1, **WIDE)
    change(answer, make_entry(2, **WIDE))
    elsewhere = [(stored(key, env), leaves(make_entry(key, **WIDE))) for key, env in others]
    return named_rows(stored(1), leaves(answer), leaves(make_entry(1, **WIDE)), elsewhere, digest)


def first_tokens(own: KeysValues, other: KeysValues) -> None:
    for one, two in zip(leaves(own), leaves(other), strict=True):
        one.tensor[:, :, :2] = two.tensor[:, :, :2]


def kv_in_one_head(own: KeysValues, _: KeysValues) -> None:
    for layer in own:
        layer._k_cache._cache[:, 0] = layer._v_cache._cache[:, 0]


def a_token_twice(own: KeysValues, _: KeysValues) -> None:
    for leaf in leaves(own):
        leaf.tensor[:, :, 1] = leaf.tensor[:, :, 0]


def zero_tokens(own: KeysValues, _: KeysValues) -> None:
    for leaf in leaves(own):
        leaf.tensor[:, :, 1:3] = 0


def noise(own: KeysValues, _: KeysValues) -> None:
    leaves(own)[0].tensor[:, :, 1] += 0.125


def both(own: KeysValues, other: KeysValues) -> None:
    first_tokens(own, other)
    leaves(own)[0].tensor[:, :, 3] = 77.5


@guards("validator/judge/rows.py", "if not any(map(any, wanted)):", "if False:")
@guards("validator/judge/rows.py", "moved = any(sources[row].leaf != index for index, row in wrong)", "moved = False")
@pytest.mark.parametrize(
    ("change", "others", "cause", "said"),
    [
        (first_tokens, [(3, 0), (2, 0)], Cause.OTHER_KEY, {"wrong": 16, "n": 40, "other_key": 2}),
        (first_tokens, [(2, 1)], Cause.OTHER_ENV, {"other_key": 2, "pool": ("init", 1)}),
        (kv_in_one_head, [], Cause.LAYER_MIXED, {"wrong": 10, "n": 40}),
        (a_token_twice, [], Cause.TOKENS_PERMUTED, {"wrong": 8}),
        (zero_tokens, [(2, 0)], Cause.PARTIAL_COPY, {"wrong": 16}),
    ],
)
def test_rows_are_named_by_where_they_were_stored(change: Any, others: Any, cause: Cause, said: dict[str, Any]) -> None:
    found = named(change, *others)
    assert found is not None
    assert found.kind.cause is cause
    assert {name: found.facts[name] for name in said} == said


def test_rows_of_several_entries_say_of_how_many_and_name_the_one_that_most_are_of() -> None:
    def of_two(own: KeysValues, other: KeysValues) -> None:
        first_tokens(own, other)
        third = make_entry(3, **WIDE)
        for one, two in zip(leaves(own), leaves(third), strict=True):
            one.tensor[:, :, 4] = two.tensor[:, :, 4]

    found = named(of_two, (2, 0), (3, 0))
    assert (found.facts["entries"], found.facts["other_key"], found.kind.cause) == (2, 2, Cause.OTHER_KEY)


@guards("validator/judge/rows.py", "    else:\n        return None\n", "")
@pytest.mark.parametrize("change", [noise, both])
def test_where_one_row_is_found_nowhere_nothing_is_named(change: Any) -> None:
    assert named(change, (2, 0), (3, 1)) is None


@guards("validator/judge/rows.py", "stored is None or digest(leaves) == stored.digest", "True")
def test_nothing_is_named_by_an_entry_that_is_not_what_was_stored_any_more() -> None:
    answer, changed = make_entry(1, **WIDE), make_entry(2, **WIDE)
    first_tokens(answer, changed)
    leaves(changed)[0].tensor[:, :, 3] = 77.5
    others = [(stored(2), leaves(changed))]
    assert named_rows(stored(1), leaves(answer), leaves(make_entry(1, **WIDE)), others, digest) is None


@guards("validator/judge/rows.py", "sum(map(len, wanted)) < _LEAST_BYTES", "False")
def test_a_few_bytes_that_are_alike_by_chance_name_nothing() -> None:
    truth = make_entry(1, head_dim=2, heads=1, size=2, layers=1, dtype=torch.float16)
    answer = truth.clone()
    leaves(answer)[0].tensor[:, :, 0] = leaves(answer)[1].tensor[:, :, 1]
    assert named_rows(stored(1), leaves(answer), leaves(truth), [], digest) is None
    assert ENVS == 2

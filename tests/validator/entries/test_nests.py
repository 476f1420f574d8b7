"""Nests are compared, digested and kept as evidence leaf by leaf, each named by its path."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from safetensors import deserialize
from safetensors.torch import load
from torch import Tensor

from shadow.entries import leaves
from shadow.memory.buffers import Leaf
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.shadow.nests import PATHS, floats, make_nest
from tests.validator.observe.test_dtypes import DTYPES
from validator.entries.compare import Tolerance, differences, equal
from validator.entries.digest import digest
from validator.entries.evidence import evidence
from validator.entries.readable import entry_leaves


def of(nest: Any) -> list[Leaf]:
    found = entry_leaves(nest)
    assert found is not None
    return found


def flipped(nest: Any, index: int) -> list[Leaf]:
    """Return the leaves of a nest, one bit of one of them flipped."""
    found = of(nest)
    own = found[index].tensor.clone()
    own.reshape(-1).view(torch.uint8)[-1] ^= 1
    found[index] = Leaf(own, found[index].size)
    return found


@pytest.mark.parametrize("index", [i for i, path in enumerate(PATHS) if path != "pair.v.1"], ids=lambda i: PATHS[i])
def test_one_bit_of_any_leaf_is_a_difference_at_its_path(index: int) -> None:
    one, other = of(make_nest(1)), flipped(make_nest(1), index)
    assert equal(one, of(make_nest(1)))
    assert digest(one) == digest(of(make_nest(1)))
    assert not equal(one, other)
    assert digest(one) != digest(other)
    (found,) = differences(one, other)
    assert (found.path, found.name, found.place, found.rung, found.n_mismatched) == (PATHS[index],) * 3 + ("bits", 1)
    assert found.layer == index
    assert "valid" not in found.control


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 3, 4), (2, 0)], ids=str)
def test_tensors_of_every_type_and_shape_are_compared_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    raw = torch.arange(torch.Size(shape).numel() * dtype.itemsize, dtype=torch.uint8) % 2
    tensor = raw.view(dtype).reshape(shape) if raw.numel() else torch.zeros(shape, dtype=dtype)
    one, again = of({"k": tensor}), of({"k": tensor.clone()})
    assert equal(one, again)
    assert differences(one, again) == ()
    assert digest(one) == digest(again)
    if raw.numel():
        other = flipped({"k": tensor}, 0)
        assert not equal(one, other)
        assert digest(one) != digest(other)
        assert [found.path for found in differences(one, other)] == ["k"]
        blob, note = evidence({"k": tensor}, {"k": other[0].tensor}, 1 << 20)
        assert ({name for name, _ in deserialize(blob)}, note) == ({"control.k", "candidate.k"}, "")


X = floats(1, 2, 2)
SAID = "float32 (2, 2) on cpu"


@guards("validator/entries/compare.py", " or form_of(control) != form_of(candidate)", "")
@guards("validator/entries/digest.py", "whole.intdigest(), form_of(entry_leaves))", "whole.intdigest(), None)")
@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((X, X), [X, X], [("entry", "tuple", "list")]),
        ({"k": X, "v": X}, {"k": X}, [("v", SAID, "absent")]),
        ({"k": X}, {"k": X, "n": 1}, [("n", "absent", "int 1")]),
        ({"k": X, "n": 1}, {"k": X, "n": 2}, [("n", "int 1", "int 2")]),
        ({"k": [X]}, {"k": X}, [("k", "list", "absent"), ("k.0", SAID, "absent"), ("k", "absent", SAID)]),
        ([{"k": X}], [OrderedDict(k=X)], [("0", "dict", "collections.OrderedDict")]),
    ],
)  # fmt: skip
def test_another_form_is_a_difference_of_structure_and_says_where(one: Any, other: Any, said: Any) -> None:
    assert not equal(of(one), of(other))
    assert digest(of(one)) != digest(of(other))
    found = differences(of(one), of(other))
    assert [(each.path, each.control, each.candidate) for each in found] == said
    assert {each.rung for each in found} == {"structure"}


def test_a_nest_in_the_place_of_layers_is_told_by_both_forms() -> None:
    layered, nest = of(make_entry(1)), of({"k": X})
    assert not equal(layered, nest)
    found = {each.path: (each.control[:7], each.candidate[:7]) for each in differences(layered, nest)}
    assert found["entry"] == ("layers ", "dict")
    assert found["layer1.v"][1] == "absent"
    assert found["k"] == ("absent", "float32")


@guards("validator/entries/compare.py", "plain = not (a.is_conj()", "plain = True or (a.is_conj()")
@guards("validator/entries/compare.py", "    values = values.resolve_conj().resolve_neg()\n", "")
@pytest.mark.parametrize("shape", [(3,), (1, 2, 2, 2)], ids=str)
def test_a_lazily_conjugated_tensor_is_compared_by_its_values(shape: tuple[int, ...]) -> None:
    numbers = torch.complex(floats(1, *shape), floats(2, *shape))
    assert not equal(of({"k": numbers}), of({"k": numbers.conj()}))
    assert equal(of({"k": numbers.conj()}), of({"k": numbers.conj().resolve_conj()}))
    assert not equal(of({"k": numbers.imag}), of({"k": numbers.conj().imag}))


def test_what_is_within_tolerance_is_no_difference_in_a_nest() -> None:
    assert differences(of({"k": X}), of({"k": X + 1e-4}), Tolerance(0.0, 1e-3)) == ()
    assert len(differences(of({"k": X}), of({"k": X + 1e-2}), Tolerance(0.0, 1e-3))) == 1


@pytest.mark.parametrize("answer", [None, 3, "text", [], {"k": None}, object(), {"k": object(), "v": X}])
def test_what_holds_no_tensor_or_a_stranger_is_no_entry(answer: Any) -> None:
    assert entry_leaves(answer) is None


def test_a_meta_tensor_among_others_is_no_entry() -> None:
    assert entry_leaves((X, X.to("meta"))) is None


class TestEvidence:
    def test_is_named_by_paths(self) -> None:
        blob, note = evidence(make_nest(1), make_nest(2), 1 << 20)
        assert set(load(blob)) == {f"{side}.{path}" for side in ("control", "candidate") for path in PATHS}
        assert note == ""

    def test_keeps_what_differs_before_what_does_not(self) -> None:
        one = {"a": X, "b": X, "c": X}
        blob, note = evidence(one, {**one, "c": X + 1}, limit_bytes=2 * X.nbytes)
        assert set(load(blob)) == {"control.c", "candidate.c"}
        assert note.endswith(": a, b")

    def test_keeps_what_one_side_alone_has(self) -> None:
        blob, _ = evidence({"k": X, "v": X}, {"k": X}, 1 << 20)
        assert set(load(blob)) == {"control.k", "candidate.k", "control.v"}

    def test_keeps_complex_numbers_as_pairs(self) -> None:
        numbers = torch.complex(X, X + 1).to(torch.complex128)
        blob, _ = evidence({"k": numbers.conj()}, {"k": numbers}, 1 << 20)
        kept: Tensor = load(blob)["control.k"]
        assert torch.equal(kept, torch.view_as_real(numbers.conj().resolve_conj()))


def test_leaves_of_a_nest_are_those_that_are_stored() -> None:
    assert [leaf.tensor.data_ptr() for leaf in of((X, X))] == [leaf.tensor.data_ptr() for leaf in leaves((X, X))]

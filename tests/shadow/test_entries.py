"""Any nest of tensors is taken apart and put together again, leaf by leaf, each by its path."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

from shadow import entries, register_entry
from shadow import entry as keys_values
from shadow.entries import cloned, form_of, leaf_names, leaves, paths, rebuilt
from tests.guards import guards
from tests.shadow.entries import assert_equal_entries, make_entry
from tests.shadow.nests import PATHS, Layer, Opaque, Pair, Quantised, Untyped, assert_equal_nests, floats, make_nest


@pytest.fixture
def _unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_registered", {})


def test_every_leaf_of_a_nest_is_named_by_its_path() -> None:
    found = leaves(make_nest(1))
    assert paths(form_of(found), len(found)) == PATHS == leaf_names(form_of(found), len(found))
    assert torch.equal(found[PATHS.index("pair.v.0")].tensor, floats(1.75))


def test_layers_of_keys_and_values_are_what_they_were() -> None:
    entry = make_entry(1)
    assert leaves(entry) == keys_values.leaves(entry)
    assert form_of(leaves(entry)) is None
    assert paths(None, 4) == ["layer0.k", "layer0.v", "layer1.k", "layer1.v"]
    assert leaf_names(None, 4)[3] == "layer 1 V"
    assert_equal_entries(cloned(entry), entry)


def test_a_single_tensor_is_an_entry() -> None:
    found = leaves(floats(1, 2))
    assert paths(form_of(found), 1) == ["tensor"]
    assert torch.equal(rebuilt(floats(1, 2), [floats(2, 2)]), floats(2, 2))


@guards("shadow/entries.py", "made = copy.copy(like)\n    for key, part", "made = dict(like)\n    for key, part")
def test_what_is_put_together_is_of_the_same_classes_keys_and_values() -> None:
    nest = make_nest(1)
    made = rebuilt(nest, [leaf.tensor for leaf in leaves(make_nest(2))])
    assert_equal_nests(made, make_nest(2))
    layer, quantised = made["layers"]
    assert (type(layer), type(layer.pair), type(quantised), quantised.bits) == (Layer, Pair, Quantised, 8)
    assert (type(made["pair"]), type(made["ordered"]), layer.more) == (Untyped, OrderedDict, {"step": 3, "rope": None})
    assert list(made) == list(nest), "the order of a dict stays"
    assert_equal_nests(nest, make_nest(1))


@guards("shadow/entries.py", "    fill(buffers, source)\n", "    buffers = [leaf.tensor for leaf in source]\n")
def test_a_clone_shares_nothing() -> None:
    nest = make_nest(1)
    copy = cloned(nest)
    for leaf in leaves(nest):
        leaf.tensor.zero_()
    nest["layers"][0].more["step"] = 4
    nest["layers"].append(None)
    assert_equal_nests(copy, make_nest(1))


def test_one_tensor_twice_becomes_two_of_the_same_values() -> None:
    twice = floats(1, 3)
    copy = cloned((twice, [twice]))
    copy[0].zero_()
    assert torch.equal(copy[1][0], twice)


@guards("shadow/entries.py", "named = sorted(", "named = list(")
def test_the_order_in_which_a_dict_was_filled_is_no_difference() -> None:
    one, other = leaves({"k": floats(1, 2), "v": floats(2, 2)}), leaves({"v": floats(2, 2), "k": floats(1, 2)})
    assert form_of(one) == form_of(other)
    assert [leaf.tensor.tolist() for leaf in one] == [leaf.tensor.tolist() for leaf in other]


X = floats(1, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((X, X), [X, X]),
        ((X, X), Pair(X, X)),
        ({"k": X}, {"v": X}),
        ({1: X}, {"1": X}),
        ({1: X}, {True: X}),
        ({"[1]": X}, {1: X}),
        ({"a.b": X}, {"a": {"b": X}}),
        ({"k": X}, OrderedDict(k=X)),
        ({"k": X}, defaultdict(list, k=X)),
        ((X, 1), (X, 1.0)),
        ((X, 0.5), (X, 0.25)),
        ((X, None), (X,)),
        ((X, []), (X, {})),
        ((X, "1"), (X, 1)),
        ((X, torch.float16), (X, torch.bfloat16)),
        (X, {"tensor": X}),
        (X, (X,)),
        ((X, "a" * 500), (X, "a" * 499 + "b")),
    ],
)
def test_other_containers_keys_or_plain_values_are_another_form(one: Any, other: Any) -> None:
    assert form_of(leaves(one)) != form_of(leaves(other))


def test_plain_values_that_are_alike_are_one_form() -> None:
    assert form_of(leaves((X, float("nan"), 0.1 + 0.2))) == form_of(leaves((X, float("nan"), 0.30000000000000004)))


@pytest.mark.usefixtures("_unregistered")
def test_a_class_that_nobody_knows_is_refused_by_a_sentence_that_says_what_would_do() -> None:
    with pytest.raises(TypeError, match=r"Opaque at 1\.k can't be taken apart: shadow\.register_entry\(Opaque, "):
        leaves((X, {"k": Opaque(X, X)}))


@guards(
    "shadow/entries.py", "isinstance(node, Tensor) and registration(type(node)) is None", "isinstance(node, Tensor)"
)
@pytest.mark.usefixtures("_unregistered")
def test_a_class_is_taken_apart_and_put_together_as_it_was_registered() -> None:
    class More(Opaque):
        pass

    class Scaled(Tensor):
        pass

    register_entry(
        Opaque, leaves=lambda own: {"k": own.k, "v": own.v, "name": own.name}, rebuild=lambda nest: Opaque(**nest)
    )
    register_entry(Scaled, leaves=lambda own: (own.as_subclass(Tensor), 2), rebuild=lambda nest: Scaled(nest[0]))
    for nest in (Opaque(X, floats(2, 2), "n"), More(X, floats(2, 2), "n")):
        found = leaves([nest])
        assert paths(form_of(found), 2) == ["0.k", "0.v"]
        assert form_of(found) != form_of(leaves([Opaque(X, X, "m")]))
        copy = cloned([nest])[0]
        assert (copy.name, copy.k.tolist(), copy.k is X) == ("n", X.tolist(), False)
    copy = cloned({"s": Scaled(X)})["s"]
    assert type(copy) is Scaled
    assert paths(form_of(leaves({"s": Scaled(X)})), 1) == ["s.0"]


@pytest.mark.parametrize("wrong", [(3, len, len), (Opaque, None, len), (Opaque, len, "k")])
def test_a_registration_of_what_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"register_entry takes a class|must be a function"):
        register_entry(wrong[0], leaves=wrong[1], rebuild=wrong[2])

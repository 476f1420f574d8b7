"""Which shape two caches are of, said by the control."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guards import guards
from tests.validator.trials import manager
from validator.proof.appends.caches import GrowingCache
from validator.shapes import find


@pytest.mark.parametrize(
    ("control", "name"),
    [(manager(), "pools"), ({}, "mapping"), (GrowingCache((None,)), "append")],
    ids=["pools", "mapping", "append"],
)
def test_the_control_says_which_shape(control: Any, name: str) -> None:
    assert find(control).name == find(control, name).name == name


@guards("validator/shapes/__init__.py", "    if not fitting:\n", "    if False:\n")
@pytest.mark.parametrize("control", [[], object(), None, "text", 7], ids=lambda it: type(it).__name__)
def test_what_is_no_cache_is_refused_in_one_sentence(control: Any) -> None:
    with pytest.raises(ValueError, match=r"which is no cache: give one with"):
        find(control)


def test_a_control_of_two_shapes_is_refused_until_one_is_named() -> None:
    class Both(dict[Any, Any]):
        def get_init_cache(self, env_id: int, cache_key: int) -> Any: ...

    with pytest.raises(ValueError, match=r"more than one shape \(pools and mapping\): name one"):
        find(Both())
    assert find(Both(), "mapping").name == "mapping"


def test_an_unknown_shape_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="must be 'auto' or one of pools, mapping, append, got 'paged'"):
        find({}, "paged")

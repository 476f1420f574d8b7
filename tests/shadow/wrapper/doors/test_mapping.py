"""The door of a mapping is the mapping, to its host: every verb answers, raises and changes what the primary would."""

from __future__ import annotations

import copy
import operator
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any

import cachetools
import pytest
import torch

from shadow.operation import Operation
from shadow.wrapper.doors.mapping import OPERATIONS, ShadowMapping
from tests.guards import guards
from tests.shadow.nests import assert_equal_nests, floats
from tests.shadow.observers import Recorder


def entry(number: float) -> Any:
    return {"k": floats(number, 2, 2), "v": floats(-number, 2)}


def wrapped(one: Any, other: Any, primary: str = "control", **more: Any) -> tuple[Any, Recorder]:
    observer = Recorder()
    return ShadowMapping(one, other, observer, primary, **more), observer


ANSWERS = {
    "[]": lambda cache: cache["a"],
    "[] of none": lambda cache: cache["z"],
    "get": lambda cache: cache.get("a"),
    "get of none": lambda cache: cache.get("z"),
    "get with default": lambda cache: cache.get("z", 7),
    "in": lambda cache: ("a" in cache, "z" in cache),
    "pop": lambda cache: cache.pop("a"),
    "pop of none": lambda cache: cache.pop("z"),
    "pop with default": lambda cache: cache.pop("z", 7),
    "pop with None": lambda cache: cache.pop("z", None),
    "del": lambda cache: cache.__delitem__("a"),
    "del of none": lambda cache: cache.__delitem__("z"),
    "popitem": lambda cache: cache.popitem(),
    "popitem of none": lambda cache: (cache.clear(), cache.popitem()),
    "setdefault": lambda cache: cache.setdefault("a", entry(9)),
    "setdefault of none": lambda cache: cache.setdefault("z", entry(9)),
    "update": lambda cache: cache.update({"y": entry(8)}, z=entry(9)),
    "clear": lambda cache: cache.clear(),
    "len": len,
    "list": list,
    "keys": lambda cache: list(cache.keys()),
    "values": lambda cache: list(cache.values()),
    "items": lambda cache: list(cache.items()),
    "bool": bool,
    "unhashable": lambda cache: cache[[]],
}


def outcome(act: Any, cache: Any) -> Any:
    try:
        return act(cache), None
    except Exception as error:
        return None, (type(error), str(error))


def plain(value: Any) -> Any:
    """Return a value with tensors as lists, so that == compares it."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def filled(make: Any) -> Any:
    cache = make()
    for number, key in enumerate("abcab"):
        cache[key] = entry(number)
    return cache


MAKES = [dict, OrderedDict, lambda: cachetools.LRUCache(3), lambda: cachetools.FIFOCache(3)]


@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("make", MAKES, ids=["dict", "OrderedDict", "LRU", "FIFO"])
@pytest.mark.parametrize("verb", ANSWERS)
def test_every_verb_answers_and_changes_what_the_mapping_alone_would(verb: str, make: Any, primary: str) -> None:
    alone, sides = filled(make), (filled(make), filled(make))
    cache, observer = wrapped(*sides, primary, reuses=False)
    assert plain(outcome(ANSWERS[verb], cache)) == plain(outcome(ANSWERS[verb], alone))
    assert plain(list(sides[0].items())) == plain(list(sides[1].items())) == plain(list(alone.items()))
    assert observer.failed_steps == []


def test_the_host_is_given_the_primarys_own_object_and_error() -> None:
    class Odd(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            raise KeyError(key, "mine")

    one, stored = {}, entry(1)
    cache, observer = wrapped(one, {})
    cache["a"] = stored
    assert cache["a"] is cache.get("a") is one["a"] is stored
    cache, observer = wrapped(Odd(), {})
    with pytest.raises(KeyError, match="mine"):
        cache["a"]
    assert observer.seen[0].control_error is None, "a miss is no error"


@guards("shadow/wrapper/both.py", "                if absent:\n", "                if False:\n")
def test_a_miss_is_told_as_none_and_another_error_as_an_error() -> None:
    class Raises(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            raise ValueError("broken")

    cache, observer = wrapped({}, Raises())
    for act in (lambda: cache["a"], lambda: cache.pop("a"), lambda: cache.popitem()):
        with pytest.raises(KeyError):
            act()
    told = [(seen.control, seen.control_error, type(seen.candidate_error)) for seen in observer.seen]
    assert told == [(None, None, ValueError), (None, None, type(None)), (None, None, type(None))]


def test_each_verb_is_one_operation_of_its_kind() -> None:
    cache, observer = wrapped({}, {})
    cache["a"] = entry(1)
    cache.get("a")
    operator.contains(cache, "a")
    cache.setdefault("a", entry(2))
    cache |= {"b": entry(2)}
    del cache["b"]
    cache.pop("a")
    cache["c"] = entry(3)
    cache.popitem()
    cache.clear()
    kinds = [seen.operation.kind for seen in observer.seen]
    assert kinds == ["set", "get", "has", "get", "set", "delete", "take", "set", "take", "clear"]
    assert all(type(operation) is Operation for operation in OPERATIONS)


@guards("shadow/wrapper/staging.py", "        if not self._reuses:\n", "        if False:\n")
@pytest.mark.parametrize("reuses", [True, False])
def test_a_secondary_that_keeps_references_is_given_a_copy_of_its_own_at_each_set(reuses: bool) -> None:
    other: dict[Any, Any] = {}
    cache, _ = wrapped({}, other, reuses=reuses)
    for number in range(3):
        cache[number] = entry(number)
    addresses = {held["k"].data_ptr() for held in other.values()}
    assert len(addresses) == (1 if reuses else 3)
    if not reuses:
        for number in range(3):
            assert_equal_nests(other[number], entry(number))
            assert other[number]["k"] is not cache[number]["k"]


def test_it_is_of_the_primarys_class_and_a_mapping_and_shows_its_attributes() -> None:
    cache, _ = wrapped(cachetools.LRUCache(3), cachetools.LRUCache(4))
    assert isinstance(cache, cachetools.LRUCache)
    assert isinstance(cache, MutableMapping)
    assert (cache.maxsize, cache.currsize) == (3, 0)
    assert "ShadowMapping(control=LRUCache" in repr(cache)


@guards("shadow/wrapper/likeness.py", " and name not in known]", "]")
def test_what_the_door_does_itself_is_not_passed_on_past_the_observer() -> None:
    cache, observer = wrapped({}, {})
    cache["a"] = entry(1)
    assert len(observer.seen) == 1


def test_listing_a_cache_that_looks_its_entries_up_itself_is_lookups_on_both_sides() -> None:
    cache, observer = wrapped(filled(lambda: cachetools.LRUCache(3)), filled(lambda: cachetools.LRUCache(3)))
    list(cache.values())
    assert [seen.operation.kind for seen in observer.seen] == ["get"] * 3
    cache, observer = wrapped(filled(dict), filled(dict))
    list(cache.values())
    assert observer.seen == []


def test_a_shallow_copy_is_the_hosts_own_and_a_deep_one_a_pair_of_its_own() -> None:
    one, other = filled(dict), filled(dict)
    cache, observer = wrapped(one, other)
    for own in (copy.copy(cache), cache.copy()):
        assert type(own) is dict
        assert own["a"] is one["a"]
    deep = copy.deepcopy(cache)
    deep["a"] = entry(9)
    assert type(deep) is type(cache)
    assert plain(one["a"]) == plain(other["a"]) == plain(entry(3))
    assert cache | {"z": 1} == {**one, "z": 1}
    assert observer.failed_steps == []

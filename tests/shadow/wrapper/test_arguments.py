"""Arguments beyond those that the interface asks for, and entries that are none."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shadow.entry import Cache, KeysValues, leaves
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.wrapper.doors.pools import ShadowCache
from tests.guards import guards
from tests.shadow.entries import foreign_entry, make_entry
from tests.shadow.observers import Recorder

CONFIG = {"num_simulations": 2, "max_cache_size": 4}


class Noting(KVCacheManager):
    """Notes what it is called with beyond what the interface asks for."""

    def __init__(self) -> None:
        super().__init__(CONFIG, 2)
        self.noted: list[Any] = []

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> int:
        self.noted.append((more, named))
        return super().set_init_cache(env_id, cache_key, kv_cache)

    def get_recur_cache(self, cache_key: int, *more: Any, **named: Any) -> Any:
        self.noted.append((more, named))
        return super().get_recur_cache(cache_key)

    def clear_all(self, *more: Any, **named: Any) -> None:
        self.noted.append((more, named))
        super().clear_all()


class Scratch:
    """Stores whatever it is given."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> None:
        self.held[cache_key] = kv_cache

    def get_recur_cache(self, cache_key: int) -> Any:
        return self.held.get(cache_key)


def wrapped(primary: Any, secondary: Any) -> tuple[Any, Recorder]:
    observer = Recorder()
    return ShadowCache(primary, secondary, observer), observer


def test_further_arguments_reach_both_sides_by_place_and_by_name() -> None:
    one, other = Noting(), Noting()
    cache, observer = wrapped(one, other)
    weights = torch.ones(2)
    cache.set_init_cache(0, 1, make_entry(1), 0.5, hint=weights)
    cache.set_init_cache(env_id=0, cache_key=2, kv_cache=make_entry(2), priority=3)
    cache.get_recur_cache(1, True)
    cache.get_recur_cache(cache_key=1, touch=False)
    cache.clear_all(reason="end")
    assert (
        one.noted[1:]
        == other.noted[1:]
        == [((), {"priority": 3}), ((True,), {}), ((), {"touch": False}), ((), {"reason": "end"})]
    )
    assert one.noted[0][0] == other.noted[0][0] == (0.5,)
    given, copied = one.noted[0][1]["hint"], other.noted[0][1]["hint"]
    assert given is weights
    assert copied is not weights, "the secondary gets its own"
    assert torch.equal(given, copied)
    assert [seen.key for seen in observer.seen] == [1, 2, 1, 1, None]
    assert observer.befores[0][3] is not observer.befores[0][4], "the entry is staged as ever"
    assert observer.failed_steps == []


def test_a_secondary_that_does_not_take_them_raises_by_itself() -> None:
    cache, observer = wrapped(Noting(), LegacyKVCache(CONFIG, 2))
    assert cache.set_init_cache(0, 1, make_entry(1), priority=2) == 0
    assert isinstance(observer.seen[0].candidate_error, TypeError)
    cache, observer = wrapped(LegacyKVCache(CONFIG, 2), Noting())
    with pytest.raises(TypeError, match="priority"):
        cache.set_init_cache(0, 1, make_entry(1), priority=2)


@pytest.mark.parametrize("env_id", [np.int64(1), torch.tensor(1), True])
def test_env_ids_that_are_whole_numbers_of_another_kind_are_told_as_ints(env_id: Any) -> None:
    cache, observer = wrapped(Noting(), Noting())
    cache.set_init_cache(env_id, 1, make_entry(1))
    assert [(type(seen.env_id), seen.env_id) for seen in observer.seen] == [(int, 1)]


class Raises:
    @property
    def _keys_values(self) -> Any:
        raise RuntimeError("not ready")


def of(tensor: Any, size: Any = 3) -> Any:
    return foreign_entry(((tensor, size), (tensor, size)))


X = torch.zeros(1, 2, 4, 2)
JAGGED = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)], layout=torch.jagged)
ENDLESS: list[Any] = [X]
ENDLESS.append(ENDLESS)
NO_ENTRIES = {
    "None": (None, "an object of type NoneType is no entry"),
    "no tensor": ({"k": [], "scale": 0.5}, "dict holds no tensor"),
    "stranger": (SimpleNamespace(k=X), "type types.SimpleNamespace can't be taken apart: shadow.register_entry("),
    "deep stranger": ((X, {"k": X.numpy()}), "an object of type numpy.ndarray at 1.k can't be taken apart"),
    "odd key": ({Raises(): X}, "has a key of type"),
    "sparse in a nest": ((X, {"k": X.to_sparse()}), "1.k is a sparse tensor"),
    "endless": (ENDLESS, "nested deeper than 64 times"),
    "raises": (Raises(), "an object of type Raises is no entry (RuntimeError: not ready)"),
    "no V": (SimpleNamespace(_keys_values=[SimpleNamespace(_k_cache=Cache.over(X, 3))]), "no attribute '_v_cache'"),
    "numpy": (of(X.numpy()), "layer 0 K is of type ndarray and no tensor"),
    "meta": (of(X.to("meta")), "layer 0 K is a meta tensor"),
    "sparse": (of(X.to_sparse()), "layer 0 K is a sparse tensor"),
    "jagged": (of(JAGGED), "layer 0 K is a nested tensor"),
    "flat": (of(X.flatten()), "layer 0 K has shape (16,), in which no axis of tokens can be told"),
    "length": (of(X, 3.0), "the valid length of layer 0 K is float and no whole number"),
}


@guards("shadow/wrapper/both.py", "            self._accept(args[-1])\n", "            pass\n")
@pytest.mark.parametrize("name", NO_ENTRIES)
def test_what_is_no_entry_is_refused_at_the_first_set_before_anything_is_counted(name: str) -> None:
    entry, said = NO_ENTRIES[name]
    one, other = Noting(), Noting()
    cache, observer = wrapped(one, other)
    with pytest.raises(TypeError, match="kv-lockstep can't compare what this host stores: ") as refused:
        cache.set_init_cache(0, 1, entry)
    assert said in str(refused.value)
    assert str(refused.value).endswith("or what shadow.register_entry was told of")
    assert "\n" not in str(refused.value)
    assert (observer.befores, observer.seen, observer.failed_steps) == ([], [], [])
    assert one.noted == other.noted == []


def test_what_is_no_entry_after_the_first_is_passed_on_and_told() -> None:
    cache, observer = wrapped(Scratch(), Scratch())
    cache.set_recur_cache(1, make_entry(1))
    observer.before = lambda *args: leaves(args[3])  # type: ignore[method-assign]  # a harness that fails there
    cache.set_recur_cache(1, {"k": 1})
    assert observer.passed == ["an object of type dict is no entry (TypeError: dict holds no tensor)"]
    assert observer.failed_steps == []
    assert cache.get_recur_cache(1) == {"k": 1}


def test_what_can_be_compared_is_accepted() -> None:
    wanting = make_entry(1)
    for layer in wanting:
        layer._k_cache._cache.requires_grad_()
    three_axes = of(torch.zeros(1, 4, 2, 2)[0])
    nests = (X, X.flatten()[0], (X, X), {"k": X, "v": [X]})
    layered = (wanting, three_axes, KeysValues.from_layers([]), of(X.expand(2, 2, 4, 2)), of(X, np.int64(2)))
    for entry in (*layered, *nests):
        cache, observer = wrapped(Noting(), Noting())
        with suppress(ValueError, TypeError):  # the manager has its own opinion of some
            cache.set_init_cache(0, 1, entry)
        assert observer.failed_steps == []
        assert observer.passed == []
        assert len(observer.seen) == 1

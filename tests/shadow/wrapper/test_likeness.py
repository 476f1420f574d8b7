"""What is no operation: the host finds on the wrapper what it would find on the primary."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest

from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.wrapper.doors.pools import ShadowCache
from tests.guards import guards
from tests.shadow.entries import assert_equal_entries, make_entry
from tests.shadow.observers import Recorder

CONFIG = {"num_simulations": 2, "max_cache_size": 4}


class Rich(LegacyKVCache):
    """A cache that can do more than the interface asks for."""

    def __init__(self) -> None:
        super().__init__(CONFIG, 2)
        self._private = 1
        self.on_evict = len  # a function, but no method

    def __len__(self) -> int:
        return len(self.recur_pool.key_to_slot)

    def __contains__(self, key: int) -> bool:
        return key in self.recur_pool.key_to_slot

    def __iter__(self) -> Any:
        return iter(self.recur_pool.key_to_slot)

    def __getitem__(self, key: int) -> Any:
        return self.get_recur_cache(key)

    def __eq__(self, other: object) -> bool:
        return other == "rich"

    __hash__ = object.__hash__

    def evict(self, n: int, *, quietly: bool = False) -> str:
        """Forget everything."""
        self.recur_pool.clear()
        return f"{n} {quietly}"


def wrapped(primary: Any = None) -> tuple[Any, Any, Recorder]:
    primary, observer = primary or Rich(), Recorder()
    return ShadowCache(primary, KVCacheManager(CONFIG, 2), observer), primary, observer


def test_attributes_are_the_primarys_to_read_and_to_set() -> None:
    cache, primary, observer = wrapped()
    assert cache.config is CONFIG
    assert cache.env_num == 2
    assert cache._private == 1
    cache.keys_values_wm_list = own = ["own"]
    cache._private = cache.brand_new = 5
    assert primary.keys_values_wm_list is own is cache.keys_values_wm_list
    assert (primary._private, primary.brand_new) == (5, 5)
    del cache.brand_new
    assert not hasattr(primary, "brand_new")
    assert not hasattr(cache, "brand_new")
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = cache.no_such_thing
    assert {"evict", "_private", "get_init_cache"} <= set(dir(cache))
    assert cache.on_evict is len
    assert cache.policy() == primary.policy()
    assert observer.unseen == []


def test_special_methods_are_those_of_the_primarys_class() -> None:
    cache, primary, _ = wrapped()
    assert len(cache) == 0
    assert not cache
    assert 1 not in cache
    cache.set_recur_cache(1, make_entry(1))
    assert len(cache) == 1
    assert cache
    assert 1 in cache
    assert list(cache) == [1]
    assert cache == "rich"
    assert cache != "poor"
    assert hash(cache) == hash(primary)
    plain, _, _ = wrapped(LegacyKVCache(CONFIG, 2))
    assert bool(plain)
    assert plain == plain
    assert plain != cache
    with pytest.raises(TypeError, match="has no len"):
        len(plain)


def test_it_is_an_instance_of_the_primarys_class_and_of_its_own() -> None:
    cache, _, _ = wrapped()
    assert isinstance(cache, LegacyKVCache)
    assert isinstance(cache, ShadowCache)
    assert not isinstance(cache, KVCacheManager)
    assert repr(cache) == "ShadowCache(control=Rich, candidate=KVCacheManager, primary=Rich)"

    class Own(ShadowCache):
        def __init__(self, first: Any, second: Any, observer: Any, *, more: int) -> None:
            super().__init__(first, second, observer)
            self.more = more

    own = Own(Rich(), KVCacheManager(CONFIG, 2), Recorder(), more=3)
    assert isinstance(own, Own)
    assert own.more == 3


@guards("shadow/wrapper/likeness.py", "                like._observer.unobserved(name)\n", "                pass\n")
def test_a_method_that_is_no_operation_goes_to_the_primary_alone_and_is_told() -> None:
    cache, _, observer = wrapped()
    cache.set_recur_cache(1, make_entry(1))
    assert cache.evict(3, quietly=True) == "3 True"
    assert cache.evict.__doc__ == "Forget everything."
    assert cache[1] is None
    assert observer.unseen == ["evict", "__getitem__"]
    assert cache.get_recur_cache(1) is None


def test_a_shallow_copy_stands_for_the_same_two_caches() -> None:
    cache, primary, observer = wrapped()
    other = copy.copy(cache)
    other.set_recur_cache(1, make_entry(1))
    assert_equal_entries(cache.get_recur_cache(1), make_entry(1))
    assert [seen.op_index for seen in observer.seen] == [0, 1]
    assert isinstance(other, Rich)
    assert other.recur_pool is primary.recur_pool


def test_operations_by_keyword_and_through_a_partial_are_operations() -> None:
    cache, _, observer = wrapped()
    set_first = partial(cache.set_init_cache, 0, kv_cache=make_entry(1))
    set_first(cache_key=7)
    assert_equal_entries(cache.get_init_cache(cache_key=7, env_id=0), make_entry(1))
    assert [(seen.env_id, seen.key) for seen in observer.seen] == [(0, 7), (0, 7)]

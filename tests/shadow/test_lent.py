"""What a get returns: lent until touched, and a copy of its own from then on."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shadow.entry import Cache, KeysValues, KVCache, leaves
from shadow.legacy import LegacyKVCache
from shadow.lent import Lent, lend, readable
from shadow.located import region
from shadow.manager import KVCacheManager
from shadow.pool import EvictionStrategy, KVCachePool
from tests.shadow.entries import assert_equal_entries, make_entry, scribble_over


def pool_of(*keys: int, size: int = 2, strategy: EvictionStrategy = EvictionStrategy.FIFO) -> KVCachePool:
    pool = KVCachePool(size, strategy)
    for key in keys:
        pool.set(key, make_entry(key))
    return pool


def got(pool: KVCachePool, key: int) -> KeysValues:
    answer = pool.get(key)
    assert answer is not None
    return answer


def addresses(entry: Any) -> set[int]:
    return {leaf.tensor.data_ptr() for leaf in leaves(readable(entry))}


# Lending


def test_a_get_copies_nothing_until_it_is_touched() -> None:
    pool = pool_of(1)
    answer = got(pool, 1)
    assert type(answer) is Lent
    assert addresses(answer) == addresses(pool.peek(1))
    assert (len(answer), answer.size, answer.nbytes) == (2, 3, make_entry(1).nbytes)
    assert type(answer) is Lent
    answer[0]
    assert type(answer) is KeysValues
    assert addresses(answer).isdisjoint(addresses(pool.peek(1)))
    assert_equal_entries(answer, make_entry(1))


def test_the_same_untouched_object_is_handed_out_again_once_nobody_has_it() -> None:
    pool = pool_of(1)
    first = id(got(pool, 1))
    assert id(got(pool, 1)) == first
    held = got(pool, 1)
    other = got(pool, 1)
    assert held is not other
    scribble_over(held)
    assert_equal_entries(other, make_entry(1))
    assert_equal_entries(pool.get(1), make_entry(1))


def test_a_touched_and_dropped_answer_is_never_handed_out_again() -> None:
    pool = pool_of(1)
    scribble_over(got(pool, 1))
    assert_equal_entries(pool.get(1), make_entry(1))


CHANGES: dict[str, Callable[[KVCachePool], object]] = {
    "rewritten": lambda pool: pool.set(1, make_entry(5)),
    "evicted": lambda pool: [pool.set(key, make_entry(key)) for key in (5, 6, 7)],
    "cleared and reused": lambda pool: (pool.clear(), [pool.set(key, make_entry(key)) for key in (5, 6, 7)]),
    "rewritten in another shape": lambda pool: pool.set(1, make_entry(5, batch=3)),
    "rewritten unevenly": lambda pool: pool.set(1, _uneven(5)),
}


def _uneven(number: float) -> KeysValues:
    entry = make_entry(number)
    entry[0]._v_cache._size = 2
    return entry


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("strategy", EvictionStrategy)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_held_answer_stays_what_it_was_when_its_slot_is(
    change: Callable[[KVCachePool], object], strategy: EvictionStrategy, touched: bool
) -> None:
    pool = pool_of(1, 2, strategy=strategy)
    one, other = got(pool, 1), got(pool, 1)
    if touched:
        one[0]
    change(pool)
    change(pool)
    assert_equal_entries(other, make_entry(1))
    assert_equal_entries(one, make_entry(1))
    assert addresses(one).isdisjoint(slots(pool))


def slots(pool: KVCachePool) -> set[int]:
    return {address for slot in pool._slots if slot is not None for address in addresses(slot)}


def test_a_slot_that_is_lent_out_is_replaced_and_one_that_is_not_is_reused() -> None:
    pool = pool_of(1)
    before = slots(pool)
    pool.get(1)
    pool.set(1, make_entry(2))
    assert slots(pool) == before
    held = got(pool, 1)
    pool.set(1, make_entry(3))
    assert slots(pool).isdisjoint(before)
    held[0]
    after = slots(pool)
    pool.set(1, make_entry(4))
    assert slots(pool) == after
    assert_equal_entries(held, make_entry(2))


def test_what_was_lent_out_is_freed_with_the_last_holder() -> None:
    pool = pool_of(1)
    held = got(pool, 1)
    pool.set(1, make_entry(2))
    watch = weakref.ref(readable(held))
    gc.disable()
    try:
        del held
        assert watch() is None  # at once, and not when the collector of cycles comes by
    finally:
        gc.enable()


def test_an_answer_stored_back_under_its_own_key_keeps_its_values() -> None:
    pool = pool_of(1)
    answer = got(pool, 1)
    pool.set(1, answer)
    pool.set(2, answer)
    assert type(answer) is Lent
    assert_equal_entries(pool.get(1), make_entry(1))
    assert_equal_entries(pool.get(2), make_entry(1))


# Touching


@pytest.mark.parametrize(
    "touch",
    [
        lambda entry: entry.reset(),
        lambda entry: entry.prune(np.array([True])),
        lambda entry: [layer.update(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2)) for layer in entry],
        lambda entry: entry.remove_register_tokens(1),
        lambda entry: entry._keys_values[0]._k_cache._cache.fill_(9.0),
        lambda entry: setattr(entry[0]._k_cache, "_cache", torch.zeros(1, 2, 4, 2)),
        lambda entry: setattr(entry[1]._v_cache, "_size", 1),
        lambda entry: setattr(entry, "_keys_values", make_entry(9)._keys_values),
        lambda entry: entry.copy_from(leaves(make_entry(9))),
        lambda entry: [leaf.tensor.zero_() for leaf in leaves(entry)],
    ],
    ids=["reset", "prune", "update", "register", "raw", "tensor", "size", "layers", "copy_from", "leaves"],
)
def test_whatever_a_holder_does_reaches_neither_the_store_nor_other_holders(touch: Callable[[Any], object]) -> None:
    pool = pool_of(1)
    mine, other = got(pool, 1), got(pool, 1)
    touch(mine)
    assert type(mine) is KeysValues
    assert_equal_entries(pool.peek(1), make_entry(1))
    assert_equal_entries(other, make_entry(1))
    assert_equal_entries(pool.get(1), make_entry(1))


@pytest.mark.parametrize(
    "copied",
    [lambda e: e.clone(), copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))],
    ids=["clone", "deepcopy", "pickle"],
)
def test_copies_of_a_lent_entry_are_plain_and_independent(copied: Callable[[Any], Any]) -> None:
    pool = pool_of(1)
    answer = got(pool, 1)
    twin = copied(answer)
    assert type(twin) is KeysValues
    scribble_over(twin)
    assert_equal_entries(answer, make_entry(1))
    assert_equal_entries(pool.peek(1), make_entry(1))


def test_cloning_leaves_the_answer_lent_and_copies_once() -> None:
    pool = pool_of(1)
    answer = got(pool, 1)
    assert_equal_entries(answer.clone(), make_entry(1))
    assert type(answer) is Lent


def test_an_unknown_attribute_is_an_attribute_error_and_touches_nothing() -> None:
    answer = got(pool_of(1), 1)
    with pytest.raises(AttributeError, match="nonsense"):
        answer.nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert type(answer) is Lent


def test_a_deep_copied_pool_lends_its_own_slots() -> None:
    pool = pool_of(1)
    held = got(pool, 1)
    twin = copy.deepcopy(pool)
    twin.set(1, make_entry(7))
    assert_equal_entries(twin.get(1), make_entry(7))
    assert type(held) is Lent
    assert_equal_entries(held, make_entry(1))
    assert slots(twin).isdisjoint(slots(pool))


def test_reading_as_the_harness_does_leaves_an_answer_lent() -> None:
    answer = got(pool_of(1), 1)
    assert [leaf.size for leaf in leaves(readable(answer))] == [3, 3, 3, 3]
    assert region(answer) is not None
    assert type(answer) is Lent


def test_the_legacy_store_and_another_manager_take_a_lent_entry_without_touching_it() -> None:
    answer = got(pool_of(1), 1)
    legacy, manager = LegacyKVCache({"num_simulations": 2}, 1), KVCacheManager({"num_simulations": 2}, 1)
    for cache in (legacy, manager):
        cache.set_recur_cache(1, answer)
        assert_equal_entries(cache.peek("recur", None, 1), make_entry(1))
    assert type(answer) is Lent


def test_threads_that_touch_one_answer_end_with_the_same_copy() -> None:
    for _ in range(50):
        answer = lend(make_entry(1))
        gate = threading.Barrier(4)
        seen: list[Any] = []

        def read(answer: Any = answer, gate: Any = gate, seen: list[Any] = seen) -> None:
            gate.wait()
            seen.append(answer._keys_values)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(layers is seen[0] for layers in seen)


def test_an_answer_held_by_another_thread_is_not_handed_out_twice() -> None:
    pool = pool_of(1)
    held: list[Any] = []
    thread = threading.Thread(target=lambda: held.append(pool.get(1)))
    thread.start()
    thread.join()
    mine = got(pool, 1)
    scribble_over(mine)
    pool.set(1, make_entry(2))
    assert_equal_entries(held[0], make_entry(1))


@pytest.mark.parametrize("sizes", [(162, 162), (162, 80), (8, 0)])
@pytest.mark.parametrize("apart", [False, True])
def test_large_entries_are_taken_by_their_valid_rows(sizes: tuple[int, int], apart: bool) -> None:
    tokens, size = sizes
    source = make_entry(1, size=size, max_tokens=tokens, heads=4, head_dim=64, layers=4)
    if not apart:
        source = source.clone()
    pool = KVCachePool(1)
    for _ in range(2):
        pool.set(1, source)
        assert_equal_entries(pool.get(1), source)


def test_layers_of_one_cache_each_are_copied_as_they_are() -> None:
    entry = KeysValues.from_layers([KVCache.over(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))])
    entry[0]._k_cache._size = entry[0]._v_cache._size = 2
    assert isinstance(entry[0]._k_cache, Cache)
    pool = KVCachePool(1)
    pool.set(1, entry)
    entry[0]._k_cache._cache.zero_()
    assert float(got(pool, 1)[0]._k_cache._cache.sum()) == 4.0

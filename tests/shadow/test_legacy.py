"""The legacy ring: the shared contract, and each quirk exactly as the table in its module says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shadow.entry import leaves
from shadow.interface import CacheCapacities
from shadow.legacy import LegacyKVCache, RingPool
from shadow.manager import KVCacheManager
from shadow.pool import KVCachePool
from tests.shadow.cache_contract import CAPACITY, CONFIG, ENVS, CacheContract
from tests.shadow.entries import assert_equal_entries, make_entry


class TestLegacyContract(CacheContract):
    def make(self, config: Any, env_num: int) -> LegacyKVCache:
        return LegacyKVCache(config, env_num)


def play(pool: RingPool | KVCachePool, program: str) -> list[int]:
    """Set each letter as a key, numbered in order; ``|`` clears. Return the slots taken."""
    slots = []
    for number, letter in enumerate(program.replace(" ", "")):
        if letter == "|":
            pool.clear()
        else:
            slots.append(pool.set(ord(letter), make_entry(number)))
    return slots


def answers(pool: RingPool | KVCachePool, letters: str) -> dict[str, str]:
    return {letter: "miss" if pool.get(ord(letter)) is None else "hit" for letter in letters}


QUIRKS = [
    ("L1", 2, "A A B", {"A": "miss", "B": "hit"}, {"A": "hit", "B": "hit"}),
    ("L2", 2, "A B A C", {"A": "hit", "B": "miss", "C": "hit"}, {"A": "miss", "B": "hit", "C": "hit"}),
    ("L3", 3, "A B B C", {"A": "miss", "B": "hit", "C": "hit"}, {"A": "hit", "B": "hit", "C": "hit"}),
    ("L4 one", 2, "A | A B", {"A": "miss", "B": "hit"}, {"A": "hit", "B": "hit"}),
    ("L4 two", 2, "A B | B C", {"B": "miss", "C": "hit"}, {"B": "hit", "C": "hit"}),
]
QUIRK_IDS = [row[0] for row in QUIRKS]


@pytest.mark.parametrize(("capacity", "program", "legacy"), [row[1:4] for row in QUIRKS], ids=QUIRK_IDS)
def test_quirk_is_kept(capacity: int, program: str, legacy: dict[str, str]) -> None:
    pool = RingPool(capacity)
    play(pool, program)
    assert answers(pool, "".join(legacy)) == legacy


@pytest.mark.parametrize(("capacity", "program", "right"), [(*row[1:3], row[4]) for row in QUIRKS], ids=QUIRK_IDS)
def test_the_new_pool_has_none_of_the_quirks(capacity: int, program: str, right: dict[str, str]) -> None:
    pool = KVCachePool(capacity)
    play(pool, program)
    assert answers(pool, "".join(right)) == right


@pytest.mark.parametrize(("capacity", "program"), [row[1:3] for row in QUIRKS], ids=QUIRK_IDS)
def test_a_quirk_never_answers_a_wrong_value(capacity: int, program: str) -> None:
    pool = RingPool(capacity)
    play(pool, program)
    newest = {letter: number for number, letter in enumerate(program.replace(" ", "")) if letter != "|"}
    for key in pool.live_keys():
        assert_equal_entries(pool.get(key), make_entry(newest[chr(key)]))


@pytest.mark.parametrize("make", [LegacyKVCache, KVCacheManager])
@pytest.mark.parametrize("pool", ["init", "recur", "wm"])
def test_quirk_l1_shows_in_every_pool_of_the_legacy_cache_only(make: Any, pool: str) -> None:
    cache = make({"max_cache_size": 2, "num_simulations": 1}, env_num=2)
    where = (0,) if pool == "init" else ()
    for number, key in enumerate((1, 1, 2)):
        getattr(cache, f"set_{pool}_cache")(*where, key, make_entry(number))
    answer = getattr(cache, f"get_{pool}_cache")(*where, 1)
    assert (answer is None) == (make is LegacyKVCache)


def test_a_set_always_takes_the_next_slot_also_for_a_key_that_is_there() -> None:
    assert play(RingPool(3), "A A B A C") == [0, 1, 2, 0, 1]


def test_clear_keeps_reverse_map_write_index_and_slots() -> None:
    pool = RingPool(3)
    play(pool, "A B")
    slots = list(pool.slots)
    pool.clear()
    assert len(pool) == 0
    assert pool.slot_to_key == [ord("A"), ord("B"), None]
    assert pool.write_index == 2
    assert all(before is after for before, after in zip(slots, pool.slots, strict=True))
    assert play(pool, "C D") == [2, 0]
    assert pool.slots[0] is slots[0]


def test_get_answers_the_live_slot_itself() -> None:
    pool = RingPool(2)
    play(pool, "A")
    held = pool.get(ord("A"))
    assert held is pool.slots[0]
    assert held is pool.get(ord("A"))


def test_a_held_answer_changes_when_the_ring_comes_round() -> None:
    pool = RingPool(2)
    play(pool, "A")
    held = pool.get(ord("A"))
    pool.set(ord("B"), make_entry(21))
    pool.set(ord("C"), make_entry(22))
    assert_equal_entries(held, make_entry(22))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_slot_has_the_default_dtype_whatever_the_source_has(dtype: torch.dtype) -> None:
    pool = RingPool(1)
    pool.set(1, make_entry(1, dtype=dtype))
    assert {leaf.tensor.dtype for leaf in leaves(pool.get(1))} == {torch.float32}
    pool.set(1, make_entry(2, dtype=dtype))
    assert {leaf.tensor.dtype for leaf in leaves(pool.get(1))} == {torch.float32}
    assert pool.get(1)[0]._k_cache._cache[0, 0, 0, 0] == make_entry(2, dtype=dtype)[0]._k_cache._cache[0, 0, 0, 0]


def test_a_slot_keeps_the_dtype_that_was_default_when_it_was_made() -> None:
    pool = RingPool(1)
    torch.set_default_dtype(torch.float64)
    try:
        pool.set(1, make_entry(1))
    finally:
        torch.set_default_dtype(torch.float32)
    pool.set(1, make_entry(2))
    assert {leaf.tensor.dtype for leaf in leaves(pool.get(1))} == {torch.float64}


def test_a_slot_keeps_its_batch_size_so_a_smaller_entry_is_broadcast() -> None:
    pool = RingPool(1)
    pool.set(1, make_entry(1, batch=2))
    pool.set(2, make_entry(2, batch=1))
    keys, _ = pool.get(2)[0].get()
    expected, _ = make_entry(2, batch=1)[0].get()
    assert keys.shape[0] == 2
    assert torch.equal(keys, expected.expand(2, -1, -1, -1))


def test_a_slot_refuses_a_greater_batch() -> None:
    pool = RingPool(1)
    pool.set(1, make_entry(1, batch=1))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        pool.set(2, make_entry(2, batch=2))


def test_env_minus_one_answers_the_last_env() -> None:
    cache = LegacyKVCache(CONFIG, env_num=3)
    cache.set_init_cache(2, 1, make_entry(1))
    assert cache.get_init_cache(-1, 1) is cache.get_init_cache(2, 1)
    assert cache.hierarchical_get(-1, 1) is cache.get_init_cache(2, 1)
    cache.set_init_cache(-1, 2, make_entry(2))
    assert_equal_entries(cache.get_init_cache(2, 2), make_entry(2))


def test_an_env_beyond_the_last_is_an_index_error() -> None:
    cache = LegacyKVCache(CONFIG, env_num=3)
    with pytest.raises(IndexError):
        cache.get_init_cache(3, 1)


FIELDS = {"game_segment_length": 20, "max_cache_size": 5000, "num_simulations": 25}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cache_capacity_rule": "2025-10"}, CacheCapacities(init=20, recur=200, wm=8)),
        ({"cache_capacity_rule": "2026-08"}, CacheCapacities(init=256, recur=200, wm=8)),
        ({}, CacheCapacities(init=256, recur=200, wm=8)),
        ({"num_simulations": 128}, CacheCapacities(init=256, recur=1024, wm=8)),
        ({"num_simulations": 129}, CacheCapacities(init=258, recur=1032, wm=8)),
        ({"num_simulations": 3000}, CacheCapacities(init=5000, recur=24000, wm=8)),
        ({"max_cache_size": 100}, CacheCapacities(init=100, recur=200, wm=8)),
    ],
)
def test_capacities_of_both_rules_come_from_the_same_fields(changes: dict[str, Any], expected: CacheCapacities) -> None:
    cache = LegacyKVCache({**FIELDS, **changes}, env_num=8)
    assert cache.capacities == expected
    assert {pool.capacity for pool in cache.init_pools} == {expected.init}
    assert (len(cache.init_pools), cache.recur_pool.capacity, cache.wm_pool.capacity) == (
        8,
        expected.recur,
        expected.wm,
    )


def test_num_simulations_is_50_where_the_config_lacks_it() -> None:
    assert LegacyKVCache({}, env_num=2).capacities == CacheCapacities(init=256, recur=100, wm=2)


def test_the_policy_promises_no_more_than_the_ring() -> None:
    policy = LegacyKVCache(CONFIG, ENVS).policy()
    assert policy.kind == "legacy_ring"
    assert policy.capacities == CacheCapacities(**CAPACITY)


def test_live_keys_and_peek_show_what_is_held_without_counting_a_lookup() -> None:
    cache = LegacyKVCache(CONFIG, ENVS)
    cache.set_init_cache(1, 1, make_entry(1))
    cache.set_recur_cache(2, make_entry(2))
    cache.set_wm_cache(3, make_entry(3))
    places = [("init", 0), ("init", 1), ("recur", None), ("wm", None)]
    assert [cache.live_keys(*place) for place in places] == [[], [1], [2], [3]]
    assert cache.peek("init", 0, 1) is None
    for place, key in zip(places[1:], (1, 2, 3), strict=True):
        assert_equal_entries(cache.peek(*place, key), make_entry(key))
    assert cache.get_stats_summary()["recur_pool"]["total_queries"] == 0
    assert cache.peek("recur", None, 2) is cache.get_recur_cache(2)


def test_nbytes_counts_the_slots_allocated_so_far() -> None:
    cache = LegacyKVCache(CONFIG, ENVS)
    assert cache.nbytes == 0
    cache.set_recur_cache(1, make_entry(1))
    cache.set_recur_cache(1, make_entry(1))
    assert cache.nbytes == 2 * make_entry(1).nbytes


def test_without_statistics_the_summary_says_so() -> None:
    assert LegacyKVCache(CONFIG, ENVS, enable_stats=False).get_stats_summary() == {"stats_enabled": False}

"""What every cache behind the shared interface must do, whatever its kind.

A test file applies it with a few lines, and adds only what is that cache's own::

    class TestMyCache(CacheContract):
        def make(self, config, env_num):
            return MyCache(config, env_num)

The contract holds for a correct bounded map and for the legacy ring alike, so keys are distinct wherever eviction is
concerned, and an answer is looked at before the next operation: the legacy store hands out its live slots.
"""

from __future__ import annotations

import copy
import json
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from shadow.entry import leaves
from shadow.interface import CacheStore
from tests.shadow.entries import assert_equal_entries, make_entry, scribble_over, snapshot

ENVS = 2
CONFIG = {"num_simulations": 3, "max_cache_size": 4}
CAPACITY = {"init": 4, "recur": 6, "wm": 2}
POOLS = tuple(CAPACITY)


class CacheContract:
    """Mixin; a test class that derives from it gives ``make``."""

    def make(self, config: Any, env_num: int) -> Any:
        """Build the cache under test."""
        raise NotImplementedError

    @pytest.fixture
    def cache(self) -> Any:
        return self.make(dict(CONFIG), ENVS)

    # What is stored is what comes back

    def test_offers_the_whole_interface(self, cache: Any) -> None:
        assert isinstance(cache, CacheStore)

    @pytest.mark.parametrize("pool", POOLS)
    def test_get_of_an_unknown_key_answers_none(self, cache: Any, pool: str) -> None:
        assert getter(cache, pool)(1) is None

    @pytest.mark.parametrize("pool", POOLS)
    def test_get_after_set_answers_equal_values(self, cache: Any, pool: str) -> None:
        setter(cache, pool)(1, make_entry(1))
        assert_equal_entries(getter(cache, pool)(1), make_entry(1))

    @pytest.mark.parametrize("size", [0, 1, 4])
    def test_every_valid_length_comes_back(self, cache: Any, size: int) -> None:
        cache.set_recur_cache(1, make_entry(1, size=size))
        assert_equal_entries(cache.get_recur_cache(1), make_entry(1, size=size))

    def test_a_longer_entry_in_a_reused_slot_comes_back_whole_and_so_does_a_shorter_one(self, cache: Any) -> None:
        for number, size in ((1, 1), (2, 1), (3, 4), (4, 4), (5, 2), (6, 0)):
            cache.set_wm_cache(number, make_entry(number, size=size))
            assert_equal_entries(cache.get_wm_cache(number), make_entry(number, size=size))

    def test_lengths_of_k_and_v_and_of_each_layer_come_back_as_they_were(self, cache: Any) -> None:
        odd = make_entry(1, size=3)
        odd[0]._v_cache._size = 2
        odd[1]._k_cache._size = 1
        cache.set_recur_cache(1, odd)
        assert [leaf.size for leaf in leaves(cache.get_recur_cache(1))] == [3, 2, 1, 3]
        assert_equal_entries(cache.get_recur_cache(1), odd)

    def test_nan_infinity_and_negative_zero_come_back_bit_by_bit(self, cache: Any) -> None:
        special = make_entry(1)
        special[0]._k_cache._cache[0, 0, 0] = torch.tensor([float("nan"), float("-inf")])
        special[1]._v_cache._cache[0, 1, 1] = torch.tensor([-0.0, 1e-45])
        cache.set_recur_cache(1, special)
        assert_equal_entries(cache.get_recur_cache(1), special)

    @pytest.mark.parametrize("pool", POOLS)
    def test_set_again_answers_the_newer_value(self, cache: Any, pool: str) -> None:
        setter(cache, pool)(1, make_entry(1, size=4))
        setter(cache, pool)(1, make_entry(2, size=2))
        assert_equal_entries(getter(cache, pool)(1), make_entry(2, size=2))

    @pytest.mark.parametrize("key", [0, -1, 2**63 - 1, -(2**63), 2**64 - 1])
    def test_any_64_bit_key_can_be_stored(self, cache: Any, key: int) -> None:
        cache.set_init_cache(0, key, make_entry(1))
        cache.set_recur_cache(key, make_entry(2))
        assert_equal_entries(cache.get_init_cache(0, key), make_entry(1))
        assert_equal_entries(cache.get_recur_cache(key), make_entry(2))

    def test_arguments_may_be_named_as_in_the_interface(self, cache: Any) -> None:
        cache.set_init_cache(env_id=1, cache_key=5, kv_cache=make_entry(1))
        cache.set_recur_cache(cache_key=6, kv_cache=make_entry(2))
        cache.set_wm_cache(cache_key=7, kv_cache=make_entry(3))
        assert_equal_entries(cache.get_init_cache(env_id=1, cache_key=5), make_entry(1))
        assert_equal_entries(cache.get_recur_cache(cache_key=6), make_entry(2))
        assert_equal_entries(cache.get_wm_cache(cache_key=7), make_entry(3))
        assert_equal_entries(cache.hierarchical_get(env_id=1, cache_key=5), make_entry(1))

    # Copies

    @pytest.mark.parametrize("pool", POOLS)
    def test_set_copies_so_changing_the_input_later_changes_nothing(self, cache: Any, pool: str) -> None:
        source = make_entry(1)
        setter(cache, pool)(1, source)
        scribble_over(source)
        source.reset()
        assert_equal_entries(getter(cache, pool)(1), make_entry(1))

    @pytest.mark.parametrize("pool", POOLS)
    def test_one_object_stored_under_two_keys_as_it_grows_keeps_both_states(self, cache: Any, pool: str) -> None:
        grown = make_entry(1, size=1)
        setter(cache, pool)(1, grown)
        first = snapshot(grown)
        for layer in grown:
            layer.update(torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), 2.0))
        setter(cache, pool)(2, grown)
        assert_equal_entries(getter(cache, pool)(1), first)
        assert_equal_entries(getter(cache, pool)(2), grown)

    def test_set_and_get_leave_the_input_as_it_was(self, cache: Any) -> None:
        source = make_entry(1)
        cache.set_recur_cache(1, source)
        cache.get_recur_cache(1)
        assert_equal_entries(source, make_entry(1))

    # Isolation

    def test_init_entries_of_one_env_are_invisible_to_the_others(self, cache: Any) -> None:
        cache.set_init_cache(0, 1, make_entry(1))
        assert cache.get_init_cache(1, 1) is None
        assert cache.hierarchical_get(1, 1) is None

    def test_the_same_key_holds_another_value_in_each_env_and_pool(self, cache: Any) -> None:
        places = [("init", 0), ("init", 1), ("recur", 0), ("wm", 0)]
        for number, (pool, env_id) in enumerate(places):
            setter(cache, pool, env_id)(1, make_entry(number))
        for number, (pool, env_id) in enumerate(places):
            assert_equal_entries(getter(cache, pool, env_id)(1), make_entry(number))

    def test_filling_one_env_evicts_nothing_elsewhere(self, cache: Any) -> None:
        cache.set_init_cache(1, 100, make_entry(100))
        cache.set_recur_cache(101, make_entry(101))
        for key in range(3 * CAPACITY["init"]):
            cache.set_init_cache(0, key, make_entry(key))
        assert_equal_entries(cache.get_init_cache(1, 100), make_entry(100))
        assert_equal_entries(cache.get_recur_cache(101), make_entry(101))

    def test_two_caches_of_one_config_share_nothing(self) -> None:
        config = dict(CONFIG)
        one, other = self.make(config, ENVS), self.make(config, ENVS)
        one.set_recur_cache(1, make_entry(1))
        one.keys_values_wm_list.append("mine")
        assert other.get_recur_cache(1) is None
        assert other.keys_values_wm_list == []

    def test_building_a_cache_never_writes_to_its_config(self) -> None:
        config = dict(CONFIG)
        self.make(config, ENVS).set_recur_cache(1, make_entry(1))
        assert config == CONFIG

    def test_a_deep_copy_goes_its_own_way(self, cache: Any) -> None:
        # A policy deep-copies its model, cache included, for the target network.
        cache.set_recur_cache(1, make_entry(1))
        twin = copy.deepcopy(cache)
        twin.set_recur_cache(1, make_entry(2))
        twin.set_init_cache(0, 3, make_entry(3))
        assert_equal_entries(cache.get_recur_cache(1), make_entry(1))
        assert_equal_entries(twin.get_recur_cache(1), make_entry(2))
        assert cache.get_init_cache(0, 3) is None

    # Hierarchical lookups

    def test_hierarchical_get_prefers_the_init_pool(self, cache: Any) -> None:
        cache.set_init_cache(0, 1, make_entry(1))
        cache.set_recur_cache(1, make_entry(2))
        assert_equal_entries(cache.hierarchical_get(0, 1), make_entry(1))

    def test_hierarchical_get_falls_back_to_the_recur_pool(self, cache: Any) -> None:
        cache.set_init_cache(0, 1, make_entry(1))
        cache.set_recur_cache(2, make_entry(2))
        assert_equal_entries(cache.hierarchical_get(0, 2), make_entry(2))
        assert_equal_entries(cache.hierarchical_get(1, 2), make_entry(2))

    def test_hierarchical_get_never_looks_into_the_wm_pool(self, cache: Any) -> None:
        cache.set_wm_cache(1, make_entry(1))
        assert cache.hierarchical_get(0, 1) is None

    def test_hierarchical_get_of_an_unknown_key_answers_none(self, cache: Any) -> None:
        assert cache.hierarchical_get(0, 1) is None

    # Clears

    @pytest.mark.parametrize(
        ("clear", "gone"),
        [
            (lambda cache: cache.clear_all(), {"init 0", "init 1", "recur 0", "wm 0"}),
            (lambda cache: cache.clear_init_caches(), {"init 0", "init 1"}),
            (lambda cache: cache.clear_init_cache(0), {"init 0"}),
            (lambda cache: cache.clear_init_cache(1), {"init 1"}),
            (lambda cache: cache.clear_init_cache(env_id=1), {"init 1"}),
            (lambda cache: cache.clear_recur_cache(), {"recur 0"}),
        ],
        ids=["all", "init", "init_env_0", "init_env_1", "init_env_by_name", "recur"],
    )
    def test_a_clear_forgets_exactly_its_own(self, cache: Any, clear: Callable[[Any], None], gone: set[str]) -> None:
        places = {
            f"{pool} {env_id}": (pool, env_id) for pool, env_id in (("init", 0), ("init", 1), ("recur", 0), ("wm", 0))
        }
        for number, (pool, env_id) in enumerate(places.values()):
            setter(cache, pool, env_id)(7, make_entry(number))
        clear(cache)
        missing = {name for name, (pool, env_id) in places.items() if getter(cache, pool, env_id)(7) is None}
        assert missing == gone
        for number, (name, (pool, env_id)) in enumerate(places.items()):
            if name not in gone:
                assert_equal_entries(getter(cache, pool, env_id)(7), make_entry(number))

    def test_clearing_an_empty_cache_is_allowed(self, cache: Any) -> None:
        cache.clear_recur_cache()
        cache.clear_init_cache(0)
        cache.clear_init_caches()
        cache.clear_all()
        assert cache.hierarchical_get(0, 1) is None

    def test_after_a_clear_new_entries_are_stored_as_before(self, cache: Any) -> None:
        for round_ in range(3):
            keys = range(100 * round_, 100 * round_ + CAPACITY["recur"])
            for key in keys:
                cache.set_recur_cache(key, make_entry(key))
            for key in keys:
                assert_equal_entries(cache.get_recur_cache(key), make_entry(key))
            cache.clear_recur_cache()

    # Capacity and eviction

    @pytest.mark.parametrize("pool", POOLS)
    def test_a_pool_holds_as_many_entries_as_the_config_says(self, cache: Any, pool: str) -> None:
        for key in range(CAPACITY[pool]):
            setter(cache, pool)(key, make_entry(key))
        for key in range(CAPACITY[pool]):
            assert_equal_entries(getter(cache, pool)(key), make_entry(key))

    @pytest.mark.parametrize("pool", POOLS)
    def test_of_distinct_keys_the_oldest_gives_way(self, cache: Any, pool: str) -> None:
        capacity = CAPACITY[pool]
        for key in range(3 * capacity):
            setter(cache, pool)(key, make_entry(key))
            held = [old for old in range(key + 1) if getter(cache, pool)(old) is not None]
            assert held == list(range(max(0, key + 1 - capacity), key + 1))

    @pytest.mark.parametrize("pool", POOLS)
    def test_set_returns_the_slot_number(self, cache: Any, pool: str) -> None:
        capacity = CAPACITY[pool]
        slots = [setter(cache, pool)(key, make_entry(key)) for key in range(2 * capacity)]
        assert all(isinstance(slot, int) for slot in slots)
        assert sorted(slots[:capacity]) == list(range(capacity))
        assert slots[capacity:] == slots[:capacity], "the slot of the oldest entry is taken, one after the other"

    @pytest.mark.parametrize("seed", range(4))
    def test_with_distinct_keys_it_is_a_bounded_map(self, seed: int) -> None:
        cache = self.make(dict(CONFIG), ENVS)
        choose = random.Random(seed)
        held: OrderedDict[int, int] = OrderedDict()
        fresh = 0
        for _ in range(300):
            action = choose.choice(["set"] * 6 + ["get"] * 8 + ["clear"])
            if action == "set":
                cache.set_recur_cache(fresh, make_entry(fresh, layers=1))
                held[fresh] = fresh
                if len(held) > CAPACITY["recur"]:
                    held.popitem(last=False)
                fresh += 1
            elif action == "clear":
                cache.clear_recur_cache()
                held.clear()
            else:
                key = choose.randrange(max(0, fresh - 2 * CAPACITY["recur"]), fresh + 1)
                answer = cache.get_recur_cache(key)
                if key in held:
                    assert_equal_entries(answer, make_entry(held[key], layers=1))
                else:
                    assert answer is None

    # Statistics

    def test_hit_rate_without_queries_is_zero(self, cache: Any) -> None:
        for pool in pool_summaries(cache.get_stats_summary()).values():
            assert (pool["hits"], pool["misses"], pool["total_queries"]) == (0, 0, 0)
            assert (pool["hit_rate"], pool["miss_rate"]) == (0.0, 0.0)

    def test_summary_counts_every_lookup_where_it_was_made(self, cache: Any) -> None:
        cache.set_init_cache(0, 1, make_entry(1))
        cache.get_init_cache(0, 1)
        cache.get_init_cache(0, 1)
        cache.get_init_cache(0, 2)
        cache.get_init_cache(1, 1)
        cache.get_recur_cache(1)
        cache.set_wm_cache(1, make_entry(1))
        cache.get_wm_cache(1)
        counted = {
            name: (pool["hits"], pool["misses"], pool["total_queries"])
            for name, pool in pool_summaries(cache.get_stats_summary()).items()
        }
        assert counted == {"env_0": (2, 1, 3), "env_1": (0, 1, 1), "recur": (0, 1, 1), "wm": (1, 0, 1)}
        assert cache.get_stats_summary()["init_pools"]["env_0"]["hit_rate"] == pytest.approx(2 / 3)
        assert cache.get_stats_summary()["init_pools"]["env_0"]["miss_rate"] == pytest.approx(1 / 3)

    def test_one_hierarchical_lookup_is_counted_once(self, cache: Any) -> None:
        cache.set_init_cache(0, 1, make_entry(1))
        cache.set_recur_cache(2, make_entry(2))
        for key, hits, misses in ((1, 1, 0), (2, 2, 0), (3, 2, 1)):
            cache.hierarchical_get(0, key)
            pools = pool_summaries(cache.get_stats_summary()).values()
            assert (sum(pool["hits"] for pool in pools), sum(pool["misses"] for pool in pools)) == (hits, misses)

    def test_summary_counts_evictions_entries_and_sizes(self, cache: Any) -> None:
        for key in range(CAPACITY["recur"] + 2):
            cache.set_recur_cache(key, make_entry(key))
        recur = cache.get_stats_summary()["recur_pool"]
        assert (recur["evictions"], recur["entries"], recur["pool_size"]) == (2, CAPACITY["recur"], CAPACITY["recur"])

    def test_a_clear_is_no_eviction_and_keeps_the_counts(self, cache: Any) -> None:
        cache.set_recur_cache(1, make_entry(1))
        cache.get_recur_cache(1)
        cache.clear_recur_cache()
        cache.clear_all()
        recur = cache.get_stats_summary()["recur_pool"]
        assert (recur["hits"], recur["evictions"], recur["entries"]) == (1, 0, 0)

    def test_reset_stats_starts_anew_and_forgets_no_entry(self, cache: Any) -> None:
        for key in range(CAPACITY["recur"] + 1):
            cache.set_recur_cache(key, make_entry(key))
        cache.get_recur_cache(1)
        cache.hierarchical_get(0, 99)
        cache.reset_stats()
        for pool in pool_summaries(cache.get_stats_summary()).values():
            assert (pool["hits"], pool["misses"], pool["evictions"]) == (0, 0, 0)
        assert_equal_entries(cache.get_recur_cache(1), make_entry(1))

    def test_summary_holds_numbers_that_json_takes(self, cache: Any) -> None:
        cache.set_recur_cache(1, make_entry(1))
        cache.get_recur_cache(1)
        summary = cache.get_stats_summary()
        assert summary["stats_enabled"] is True
        for pool in pool_summaries(summary).values():
            assert {name: type(value) for name, value in pool.items() if not isinstance(value, (int, float))} == {}
        assert json.loads(json.dumps(summary)) == summary

    # Scratch lists of the world model

    def test_scratch_lists_start_empty(self, cache: Any) -> None:
        assert cache.keys_values_wm_list == []
        assert cache.keys_values_wm_size_list == []

    def test_clear_all_empties_the_scratch_lists_in_place(self, cache: Any) -> None:
        alias, sizes = cache.keys_values_wm_list, cache.keys_values_wm_size_list
        alias.append(make_entry(1))
        sizes.append(3)
        cache.clear_all()
        assert (alias, sizes) == ([], [])
        assert cache.keys_values_wm_list is alias
        assert cache.keys_values_wm_size_list is sizes

    @pytest.mark.parametrize("clear", ["clear_recur_cache", "clear_init_caches"])
    def test_smaller_clears_leave_the_scratch_lists_alone(self, cache: Any, clear: str) -> None:
        cache.keys_values_wm_list.append("kept")
        cache.keys_values_wm_size_list.append(3)
        getattr(cache, clear)()
        assert (cache.keys_values_wm_list, cache.keys_values_wm_size_list) == (["kept"], [3])

    # Modes of torch

    def test_it_works_across_inference_mode_and_back(self, cache: Any) -> None:
        with torch.inference_mode():
            cache.set_wm_cache(1, make_entry(1))
            cache.set_wm_cache(2, make_entry(2))
            assert_equal_entries(cache.get_wm_cache(1), make_entry(1))
        cache.set_wm_cache(3, make_entry(3))
        cache.set_wm_cache(4, make_entry(4))
        assert_equal_entries(cache.get_wm_cache(3), make_entry(3))
        assert_equal_entries(cache.get_wm_cache(4), make_entry(4))

    def test_stored_values_carry_no_autograd_history(self, cache: Any) -> None:
        weights = torch.ones(1, 2, 4, 2, requires_grad=True)
        source = make_entry(1, layers=1)
        source[0]._k_cache._cache = weights * 2
        source[0]._v_cache._cache = weights * 3
        for key in (1, 2, 1):
            cache.set_wm_cache(key, source)
        for leaf in leaves(cache.get_wm_cache(1)):
            assert (leaf.tensor.requires_grad, leaf.tensor.grad_fn) == (False, None)

    def test_no_random_number_is_drawn(self, cache: Any) -> None:
        torch_before, python_before = torch.random.get_rng_state(), random.getstate()
        for key in range(10):
            cache.set_recur_cache(key, make_entry(key))
            cache.hierarchical_get(0, key)
        cache.clear_all()
        assert torch.equal(torch.random.get_rng_state(), torch_before)
        assert random.getstate() == python_before

    # Bad configs

    @pytest.mark.parametrize(
        ("config", "env_num", "message"),
        [
            ({}, 0, "env_num must be a whole number of at least 1, got 0"),
            ({}, -1, "env_num must be a whole number of at least 1, got -1"),
            ({}, True, "env_num must be a whole number of at least 1, got True"),
            ({}, 2.0, "env_num must be a whole number of at least 1, got 2.0"),
            ({"num_simulations": 0}, 1, "num_simulations must be a whole number of at least 1, got 0"),
            ({"num_simulations": "50"}, 1, "num_simulations must be a whole number of at least 1, got '50'"),
            ({"max_cache_size": 1.5}, 1, "max_cache_size must be a whole number of at least 1, got 1.5"),
            (
                {"cache_capacity_rule": "2025-10"},
                1,
                "game_segment_length must be a whole number of at least 1, got None",
            ),
            (
                {"cache_capacity_rule": "2024"},
                1,
                "cache_capacity_rule must be '2026-08' or '2025-10', got '2024'",
            ),
        ],
    )
    def test_an_impossible_config_is_refused_with_what_was_found(
        self, config: dict[str, Any], env_num: Any, message: str
    ) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared whole below
            self.make(config, env_num)
        assert str(caught.value) == message


def setter(cache: Any, pool: str, env_id: int = 0) -> Callable[..., Any]:
    """Return ``set(cache_key, kv_cache)`` of one pool."""
    if pool == "init":
        return lambda key, entry: cache.set_init_cache(env_id, key, entry)
    return getattr(cache, f"set_{pool}_cache")


def getter(cache: Any, pool: str, env_id: int = 0) -> Callable[[int], Any]:
    """Return ``get(cache_key)`` of one pool."""
    if pool == "init":
        return lambda key: cache.get_init_cache(env_id, key)
    return getattr(cache, f"get_{pool}_cache")


def pool_summaries(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten a stats summary to one mapping per pool."""
    return {**summary["init_pools"], "recur": summary["recur_pool"], "wm": summary["wm_pool"]}

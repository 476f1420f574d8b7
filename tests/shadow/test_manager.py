"""The manager: the shared contract, and what the published one got wrong and ours must not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shadow.entry import leaves
from shadow.interface import CacheCapacities
from shadow.manager import KVCacheManager
from shadow.pool import EvictionStrategy, KVCachePool
from tests.shadow.cache_contract import CAPACITY, CONFIG, ENVS, CacheContract, getter, setter
from tests.shadow.entries import assert_equal_entries, foreign_entry, make_entry, scribble_over


class TestManagerContract(CacheContract):
    def make(self, config: Any, env_num: int) -> KVCacheManager:
        return KVCacheManager(config, env_num)


class TestManagerContractUnderPriority(CacheContract):
    """Without priorities a priority pool is a FIFO. LRU is left out, since the contract reads between its sets."""

    def make(self, config: Any, env_num: int) -> KVCacheManager:
        return KVCacheManager({**config, "cache_eviction_strategy": "priority"}, env_num)


@pytest.fixture
def manager() -> KVCacheManager:
    return KVCacheManager(CONFIG, env_num=ENVS)


def queries(manager: KVCacheManager) -> dict[str, tuple[float, float]]:
    summary = manager.get_stats_summary()
    pools = {**summary["init_pools"], "recur": summary["recur_pool"], "wm": summary["wm_pool"]}
    return {name: (pool["hits"], pool["misses"]) for name, pool in pools.items() if pool["total_queries"]}


# How it is built


def test_it_is_built_as_lightzero_builds_its_own() -> None:
    manager = KVCacheManager(
        config=SimpleNamespace(num_simulations=25),
        env_num=8,
        enable_stats=True,
        clear_recur_log_freq=1000,
        clear_all_log_freq=100,
    )
    assert [pool.name for pool in manager.init_pools] == [f"init_env{env_id}" for env_id in range(8)]
    assert all(isinstance(pool, KVCachePool) for pool in (*manager.init_pools, manager.recur_pool, manager.wm_pool))
    assert (manager.init_pools[0].pool_size, manager.recur_pool.pool_size, manager.wm_pool.pool_size) == (256, 200, 8)
    assert manager.get_stats_summary()["stats_enabled"] is True


def test_lightzero_clears_the_init_pool_of_one_env_by_index(manager: KVCacheManager) -> None:
    manager.set_init_cache(0, 1, make_entry(1))
    manager.set_init_cache(1, 1, make_entry(2))
    manager.init_pools[0].clear()
    assert manager.get_init_cache(0, 1) is None
    assert_equal_entries(manager.get_init_cache(1, 1), make_entry(2))


@dataclass
class AConfig:
    num_simulations: int = 3
    max_cache_size: int = 4
    cache_eviction_strategy: str = "lru"


@pytest.mark.parametrize(
    "config",
    [
        {"num_simulations": 3, "max_cache_size": 4, "cache_eviction_strategy": "lru"},
        SimpleNamespace(num_simulations=3, max_cache_size=4, cache_eviction_strategy="lru"),
        AConfig(),
    ],
    ids=["dict", "namespace", "dataclass"],
)
def test_a_config_may_be_a_mapping_or_an_object(config: Any) -> None:
    manager = KVCacheManager(config, ENVS)
    assert manager.policy().capacities == CacheCapacities(**CAPACITY)
    assert {pool.eviction_strategy for pool in (*manager.init_pools, manager.recur_pool, manager.wm_pool)} == {
        EvictionStrategy.LRU
    }


@pytest.mark.parametrize("kind", ["fifo", "lru", "priority"])
def test_the_policy_declares_strategy_and_capacities(kind: str) -> None:
    policy = KVCacheManager({**CONFIG, "cache_eviction_strategy": kind}, ENVS).policy()
    assert (policy.kind, policy.capacities) == (kind, CacheCapacities(**CAPACITY))


def test_fifo_is_the_default(manager: KVCacheManager) -> None:
    assert manager.policy().kind == "fifo"


def test_an_unknown_strategy_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match="eviction strategy") as caught:
        KVCacheManager({"cache_eviction_strategy": "random"}, 1)
    assert str(caught.value) == "eviction strategy must be one of 'fifo', 'lru', 'priority', got 'random'"


def test_lru_of_the_config_reaches_the_pools() -> None:
    manager = KVCacheManager({**CONFIG, "cache_eviction_strategy": "lru"}, ENVS)
    for key in (1, 2):
        manager.set_wm_cache(key, make_entry(key))
    manager.get_wm_cache(1)
    manager.set_wm_cache(3, make_entry(3))
    assert manager.live_keys("wm") == [1, 3]


def test_priorities_given_at_set_reach_the_pools() -> None:
    manager = KVCacheManager({"max_cache_size": 2, "num_simulations": 1, "cache_eviction_strategy": "priority"}, ENVS)
    for key, priority in ((1, 9.0), (2, 1.0), (3, 5.0)):
        manager.set_init_cache(0, key, make_entry(key), priority=priority)
        manager.set_recur_cache(key, make_entry(key), priority=priority)
        manager.set_wm_cache(key, make_entry(key), priority=priority)
    for place in (("init", 0), ("recur", None), ("wm", None)):
        assert set(manager.live_keys(*place)) == {1, 3}


# Environments


@pytest.mark.parametrize("env_id", [-1, 2, 100, None, 0.5, 1.0, "0"])
@pytest.mark.parametrize(
    "call",
    [
        lambda manager, env_id: manager.get_init_cache(env_id, 1),
        lambda manager, env_id: manager.set_init_cache(env_id, 1, make_entry(1)),
        lambda manager, env_id: manager.hierarchical_get(env_id, 1),
        lambda manager, env_id: manager.clear_init_cache(env_id),
    ],
    ids=["get", "set", "hierarchical", "clear"],
)
def test_a_bad_env_is_refused_naming_the_allowed_range(manager: KVCacheManager, call: Any, env_id: Any) -> None:
    manager.set_recur_cache(1, make_entry(1))
    with pytest.raises(ValueError, match="env_id") as caught:
        call(manager, env_id)
    assert str(caught.value) == f"env_id must be in [0, 2), got {env_id!r}"
    assert queries(manager) == {}
    assert [manager.live_keys("init", env) for env in range(ENVS)] == [[], []]


def test_env_ids_may_be_numpy_numbers(manager: KVCacheManager) -> None:
    np = pytest.importorskip("numpy")
    manager.set_init_cache(np.int64(1), 1, make_entry(1))
    assert_equal_entries(manager.get_init_cache(1, 1), make_entry(1))


# Lookups are counted once


def test_a_hierarchical_hit_in_the_init_pool_counts_there(manager: KVCacheManager) -> None:
    manager.set_init_cache(1, 1, make_entry(1))
    manager.hierarchical_get(1, 1)
    assert queries(manager) == {"env_1": (1, 0)}


def test_a_hierarchical_hit_in_the_recur_pool_is_no_miss_of_the_init_pool(manager: KVCacheManager) -> None:
    manager.set_recur_cache(1, make_entry(1))
    manager.hierarchical_get(1, 1)
    assert queries(manager) == {"recur": (1, 0)}


def test_a_hierarchical_miss_counts_once(manager: KVCacheManager) -> None:
    manager.hierarchical_get(1, 1)
    assert queries(manager) == {"recur": (0, 1)}


def test_without_statistics_the_summary_says_so_and_all_works() -> None:
    manager = KVCacheManager(CONFIG, ENVS, enable_stats=False)
    manager.set_recur_cache(1, make_entry(1))
    assert_equal_entries(manager.hierarchical_get(0, 1), make_entry(1))
    assert manager.get_init_cache(0, 1) is None
    manager.reset_stats()
    assert manager.get_stats_summary() == {"stats_enabled": False}


def test_the_summary_has_no_text_in_it(manager: KVCacheManager) -> None:
    manager.set_init_cache(0, 1, make_entry(1))
    manager.get_init_cache(0, 1)
    assert manager.get_stats_summary()["init_pools"]["env_0"] == {
        "hits": 1,
        "misses": 0,
        "evictions": 0,
        "total_queries": 1,
        "hit_rate": 1.0,
        "miss_rate": 0.0,
        "entries": 1,
        "pool_size": CAPACITY["init"],
    }


# Copies: what is held by the host stays as it is


@pytest.mark.parametrize("pool", ["init", "recur", "wm"])
def test_a_held_answer_outlives_its_slot(manager: KVCacheManager, pool: str) -> None:
    setter(manager, pool)(1, make_entry(1))
    answer = getter(manager, pool)(1)
    for key in range(10, 10 + 2 * CAPACITY[pool]):
        setter(manager, pool)(key, make_entry(key))
    manager.clear_all()
    assert_equal_entries(answer, make_entry(1))


def test_a_held_hierarchical_answer_may_be_changed_by_the_host(manager: KVCacheManager) -> None:
    manager.set_init_cache(0, 1, make_entry(1))
    manager.set_recur_cache(2, make_entry(2))
    for key in (1, 2):
        scribble_over(manager.hierarchical_get(0, key))
        assert_equal_entries(manager.hierarchical_get(0, key), make_entry(key))


def test_the_same_object_mutated_between_sets_is_kept_in_every_state(manager: KVCacheManager) -> None:
    # The first published version stored a reference: get(1) answered the last state.
    shared = make_entry(1)
    for number in (1, 2, 3):
        for mine, new in zip(leaves(shared), leaves(make_entry(number)), strict=True):
            mine.tensor.copy_(new.tensor)
        manager.set_init_cache(0, number, shared)
    for number in (1, 2, 3):
        assert_equal_entries(manager.get_init_cache(0, number), make_entry(number))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pool", ["init", "recur", "wm"])
def test_source_dtype_is_kept_in_every_pool(manager: KVCacheManager, pool: str, dtype: torch.dtype) -> None:
    setter(manager, pool)(1, make_entry(1, dtype=dtype))
    assert_equal_entries(getter(manager, pool)(1), make_entry(1, dtype=dtype))


@pytest.mark.parametrize("pool", ["init", "recur", "wm"])
def test_a_failing_set_leaves_the_cache_as_it_was(manager: KVCacheManager, pool: str) -> None:
    for key in range(CAPACITY[pool]):
        setter(manager, pool)(key, make_entry(key))
    good, bad = (torch.zeros(1, 2, 4, 2), 4), (torch.zeros(1, 2, 4, 2), 5)
    for key in (0, 100):
        with pytest.raises(ValueError, match=r"layer 1 V: valid length 5 outside \[0, 4\]"):
            setter(manager, pool)(key, foreign_entry((good, good), (good, bad)))
    for key in range(CAPACITY[pool]):
        assert_equal_entries(getter(manager, pool)(key), make_entry(key))
    assert manager.live_keys(pool, 0 if pool == "init" else None) == list(range(CAPACITY[pool]))


# Slots


def test_a_search_after_the_first_allocates_nothing(manager: KVCacheManager) -> None:
    def search(first_key: int) -> list[int]:
        manager.clear_recur_cache()
        addresses = []
        for key in range(first_key, first_key + CAPACITY["recur"]):
            manager.set_recur_cache(key, make_entry(key))
            slot = manager.peek("recur", None, key)
            assert slot is not None
            addresses += [leaf.tensor.data_ptr() for leaf in leaves(slot)]
        return addresses

    first = search(0)
    held = manager.nbytes
    assert len(set(first)) == len(first)
    for round_ in range(1, 4):
        assert search(100 * round_) == first
        assert manager.nbytes == held
        assert_equal_entries(manager.get_recur_cache(100 * round_), make_entry(100 * round_))


def test_clear_all_keeps_slots_as_well(manager: KVCacheManager) -> None:
    manager.set_init_cache(0, 1, make_entry(1))
    manager.set_wm_cache(1, make_entry(1))
    before = manager.nbytes
    assert before == 2 * make_entry(1).nbytes
    manager.clear_all()
    manager.set_init_cache(0, 2, make_entry(2))
    manager.set_wm_cache(2, make_entry(2))
    assert manager.nbytes == before


# The scratch lists of the world model


def test_an_alias_taken_by_the_world_model_is_the_list_that_clear_all_empties(manager: KVCacheManager) -> None:
    alias = manager.keys_values_wm_list
    alias.append("batch row")
    manager.clear_all()
    assert alias == []
    alias.append("next batch row")
    assert manager.keys_values_wm_list is alias


def test_a_list_that_the_world_model_assigned_instead_is_its_own(manager: KVCacheManager) -> None:
    model = SimpleNamespace(keys_values_wm_list=manager.keys_values_wm_list)
    model.keys_values_wm_list = ["of this batch"]
    manager.clear_all()
    assert model.keys_values_wm_list == ["of this batch"]
    assert manager.keys_values_wm_list == []


def test_a_list_assigned_to_the_manager_is_the_one_that_clear_all_empties(manager: KVCacheManager) -> None:
    manager.keys_values_wm_list = new = ["row"]
    manager.keys_values_wm_size_list = sizes = [3]
    manager.clear_all()
    assert (new, sizes) == ([], [])


# Audits and log lines


def test_live_keys_and_peek_count_no_lookup(manager: KVCacheManager) -> None:
    manager.set_init_cache(1, 1, make_entry(1))
    manager.set_recur_cache(2, make_entry(2))
    manager.set_wm_cache(3, make_entry(3))
    places = [("init", 0), ("init", 1), ("recur", None), ("wm", None)]
    assert [manager.live_keys(*place) for place in places] == [[], [1], [2], [3]]
    assert manager.peek("init", 0, 1) is None
    for place, key in zip(places[1:], (1, 2, 3), strict=True):
        assert_equal_entries(manager.peek(*place, key), make_entry(key))
    assert queries(manager) == {}


@pytest.mark.parametrize(
    "call", [lambda manager: manager.live_keys("init"), lambda manager: manager.peek("init", None, 1)]
)
def test_auditing_an_init_pool_needs_an_env(manager: KVCacheManager, call: Any) -> None:
    with pytest.raises(ValueError, match="env_id must be"):
        call(manager)


def test_every_nth_clear_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    manager = KVCacheManager(CONFIG, ENVS, clear_recur_log_freq=3, clear_all_log_freq=2)
    with caplog.at_level(logging.INFO, logger="shadow.manager"):
        for _ in range(7):
            manager.clear_recur_cache()
        for _ in range(3):
            manager.clear_all()
    assert [record.getMessage() for record in caplog.records] == [
        "Cleared recur KV caches 3 times (said every 3 times)",
        "Cleared recur KV caches 6 times (said every 3 times)",
        "Cleared all KV caches 2 times (said every 2 times)",
    ]


def test_a_log_frequency_of_0_keeps_silent(caplog: pytest.LogCaptureFixture) -> None:
    manager = KVCacheManager(CONFIG, ENVS, clear_recur_log_freq=0, clear_all_log_freq=0)
    with caplog.at_level(logging.INFO, logger="shadow.manager"):
        manager.clear_recur_cache()
        manager.clear_all()
    assert caplog.records == []


def test_repr_names_every_pool(manager: KVCacheManager) -> None:
    manager.set_recur_cache(1, make_entry(1))
    assert repr(manager) == (
        "KVCacheManager(env_num=2, KVCachePool('init_env0', 0/4, fifo), KVCachePool('init_env1', 0/4, fifo), "
        "KVCachePool('recurrent', 1/6, fifo), KVCachePool('world_model', 0/2, fifo))"
    )

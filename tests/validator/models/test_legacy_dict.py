"""The model of LightZero 0.2.0's store, against a plain program of it; and the name its faults are given."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reports.reader import read_run
from reports.record.records import Divergence
from reports.record.words import Cause, Dimension, Fault
from shadow import KeysValues, KVCacheManager
from shadow.entry import leaves
from shadow.interface import CacheCapacities, CachePolicy
from shadow.switch import HostPromises
from tests.shadow.entries import make_entry
from validator import Lockstep, ValidationConfig
from validator.entries.compare import valid
from validator.entries.digest import Digest
from validator.models.legacy_dict import LegacyDictModel
from validator.models.stored import Stored


class DictCache:
    """What 0.2.0 does: a dict of slot numbers that only a clear empties, over a ring of slots."""

    def __init__(self, init: int = 2, recur: int = 4, env_num: int = 1) -> None:
        self.env_num = env_num
        self.sizes = CacheCapacities(init, recur, env_num)
        self.init = [({}, [None] * init, [0]) for _ in range(env_num)]
        self.recur: Any = ({}, [None] * recur, [0])

    def policy(self) -> CachePolicy:
        return CachePolicy("legacy_dict", self.sizes, live_results=True)

    @staticmethod
    def _set(pool: Any, key: int, entry: Any) -> int:
        slots, ring, write = pool
        ring[write[0]] = entry if isinstance(entry, (int, str)) else KeysValues.empty_like(leaves(entry))
        if not isinstance(entry, (int, str)):
            ring[write[0]].copy_from(leaves(entry))
        slots[key] = write[0]
        write[0] = (write[0] + 1) % len(ring)
        return slots[key]

    @staticmethod
    def _get(pool: Any, key: int) -> Any:
        return pool[1][pool[0][key]] if key in pool[0] else None

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        return self._set(self.init[env_id], cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        return self._set(self.recur, cache_key, kv_cache)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        return self._get(self.init[env_id], cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self.recur[1][self.recur[0].get(cache_key)]  # None for an index: TypeError

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        found = self.get_init_cache(env_id, cache_key)
        return found if found is not None else self.get_recur_cache(cache_key)

    def clear_init_cache(self, env_id: int) -> None:
        self.init[env_id][0].clear()

    def clear_init_caches(self) -> None:
        self.clear_init_cache(0)

    def clear_recur_cache(self) -> None:
        self.recur[0].clear()

    def clear_all(self) -> None:
        self.clear_init_caches()
        self.clear_recur_cache()

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        return [] if pool == "wm" else list((self.init[env_id or 0] if pool == "init" else self.recur)[0])

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        return None if pool == "wm" else self._get(self.init[env_id or 0] if pool == "init" else self.recur, cache_key)


def stored(key: int, op_index: int) -> Stored:
    return Stored(key, "recur", None, Digest((key, op_index), (), None), op_index, 0, 0, -1, 0)


@given(capacity=st.integers(1, 4), program=st.lists(st.one_of(st.integers(0, 5), st.just("clear")), max_size=30))
def test_the_model_answers_what_the_store_answers(capacity: int, program: list[Any]) -> None:
    cache, model = DictCache(recur=capacity), LegacyDictModel(capacity)
    for op_index, step in enumerate(program):
        if step == "clear":
            cache.clear_recur_cache()
            model.clear(op_index)
        else:
            cache.set_recur_cache(step, op_index)
            model.set(step, stored(step, op_index))

    for key in range(6):
        held = model.get(key)
        assert cache._get(cache.recur, key) == (None if held is None else held.op_index)
    assert len(model) == len(cache.recur[0])
    own = {key for key in range(6) if (held := model.get(key)) is not None and held.key == key}
    assert {each.key for each in model.live()} == own


def test_only_a_key_that_still_led_to_its_slot_counts_as_lost() -> None:
    model = LegacyDictModel(2)

    lost = [model.set(key, stored(key, index)) for index, key in enumerate([1, 1, 2, 3])]

    assert [None if each is None else each.key for each in lost] == [None, None, None, 1]
    assert model.get(1) is not None
    assert list(model.gone) == [1]


def run(tmp_path: Path, steps: Any, control: Any = None, candidate: Any = None, **about: Any) -> list[Divergence]:
    """Play steps on a 0.2.0 store against our manager, and return what was recorded."""
    config = {"num_simulations": 4, "game_segment_length": 2, "cache_capacity_rule": "2025-10"}
    with Lockstep(tmp_path / "runs", ValidationConfig(audit_share=0.0)) as lockstep:
        cache = lockstep.shadow(
            control=control or DictCache(), candidate=candidate or KVCacheManager(config, 1), **about
        )
        steps(cache, lockstep)
    return read_run(lockstep.run_dir).divergences


def sets(cache: Any, *keys: int) -> None:
    for key in keys:
        cache.set_init_cache(0, key, make_entry(key))


def test_a_key_that_outlives_its_slot_is_named_and_charged_to_the_control(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 3)
        answer = leaves(cache.get_init_cache(0, 1))[0]
        assert torch.equal(valid(answer), valid(leaves(make_entry(3))[0]))

    found = run(tmp_path, steps)

    assert [(d.dimension, d.cause, d.fault) for d in found] == [
        (Dimension.VALUE, Cause.DICT_OUTLIVES_RING, Fault.CONTROL)
    ]
    assert "answers the entry of key 0000000000000003, which operation 2 wrote into the slot" in found[0].explanation


def test_two_stores_that_are_wrong_alike_are_both_charged(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 3)
        cache.get_init_cache(0, 1)

    found = run(tmp_path, steps, candidate=DictCache())

    assert [(d.cause, d.fault) for d in found] == [(Cause.DICT_OUTLIVES_RING, Fault.BOTH)]


def test_one_outliving_key_is_one_divergence_and_does_not_spoil_the_candidate(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 3)
        for _ in range(5):
            cache.get_init_cache(0, 1)
        cache.get_init_cache(0, 2)
        cache.get_init_cache(0, 3)

    candidate = KVCacheManager({"num_simulations": 4, "max_cache_size": 2}, 1)
    assert [d.cause for d in run(tmp_path, steps, candidate=candidate)] == [Cause.DICT_OUTLIVES_RING]
    assert candidate.live_keys("init", 0) == [2, 3]


def test_a_ring_that_only_is_watched_is_not_written_to_repair_it(tmp_path: Path) -> None:
    control = DictCache()

    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 3)
        for _ in range(3):
            assert cache.get_init_cache(0, 1) is None

    assert [d.cause for d in run(tmp_path, steps, control=control, primary="candidate")] == [Cause.DICT_OUTLIVES_RING]
    assert control.init[0][2] == [1]


def test_a_set_of_an_outlived_key_makes_it_sound_again(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 3, 1)
        cache.get_init_cache(0, 1)
        cache.get_init_cache(0, 3)

    assert run(tmp_path, steps) == []


def test_an_age_refreshed_by_a_re_set_is_l2_here_too(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2, 1, 3)
        cache.get_init_cache(0, 1)

    assert [(d.cause, d.fault) for d in run(tmp_path, steps)] == [(Cause.AGE_REFRESHED, Fault.CONTROL)]


def test_a_recurrent_miss_that_raises_is_named(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        with pytest.raises(TypeError):
            cache.hierarchical_get(0, 7)

    (found,) = run(tmp_path, steps)

    assert (found.cause, found.fault) == (Cause.RAISED, Fault.CONTROL)
    assert "indexes its pool with the None that its dict answered" in found.explanation


def test_a_copy_of_a_shadow_in_use_knows_what_it_holds(tmp_path: Path) -> None:
    def steps(cache: Any, _: Lockstep) -> None:
        sets(cache, 1, 2)
        copy.deepcopy(cache).get_init_cache(0, 1)

    assert run(tmp_path, steps, copies="target") == []


def test_copies_are_called_as_the_host_said(tmp_path: Path) -> None:
    with Lockstep(tmp_path, ValidationConfig()) as lockstep:
        cache = lockstep.shadow(control=DictCache(), candidate=DictCache(), name="collect", copies="target")
        copy.deepcopy(copy.deepcopy(cache))

    assert [line["cache"] for line in read_run(lockstep.run_dir).caches] == ["collect", "target", "target-2"]


@pytest.mark.parametrize("promised", [True, False])
def test_only_what_the_host_promised_is_charged_to_it(tmp_path: Path, promised: bool) -> None:
    def steps(cache: Any, lockstep: Lockstep) -> None:
        sets(cache, 1)
        lockstep.episode_ended(0, cache=cache)
        cache.get_init_cache(0, 1)

    found = run(tmp_path, steps, promises=HostPromises(episode_end_clears=promised))

    expected = [Cause.EPISODE_NOT_CLEARED, Cause.STALE_EPISODE] if promised else []
    assert [d.cause for d in found] == expected


def test_an_event_of_one_shadow_is_not_told_to_another(tmp_path: Path) -> None:
    def steps(cache: Any, lockstep: Lockstep) -> None:
        other = lockstep.shadow(control=DictCache(), candidate=DictCache(), name="other")
        other.set_recur_cache(1, make_entry(1))
        lockstep.search_started(cache=cache)

    assert run(tmp_path, steps) == []

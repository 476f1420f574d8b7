"""The budget: audits grow rarer while the harness takes too long, then lookups if allowed; what was left out counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.settings import SettingsError
from tests.guards import guards
from validator.config import ValidationConfig
from validator.entries.digest import Digest
from validator.proof.stream import EntrySpec, Step
from validator.proof.trial import Trial

CONFIG = {"num_simulations": 2, "max_cache_size": 4}
SMALL = Digest((1,), (((1, 2, 4, 2), torch.float32, torch.device("cpu"), 3),), 1)


def trial(budget: float, **settings: Any) -> Trial:
    config = ValidationConfig(overhead_budget=budget, **settings)
    return Trial(LegacyKVCache(CONFIG, 2), KVCacheManager(CONFIG, 2), config=config)


def searches(count: int) -> list[Step]:
    found = []
    for number in range(count):
        found += [Step("clear_recur_cache"), Step("search_started")]
        for key in range(4):
            found += [
                Step("set_recur_cache", key=10 * number + key, entry=EntrySpec(number, 3)),
                Step("get_recur_cache", key=10 * number + key),
            ]
    return found


def test_without_a_budget_every_clear_is_audited() -> None:
    played = trial(0.0)
    played.play(searches(60))
    assert played.pair.case.counters.coverage["audits_left_out_for_budget"] == 0


def test_a_budget_that_can_not_be_kept_leaves_audits_out_and_counts_them_but_no_lookup() -> None:
    free, tight = trial(0.0), trial(1e-9)
    for played in (free, tight):
        played.play(searches(120))
        played.finish()
        assert played.divergences == []
        assert played.failures == []
    left_out = tight.pair.case.counters.coverage["audits_left_out_for_budget"]
    assert 0 < left_out < 120 * 15 / 16
    assert tight.pair.case.counters.coverage["entries_audited"] < free.pair.case.counters.coverage["entries_audited"]
    assert tight.pair.case.counters.lookups == free.pair.case.counters.lookups


def test_audits_come_back_when_there_is_time_and_never_cease() -> None:
    auditor = trial(0.5).pair.audits
    for _ in range(20):
        auditor.keep_to_budget(0.9, 0.5)
    assert auditor._every == 16
    auditor.keep_to_budget(0.45, 0.5)
    assert auditor._every == 16
    for _ in range(20):
        auditor.keep_to_budget(0.1, 0.5)
    assert auditor._every == 1


@guards("validator/observe/audits.py", " and self._early_nbytes < _ALWAYS_NBYTES", "")
def test_of_huge_entries_only_the_first_sets_are_all_looked_at_closely() -> None:
    auditor = trial(0.5, audit_share=0.0).pair.audits
    huge = SMALL._replace(layout=(((1, 16, 1 << 15, 512), torch.float32, torch.device("cpu"), 3),))
    assert huge.nbytes == 1 << 30
    assert [auditor.begin_set(huge) for _ in range(3)] == [True, False, False]


def test_with_fewer_audits_fewer_sets_are_looked_at_closely() -> None:
    auditor = trial(0.5, audit_share=0.25).pair.audits

    def looked_at(sets: int) -> int:
        found = 0
        for _ in range(sets):
            if auditor.begin_set(SMALL):
                found += 1
                auditor.end_set()
        return found

    assert looked_at(64) == 64
    assert looked_at(64) == 16
    for _ in range(4):
        auditor.keep_to_budget(0.9, 0.5)
    assert looked_at(64) == 1


def test_time_is_told_in_one_window_and_counts_against_the_budget_for_good() -> None:
    pair = trial(0.5).pair
    pair.harness_ns = 10**18
    assert [pair.drain(0.0).harness_ns, pair.drain(1.0).harness_ns] == [10**18, 0]
    pair.look_at_the_clock()
    assert pair.audits._every == 2


def test_damage_is_still_found_on_the_tightest_budget_at_the_full_audit() -> None:
    played = trial(1e-9)
    played.play(searches(100))
    played.play([Step("set_init_cache", 0, 7, EntrySpec(1, 3))])
    held = played.pair.case.candidate.read("init", 0, 7)
    held[0]._k_cache._cache[0, 0, 0, 0] += 1
    played.finish()
    assert [charge.fault.value for charge in played.divergences] == ["candidate"]


@guards(
    "validator/observe/lookups.py",
    '            self._counters.dropped["lookups not compared, for the budget"] += 1\n',
    "",
)
def test_lookups_are_sampled_only_if_allowed_and_only_after_the_audits_and_what_was_left_out_is_counted() -> None:
    sampled, whole = trial(1e-9, sample_lookups=True), trial(1e-9)
    for played in (sampled, whole):
        played.play(searches(150))
        assert played.divergences == []
    left_out = sampled.pair.case.counters.dropped["lookups not compared, for the budget"]
    compared = sum(sampled.pair.case.counters.lookups["recur"])
    assert 0 < left_out < 600
    assert compared + left_out == sum(whole.pair.case.counters.lookups["recur"]) == 600
    assert whole.pair.case.counters.dropped == {}
    assert not any(sum(counts[1:]) for counts in sampled.pair.case.counters.lookups.values())


def test_lookups_come_back_when_there_is_time() -> None:
    played = trial(1e-9, sample_lookups=True)
    played.play(searches(150))
    assert played.pair.lookups.compare_each > 1
    object.__setattr__(played.pair.case.config, "overhead_budget", 1.0)
    played.play(searches(200))
    assert played.pair.lookups.compare_each == 1


def test_a_lookup_that_only_one_side_answers_is_never_left_out() -> None:
    played = trial(1e-9, sample_lookups=True)
    played.play(searches(150))
    played.pair.case.candidate.cache.recur_pool.clear()
    for key in range(4):
        played.cache.get_recur_cache(10 * 149 + key)
    assert sum(played.pair.case.counters.lookups["recur"][1:]) == 4


@pytest.mark.parametrize("budget", [-0.1, 1.5])
def test_an_impossible_budget_is_refused(budget: float) -> None:
    with pytest.raises(SettingsError, match="overhead_budget must lie in"):
        ValidationConfig.from_mapping({"overhead_budget": budget})

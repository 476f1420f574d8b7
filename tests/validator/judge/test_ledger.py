"""One fault is one divergence with a count."""

from __future__ import annotations

from shadow import KVCacheManager
from tests.guards import guards
from validator.proof.faults.planted import raising
from validator.proof.trial import Trial

CONFIG = {"num_simulations": 2, "max_cache_size": 4}


@guards("validator/judge/ledger.py", "        if mark in marks:\n            return False\n", "")
def test_one_fault_is_written_once_and_counted_every_time() -> None:
    broken = raising("answer")(KVCacheManager(CONFIG, 1))
    trial = Trial(KVCacheManager(CONFIG, 1), broken)

    for _ in range(5):
        trial.cache.get_recur_cache(1)

    assert len(trial.divergences) == 1
    assert sum(trial.pair.case.counters.divergences.values()) == 5

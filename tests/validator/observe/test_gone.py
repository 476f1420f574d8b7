"""Keys that should be gone: a secondary that doesn't list its keys is asked for some of them."""

from __future__ import annotations

from typing import Any

import pytest

from reports.record.words import Cause, Fault
from tests.guards import guards
from tests.validator.trials import DictCache, charged, declared, entry, manager, trial


class NeverEvicts(DictCache):
    """Evicts nothing, lists nothing."""

    kind: Any = "fifo"
    misses_count = False
    asked = 0

    def policy(self) -> Any:
        return declared(self.kind, misses_count=self.misses_count)

    def _evict(self, pool: dict[int, Any]) -> None:
        return

    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        self.asked += 1
        return super()._get(place, key)


class NeverClears(NeverEvicts):
    """Ignores the clear of one env."""

    def _evict(self, pool: dict[int, Any]) -> None:
        DictCache._evict(self, pool)

    def clear_init_cache(self, env_id: int) -> None:
        return


@guards("validator/observe/audits.py", "self._ask_for_gone(pool, env_id, model, _GONE_ASKED)", "pass")
@pytest.mark.parametrize("kind", ["fifo", "lru"])
def test_what_is_never_evicted_and_never_asked_for_is_found_by_the_audit(kind: str) -> None:
    kept = NeverEvicts()
    kept.kind = kind
    settings = {"num_simulations": 2, "max_cache_size": 4, "cache_eviction_strategy": kind}
    run = trial(manager(settings), kept, audit_share=0.0)
    for number in range(30):
        run.cache.set_recur_cache(number, entry(float(number)))
    assert charged(run) == []
    run.finish()
    assert {*charged(run)} <= {(Cause.WRONG_EVICTION, Fault.CANDIDATE), (Cause.CAPACITY_OFF, Fault.CANDIDATE)}
    assert charged(run)


def test_a_clear_that_is_ignored_is_found_though_more_was_stored_since() -> None:
    run = trial(manager(), NeverClears())
    for number in range(3):
        run.cache.set_init_cache(0, number, entry(float(number)))
    run.cache.clear_init_cache(0)
    assert {*charged(run)} == {(Cause.CLEAR_FORGOTTEN, Fault.CANDIDATE)}


@guards(
    "validator/observe/audits.py", "self._ask_for_gone(pool, env_id, secondary.model.pool(pool, env_id), 1)", "pass"
)
def test_between_audits_one_is_asked_for_now_and_then() -> None:
    run = trial(manager(), NeverEvicts(), audit_share=1.0)
    for number in range(30):
        run.cache.set_recur_cache(number, entry(float(number)))
    assert charged(run)


@guards("validator/judge/side_view.py", "or self.model.policy.misses_count:", "or False:")
def test_a_side_whose_misses_count_is_not_asked_for_what_is_gone() -> None:
    kept = NeverEvicts()
    kept.misses_count = True
    kept.kind = "lru"  # so that it is asked for nothing else either
    run = trial(manager({"num_simulations": 2, "max_cache_size": 4, "cache_eviction_strategy": "lru"}), kept)
    for number in range(30):
        run.cache.set_recur_cache(number, entry(float(number)))
    run.finish()
    assert charged(run) == []
    assert kept.asked == 0


def test_the_primary_is_not_asked_for_what_is_gone() -> None:
    kept = NeverEvicts()
    kept.kind = "lru"
    run = trial(kept, manager({"num_simulations": 2, "max_cache_size": 4, "cache_eviction_strategy": "lru"}))
    for number in range(30):
        run.cache.set_recur_cache(number, entry(float(number)))
    run.finish()
    assert kept.asked == 0

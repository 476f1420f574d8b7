"""Threads of a host: who changes a pair from elsewhere waits for its operations, and doubt charges nobody."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from reports.record.words import Cause
from shadow.manager import KVCacheManager
from shadow.switch import HostPromises
from tests.guards import guards
from tests.validator.trials import CONFIG, ENVS, charged, entry, legacy, manager, trial
from validator import Lockstep, ValidationConfig

LONG_S = 30.0


class Slow(KVCacheManager):
    """Waits in a lookup until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(CONFIG, ENVS)
        self.inside, self.go_on = threading.Event(), threading.Event()

    def get_recur_cache(self, cache_key: int) -> Any:
        self.inside.set()
        assert self.go_on.wait(LONG_S)
        return super().get_recur_cache(cache_key)


@guards("validator/session.py", "with pair.lock:\n            began", "if True:\n            began")
def test_a_weight_update_waits_for_the_operation_of_another_thread(tmp_path: Path) -> None:
    slow = Slow()
    with Lockstep(tmp_path, ValidationConfig(selftest=False)) as lockstep:
        cache = lockstep.shadow(control=legacy(), candidate=slow)
        actor = threading.Thread(target=cache.get_recur_cache, args=(1,))
        actor.start()
        assert slow.inside.wait(LONG_S)
        learner = threading.Thread(target=lockstep.weights_updated)
        learner.start()
        learner.join(0.2)
        assert learner.is_alive()
        assert lockstep.pairs[0].case.weight_version == 0
        slow.go_on.set()
        learner.join(LONG_S)
        actor.join(LONG_S)
        assert lockstep.pairs[0].case.weight_version == 1
    assert not lockstep.totals().divergences


def test_actors_and_a_learner_of_sound_caches_are_charged_with_nothing(tmp_path: Path) -> None:
    made = [entry(number) for number in range(8)]

    def act(cache: Any, env_id: int) -> None:
        for i in range(400):
            cache.set_init_cache(env_id, i, made[i % 8])
            cache.set_recur_cache(1000 * env_id + i, made[i % 7])
            cache.hierarchical_get(env_id, i - 1)

    with Lockstep(tmp_path, ValidationConfig(selftest=False)) as lockstep:
        promises = HostPromises(weight_update_clears=False)
        cache = lockstep.shadow(control=manager(), candidate=manager(), promises=promises)
        actors = [threading.Thread(target=act, args=(cache, env_id)) for env_id in range(ENVS)]
        for actor in actors:
            actor.start()
        while any(actor.is_alive() for actor in actors):
            lockstep.weights_updated()
        for actor in actors:
            actor.join(LONG_S)
    assert (dict(lockstep.totals().divergences), dict(lockstep.totals().dropped)) == ({}, {})


@guards("validator/observe/handed_out.py", "if watch.thread != get_ident():", "if False:")
def test_what_changed_in_the_hands_of_another_thread_is_charged_to_nobody() -> None:
    class Copies(KVCacheManager):
        def get_init_cache(self, env_id: int, cache_key: int) -> Any:
            found = super().get_init_cache(env_id, cache_key)
            return None if found is None else found.clone()

    run = trial(Copies(CONFIG, ENVS), manager())
    run.cache.set_init_cache(0, 1, entry(1))
    held = run.cache.get_init_cache(0, 1)
    host = run.pair.case.primary.cache
    inner = host.get_recur_cache

    def meanwhile(key: int) -> Any:  # its own copy, which the thread that was given it may write to whenever it likes
        held[0]._k_cache._cache.mul_(2)
        return inner(key)

    host.get_recur_cache = meanwhile
    other = threading.Thread(target=run.cache.get_recur_cache, args=(9,))
    other.start()
    other.join(LONG_S)
    run.finish()
    assert Cause.ALIASED_ON_GET not in {cause for cause, _ in charged(run)}
    assert run.pair.case.counters.coverage["changes of answers that another thread may have made"] == 1

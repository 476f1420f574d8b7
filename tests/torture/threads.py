"""Four threads use one pair while a fifth updates weights: nothing sound is charged, nothing wrong is missed.

python -m tests.torture.threads [OPERATIONS]     of each thread; prints what came of it
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from typing import Any

from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.switch import HostPromises
from tests.shadow.entries import make_entry
from tests.validator.trials import CONFIG
from validator.config import ValidationConfig
from validator.session import Lockstep

THREADS = 4


class WrongOnce(KVCacheManager):
    """Answers one wrong value, far into the run."""

    left = 1_000

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        found = super().get_init_cache(env_id, cache_key)
        if found is None:
            return None
        type(self).left -= 1
        if self.left:
            return found
        own = found.clone()
        own[0]._k_cache._cache[0, 0, 0, 0] += 1
        return own


def play(operations: int, candidate: Any) -> tuple[dict[str, int], dict[str, int], int, int, float]:
    """Play; return divergences by group, what was dropped, lookups counted, weight updates, and seconds."""
    began = time.monotonic()
    failed: list[BaseException] = []
    updates = 0

    def act(cache: Any, env_id: int) -> None:
        entries = [make_entry(number, size=1 + number % 4) for number in range(8)]
        try:
            for number in range(operations // 2):
                cache.set_init_cache(env_id, number % 7, entries[number % 8])
                found = cache.get_init_cache(env_id, number % 7)
                found.clone()[0]._k_cache._cache.add_(1)  # its own copy, as a host would
        except BaseException as error:
            failed.append(error)

    with tempfile.TemporaryDirectory() as out, Lockstep(out, ValidationConfig(selftest=False)) as lockstep:
        promises = HostPromises(weight_update_clears=False)
        control = LegacyKVCache(CONFIG, THREADS)
        cache = lockstep.shadow(control=control, candidate=candidate, promises=promises)
        actors = [threading.Thread(target=act, args=(cache, env_id)) for env_id in range(THREADS)]
        for actor in actors:
            actor.start()
        while any(actor.is_alive() for actor in actors):
            lockstep.weights_updated()
            updates += 1
            time.sleep(0.01)
    if failed:
        raise failed[0]
    totals = lockstep.totals()
    return dict(totals.divergences), dict(totals.dropped), totals.n_lookups, updates, time.monotonic() - began


def main(operations: int) -> int:
    wrong = 0
    for name, make, expected in (("sound", KVCacheManager, 0), ("wrong once", WrongOnce, 1)):
        divergences, dropped, lookups, updates, seconds = play(operations, make(CONFIG, THREADS))
        print(
            f"{name:10}  {THREADS} x {operations:,} operations, {updates:,} weight updates from a fifth thread: "
            f"divergences {divergences or 0}, dropped {dropped or 0}, lookups counted {lookups:,}, {seconds:.0f} s"
        )
        wrong += sum(divergences.values()) != expected or bool(dropped) or lookups != THREADS * (operations // 2)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))

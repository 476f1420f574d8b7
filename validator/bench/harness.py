"""What the harness adds to one operation, and whether that grows with the length of a run."""

from __future__ import annotations

import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.operation import Observation
from validator.bench.caches import entry
from validator.trial import Trial

_CONFIG = {"num_simulations": 10, "max_cache_size": 8}
_ENVS = 4


class _Meter(Trial):
    """A trial that adds up what the sides took, so that it can be taken off."""

    def __init__(self) -> None:
        super().__init__(LegacyKVCache(_CONFIG, _ENVS), KVCacheManager(_CONFIG, _ENVS))
        self.secondary_ns = 0
        observed = self.pair.observed

        def meter(seen: Observation) -> None:
            self.secondary_ns += seen.candidate_ns
            observed(seen)

        self.pair.observed = meter  # type: ignore[method-assign]
        self._made = entry("CartPole", 1.0)
        self._key = 0

    def misses(self, count: int) -> None:
        for index in range(count):
            self.cache.get_recur_cache(-1 - index)

    def sets(self, count: int) -> None:
        for _ in range(count):
            self._key += 1
            self.cache.set_recur_cache(self._key, self._made)

    def hits(self, count: int) -> None:
        for index in range(count):
            self.cache.get_recur_cache(self._key - index % 8)

    def search(self) -> int:
        """Play one search as the embedded host does; return the operations."""
        cache = self.cache
        first = self._key
        for env_id in range(_ENVS):
            self._key += 1
            cache.set_init_cache(env_id, self._key, self._made)
        cache.clear_recur_cache()
        self.pair.search_started()
        for index in range(40):
            cache.hierarchical_get(index % _ENVS, first + 1 + index)
            self._key += 1
            cache.set_recur_cache(self._key, self._made)
        return _ENVS + 1 + 80


def bench_bookkeeping(rounds: int) -> dict[str, Any]:
    """Measure one operation of each kind beyond what the two sides take themselves, microseconds.

    A lookup that misses on both sides is bookkeeping and nothing else. A hit adds the comparison and the digest, a set
    the private copy and the digest, each of a CartPole entry.
    """
    meter = _Meter()
    found: dict[str, list[float]] = {"miss": [], "set": [], "hit": []}
    for index in range(rounds + 3):
        for name, play in (("miss", meter.misses), ("set", meter.sets), ("hit", meter.hits)):
            counters = meter.pair.counters
            before = counters.harness_ns - meter.secondary_ns
            play(200)
            if index >= 3:
                found[name].append((counters.harness_ns - meter.secondary_ns - before) / 200 / 1e3)
    return {name: statistics.median(times) for name, times in found.items()}


def bench_growth(most: int) -> list[dict[str, float]]:
    """Play searches up to so many operations and look at every power of ten from 10^4.

    Returns:
        Per power of ten: operations, microseconds per operation since the one before, resident bytes.
    """
    meter = _Meter()
    found = []
    done, target = 0, 10_000
    while target <= most:
        began, before = perf_counter(), done
        while done < target:
            done += meter.search()
        spent = perf_counter() - began
        found.append({"operations": done, "us_per_op": spent / (done - before) * 1e6, "resident": _resident()})
        target *= 10
    if meter.charges or meter.faults:
        raise AssertionError(f"a sound pair was charged: {meter.charges[:1]} {meter.faults[:1]}")
    return found


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not on Linux
        return float("nan")
    return float(pages * 4096)


def threads() -> int:
    """Return how many threads torch computes with."""
    return torch.get_num_threads()

"""What the harness adds to one operation, and whether that grows with the length of a run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from validator.bench.caches import entry
from validator.bench.clock import interleaved, ratio
from validator.config import ValidationConfig
from validator.proof.trial import Trial

_CONFIG = {"num_simulations": 10, "max_cache_size": 8}
_ENVS = 4
_YOUNG = 10_000  # operations after which a pair has warmed up


class Meter(Trial):
    """A trial that plays one kind of operation at a time, on the shadow or on two bare caches of the same kinds.

    Args:
        apart: Whether each buffer of the entries is an allocation of its own, as LightZero's are.
        where: Where the entries lie: on ``cpu`` or ``cuda``; or ``late``, in host memory but as on a device.

    Attributes:
        searched: Operations of the searches so far.
    """

    def __init__(self, apart: bool = False, where: str = "cpu") -> None:
        config = ValidationConfig(overhead_budget=0.0, deferred="always" if where == "late" else "auto")
        super().__init__(LegacyKVCache(_CONFIG, _ENVS), KVCacheManager(_CONFIG, _ENVS), config=config)
        self.cache._both._staging.as_memory = where != "late"
        self._bare = (LegacyKVCache(_CONFIG, _ENVS), KVCacheManager(_CONFIG, _ENVS))
        self._made = entry("CartPole", 1.0)
        if apart:
            for layer in self._made:
                for cache in (layer._k_cache, layer._v_cache):
                    cache._cache = cache._cache.clone().to("cpu" if where == "late" else where)
        self._empty = entry("CartPole", 1.0)
        for layer in self._empty:
            layer._k_cache._size = layer._v_cache._size = 0
        self._key = 0
        self.searched = 0

    def play_one(self, kind: str, shadowed: bool, count: int = 200, empty: bool = False) -> int:
        """Play one kind of operation so many times, on keys that go on from the last ones."""
        made = self._empty if empty else self._made
        caches: tuple[Any, ...] = (self.cache,) if shadowed else self._bare
        first = self._key
        for cache in caches:
            self._key = first
            for index in range(count):
                if kind == "miss":
                    cache.get_recur_cache(-1 - index)
                elif kind == "hit":
                    cache.get_recur_cache(first - index % 8)
                else:
                    self._key += 1
                    cache.set_recur_cache(self._key, made)
        return count

    def store(self, count: int, empty: bool = False) -> None:
        """Store so many entries on the shadow and in the bare caches, under the same keys."""
        for shadowed in (True, False):
            self._key = 10**9
            self.play_one("set", shadowed, count, empty)

    def check(self) -> None:
        """AssertionError if the sound pair was charged: no figure counts then."""
        if self.divergences or self.failures:
            raise AssertionError(f"a sound pair was charged: {self.divergences[:1]} {self.failures[:1]}")

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
        self.searched += _ENVS + 1 + 80
        return _ENVS + 1 + 80


def bench_bookkeeping(rounds: int) -> dict[str, Any]:
    """Measure one operation of each kind beyond what the two sides take themselves, microseconds.

    A lookup that misses on both sides is bookkeeping and nothing else; so is a hit on an entry of no valid token and a
    set of one, where there is nothing to copy, compare or digest. Beside them stand a hit and a set of a full CartPole
    entry.
    """
    meter = Meter()
    found = {}
    for name, kind, empty in (
        ("miss", "miss", False),
        ("hit, nothing to compare", "hit", True),
        ("set, nothing to copy", "set", True),
        ("hit", "hit", False),
        ("set", "set", False),
    ):
        if kind == "hit":
            meter.store(10, empty)
        work = {side: partial(meter.play_one, kind, side == "shadow", 200, empty) for side in ("shadow", "bare")}
        times = interleaved(work, rounds)
        found[name] = statistics.median(a - b for a, b in zip(times["shadow"], times["bare"], strict=True)) / 1e3
    return found


def bench_growth(most: int, tell: Callable[[str], None] = lambda text: None) -> list[dict[str, float]]:
    """Play searches up to so many operations and look at every power of ten from 10^4.

    A machine is faster at one moment than at another, so at each of them the pair plays by turns with a young one.

    Args:
        most: Operations.
        tell: Is told how far this is.

    Returns:
        Per power of ten: operations, microseconds per operation then, how much longer one takes than on the young pair,
        resident bytes.
    """
    meter, young = Meter(), Meter()
    while young.searched < _YOUNG:
        young.search()
    found = []
    target = _YOUNG
    while target <= most:
        while meter.searched < target:
            meter.search()
            if not meter.searched % 17_000:  # each search is 85 operations
                tell(f"growth: {meter.searched:,} of {most:,} operations")
        done, resident = meter.searched, _resident()
        times = interleaved({"grown": meter.search, "young": young.search}, 61)
        found.append(
            {
                "operations": done,
                "us_per_op": statistics.median(times["grown"]) / 1e3,
                "per_young": ratio(times, "grown", "young"),
                "resident": resident,
            }
        )
        target *= 10
    meter.check()
    return found


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not on Linux
        return float("nan")
    return float(pages * 4096)

"""Are a rank's windows all there, in their order, by a clock that goes forward?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


class Order:
    """Watches the ordinals of windows, which each pair counts from 0, and their times."""

    def __init__(self) -> None:
        self._following: dict[str, int] = {}
        self._n_missing: dict[str, int] = {}
        self._disordered: set[str] = set()
        self._latest_s: dict[str, float] = {}
        self._backwards: dict[str, str] = {}

    def saw(self, cache: str, seqs: Sequence[int], times_s: Sequence[float]) -> None:
        """Note the next windows of a pair."""
        self._saw_times(cache, times_s)
        expected = self._following.get(cache, 0)
        if seqs == list(range(expected, expected + len(seqs))):
            self._following[cache] = expected + len(seqs)
            return
        for seq in seqs:
            self._saw(cache, seq)

    def _saw_times(self, cache: str, times_s: Sequence[float]) -> None:
        times_s = [self._latest_s.get(cache, 0.0), *times_s]
        self._latest_s[cache] = times_s[-1]
        if times_s != sorted(times_s):
            for latest, t_s in pairwise(times_s):
                if t_s < latest:
                    self._backwards[cache] = f"from {latest:.6g} s to {t_s:.6g} s"

    def _saw(self, cache: str, seq: int) -> None:
        expected = self._following.get(cache, 0)
        if seq == expected:
            self._following[cache] = seq + 1
        elif seq < expected:
            self._disordered.add(cache)
        else:
            self._n_missing[cache] = self._n_missing.get(cache, 0) + seq - expected
            self._following[cache] = seq + 1

    def gaps(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        caches = [*self._latest_s]  # in the order of their first windows, whatever was noted first
        gaps = [
            f"{count} window{'s' * (count != 1)} of {cache!r:.60} missing before its last"
            for cache in caches
            if (count := self._n_missing.get(cache))
        ]
        gaps += [
            f"the clock of {cache!r:.60} goes backwards, {self._backwards[cache]}"
            for cache in caches
            if cache in self._backwards
        ]
        return gaps + [
            f"windows of {cache!r:.60} are repeated or out of order" for cache in caches if cache in self._disordered
        ]

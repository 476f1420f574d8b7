"""The windows of one rank, pair by pair: are they all there, what are their names, what do they add up to?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from reports.order import Order
from reports.short import Full, Names, Short
from reports.thinning import MOST, Thinned
from validator.histogram import total
from validator.run import Timed

Line = dict[str, Any]
_LIKE, _COUNTS = attrgetter("like"), attrgetter("counts")


class Windows:
    """Takes in the lines of windows, whose counts have been checked.

    Args:
        most: Half of how many windows of a pair are kept apart.
        with_latency: Whether windows keep their latencies; else only what they add up to.

    Attributes:
        timed: What both sides took, window by window of those that have latencies.
    """

    def __init__(self, most: int = MOST, with_latency: bool = True) -> None:
        self.timed: list[Timed] = []
        self._most = most
        self._with_latency = with_latency
        self._order = Order()
        self._thinned: dict[str, Thinned] = {}
        self._names: dict[str, Names] = {}

    def take(self, windows: Sequence[Any]) -> list[Any]:
        """Take in the windows that follow, ``Full`` or like ``Short``; return those whose names are unknown."""
        unread: list[Any] = []
        caches = [window.cache for window in windows]
        for cache in dict.fromkeys(caches):
            own = windows
            if caches.count(cache) < len(caches):
                own = [window for window in windows if window.cache == cache]
            self._thinned.setdefault(cache, Thinned(self._most))
            for like, together in groupby(own, _LIKE):
                run = list(together)
                if like is None:
                    self._take_full(cache, run)
                else:
                    unread += self._take_short(cache, like, run)
        return unread

    def lines(self) -> list[Line]:
        """Return the windows so far; neighbours added up where they are very many."""
        return [line for thinned in self._thinned.values() for line in thinned.lines()]

    def gaps(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        return self._order.gaps()

    def _take_full(self, cache: str, windows: Sequence[Full]) -> None:
        for window in windows:
            line = window.line
            self._order.saw(cache, [line["seq"]], [line["t_s"]])
            if latency := line.get("latency_ns"):  # a window with latencies is never in short
                self.timed.append(_timed(latency))
                if not self._with_latency:
                    del line["latency_ns"]
            self._names[cache] = names = Names.of(line, self._names.get(cache))
            self._thinned[cache].add(line, names)

    def _take_short(self, cache: str, like: int, windows: Sequence[Short]) -> Sequence[Short]:
        names = self._names.get(cache)
        if names is None or names.seq != like:
            return windows
        unread: Sequence[Short] = ()
        if set(map(len, map(_COUNTS, windows))) != {len(names.names)}:
            unread = [window for window in windows if len(window.counts) != len(names.names)]
            windows = [window for window in windows if len(window.counts) == len(names.names)]
        self._order.saw(cache, [window.seq for window in windows], [window.t_s for window in windows])
        self._thinned[cache].add_short(windows, names)
        return unread


def _timed(latency: dict[str, dict[str, int]]) -> Timed:
    sides = [[h for name, h in latency.items() if name.partition(".")[0] == side] for side in ("control", "candidate")]
    (control_ns, n_control), (candidate_ns, n_candidate) = map(total, sides)
    return Timed(control_ns, candidate_ns, min(n_control, n_candidate))

"""The windows of one rank, pair by pair: are they all there, what are their names, what do they add up to?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from reports.order import Order
from reports.short import Names
from reports.thinning import MOST, Thinned
from validator.histogram import total
from validator.run import Timed

Line = dict[str, Any]


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

    def take(self, windows: Sequence[Line]) -> list[Line]:
        """Take in the windows that follow; return those that can't be read, because their names are not there."""
        unread: list[Line] = []
        caches = dict.fromkeys([window["cache"] for window in windows])
        for cache in caches:
            own = windows if len(caches) == 1 else [window for window in windows if window["cache"] == cache]
            self._thinned.setdefault(cache, Thinned(self._most))
            begin = 0
            for like, together in groupby([window.get("like") for window in own]):
                run = own[begin : begin + sum(1 for _ in together)]
                begin += len(run)
                unread += self._take_full(cache, run) if like is None else self._take_short(cache, like, run)
        return unread

    def lines(self) -> list[Line]:
        """Return the windows so far; neighbours added up where they are very many."""
        return [line for thinned in self._thinned.values() for line in thinned.lines()]

    def gaps(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        return self._order.gaps()

    def _take_full(self, cache: str, windows: Sequence[Line]) -> Sequence[Line]:
        for window in windows:
            self._order.saw(cache, [window["seq"]], [window["t_s"]])
            if latency := window.get("latency_ns"):  # a window with latencies is never in short
                self.timed.append(_timed(latency))
                if not self._with_latency:
                    del window["latency_ns"]
            self._names[cache] = Names.of(window, self._names.get(cache))
            self._thinned[cache].add(window)
        return ()

    def _take_short(self, cache: str, like: int, windows: Sequence[Line]) -> Sequence[Line]:
        names = self._names.get(cache)
        if names is None or names.seq != like:
            return windows
        unread: Sequence[Line] = ()
        if {len(window["counts"]) for window in windows} != {len(names.names)}:
            unread = [window for window in windows if len(window["counts"]) != len(names.names)]
            windows = [window for window in windows if len(window["counts"]) == len(names.names)]
        self._order.saw(cache, [window["seq"] for window in windows], [window["t_s"] for window in windows])
        self._thinned[cache].add_short(windows, names)
        return unread


def _timed(latency: dict[str, dict[str, int]]) -> Timed:
    times, counts = {"control": 0.0, "candidate": 0.0}, {"control": 0, "candidate": 0}
    for name, histogram in latency.items():
        side = name.partition(".")[0]
        if side in times:
            times[side] += total(histogram)
            counts[side] += sum(histogram.values())
    return Timed(times["control"], times["candidate"], min(counts.values()))

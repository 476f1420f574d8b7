"""The windows of one rank, pair by pair: are they all there, what are their names, what do they add up to?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from reports.order import Order
from reports.short import Names
from reports.thinning import Thinned

Line = dict[str, Any]


class Windows:
    """Takes in the lines of windows, whose counts have been checked."""

    def __init__(self) -> None:
        self._order = Order()
        self._thinned: dict[str, Thinned] = {}
        self._names: dict[str, Names] = {}

    def take(self, windows: Sequence[Line]) -> list[Line]:
        """Take in the windows that follow; return those that can't be read, because their names are not there."""
        unread: list[Line] = []
        caches = dict.fromkeys([window["cache"] for window in windows])
        for cache in caches:
            own = windows if len(caches) == 1 else [window for window in windows if window["cache"] == cache]
            self._thinned.setdefault(cache, Thinned())
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
            self._order.saw(cache, [window["seq"]])
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
        self._order.saw(cache, [window["seq"] for window in windows])
        self._thinned[cache].add_short(windows, names)
        return unread

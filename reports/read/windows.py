"""The windows of one rank, pair by pair: are they all there, in their order, and what is kept of them?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reports.record.records import Window
from reports.record.totals import Timed, joined

MOST = 2048
_AT_ONCE = 64  # windows that are added up in one go, at most


@dataclass(slots=True)
class _Pair:
    """What was taken in of one pair.

    Attributes:
        windows: What is kept of it, each the sum of ``each`` windows.
        last: The ``in_last`` windows after those, some of them added up.
        following: Ordinal of the window that comes next; a pair counts its windows from 0.
        n_missing: Windows that are missing before it.
        is_disordered: Whether one came twice, or after a later one.
        n_otherwise: Windows that say they took what their own latencies don't add up to.
        latest_s: When the last one ended.
        backwards: From when to when the clock went backwards, or empty.
    """

    windows: list[Window] = field(default_factory=list)
    last: list[Window] = field(default_factory=list)
    each: int = 1
    in_last: int = 0
    following: int = 0
    n_missing: int = 0
    is_disordered: bool = False
    n_otherwise: int = 0
    latest_s: float = 0.0
    backwards: str = ""

    def saw(self, window: Window) -> None:
        """Note the ordinal and the time of the next window."""
        if window.t_s < self.latest_s:
            self.backwards = f"from {self.latest_s:.6g} s to {window.t_s:.6g} s"
        self.latest_s = window.t_s
        if window.seq < self.following:
            self.is_disordered = True
        else:
            self.n_missing += window.seq - self.following
            self.following = window.seq + 1


class Windows:
    """Takes in windows, whose counts have been checked.

    A pair writes fewer than 2,500 in a week; of older versions, or in a file that nobody vouches for, there may be any
    number, and then neighbours are added up, so that memory is bounded.

    Args:
        most: Half of how many windows of a pair are kept apart.
        with_latency: Whether windows keep their latencies; else there is only ``timed`` of them.

    Attributes:
        timed: What both sides took, window by window of those that have latencies.
        with_latency: As given.
    """

    def __init__(self, most: int = MOST, with_latency: bool = True) -> None:
        self.timed: list[Timed] = []
        self._most = most
        self.with_latency = with_latency
        self._pairs: dict[str, _Pair] = {}

    def add(self, window: Window, said: Sequence[Any] = ()) -> None:
        """Take in the window that follows.

        Args:
            window: The window; it is this one's from now on.
            said: What both sides took in it, by its own line; empty where that does not say.
        """
        kept = self._pairs.setdefault(window.cache, _Pair())
        kept.saw(window)
        took = timed(window)
        kept.n_otherwise += bool(said and took and took != [(*said,)])
        self.timed += [Timed(*said)] if said else took
        if not self.with_latency:
            window.latency_ns.clear()
        kept.last.append(window)
        kept.in_last += 1
        if kept.in_last == kept.each or len(kept.last) == _AT_ONCE:
            kept.last = [joined(kept.last)]
        if kept.in_last == kept.each:
            kept.windows += kept.last
            kept.last, kept.in_last = [], 0
            if len(kept.windows) == 2 * self._most:
                kept.windows = [joined(two) for two in zip(kept.windows[::2], kept.windows[1::2], strict=True)]
                kept.each *= 2

    def kept(self) -> list[Window]:
        """Return the windows so far, pair by pair."""
        for kept in self._pairs.values():
            kept.last = [joined(kept.last)] if kept.last else []
        return [window for kept in self._pairs.values() for window in (*kept.windows, *kept.last)]

    def is_covered(self, window: Window) -> bool:
        """Say whether this window, or one after it, has been taken in."""
        return window.cache in self._pairs and window.seq < self._pairs[window.cache].following

    def gaps(self, then: Iterable[Window] = ()) -> list[str]:
        """Name windows that are missing, repeated or out of order, where these come after those taken in."""
        pairs = {cache: replace(pair) for cache, pair in self._pairs.items()}
        for window in then:
            pairs.setdefault(window.cache, _Pair()).saw(window)
        found = []
        for cache, pair in pairs.items():
            if pair.n_missing:
                found.append(
                    f"{pair.n_missing} window{'s' * (pair.n_missing != 1)} of {cache!r:.60} missing before its last"
                )
            if pair.backwards:
                found.append(f"the clock of {cache!r:.60} goes backwards, {pair.backwards}")
            if pair.n_otherwise:
                found.append(f"{pair.n_otherwise} windows of {cache!r:.60} took what their latencies don't add up to")
            if pair.is_disordered:
                found.append(f"windows of {cache!r:.60} are repeated or out of order")
        return found


def timed(window: Window) -> list[Timed]:
    """Return what both sides took in a window, if it has latencies."""
    return [Timed.of(window.latency_ns)] if window.latency_ns else []

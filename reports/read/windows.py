"""The windows of one rank, pair by pair: are they all there, and what is kept of them?"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from reports.read.gaps import Gaps
from reports.record.histogram import total
from reports.record.records import Window
from reports.record.totals import Timed, joined

MOST = 2048


@dataclass(slots=True)
class _Kept:
    """Windows of one pair, each the sum of equally many but the last."""

    windows: list[Window] = field(default_factory=list)
    each: int = 1
    in_last: int = 1


class Windows:
    """Takes in windows, whose counts have been checked.

    A pair writes fewer than 2,500 in a week; of older versions, or in a file that nobody vouches for, there may be any
    number, and then neighbours are added up, so that memory is bounded.

    Args:
        most: Half of how many windows of a pair are kept apart.
        with_latency: Whether windows keep their latencies; else there is only ``timed`` of them.

    Attributes:
        timed: What both sides took, window by window of those that have latencies.
    """

    def __init__(self, most: int = MOST, with_latency: bool = True) -> None:
        self.timed: list[Timed] = []
        self._most = most
        self._with_latency = with_latency
        self._gaps = Gaps()
        self._pairs: dict[str, _Kept] = {}

    def add(self, window: Window) -> None:
        """Take in the window that follows."""
        self._gaps.saw(window)
        self.timed += timed(window)
        if not self._with_latency:
            window = replace(window, latency_ns={})
        kept = self._pairs.setdefault(window.cache, _Kept())
        if kept.in_last < kept.each:
            kept.windows[-1] = joined((kept.windows[-1], window))
            kept.in_last += 1
            return
        if len(kept.windows) == 2 * self._most:
            kept.windows = [joined(two) for two in zip(kept.windows[::2], kept.windows[1::2], strict=True)]
            kept.each *= 2
        kept.windows.append(window)
        kept.in_last = 1

    def kept(self) -> list[Window]:
        """Return the windows so far, pair by pair."""
        return [window for kept in self._pairs.values() for window in kept.windows]

    def is_covered(self, window: Window) -> bool:
        """Say whether this window, or one after it, has been taken in."""
        return window.seq < self._gaps.following(window.cache)

    def gaps(self, then: Iterable[Window] = ()) -> list[str]:
        """Name windows that are missing, repeated or out of order, where these come after those taken in."""
        gaps = copy.deepcopy(self._gaps)
        for window in then:
            gaps.saw(window)
        return gaps.sentences()


def timed(window: Window) -> list[Timed]:
    """Return what both sides took in a window, if it has latencies."""
    if not (latency := window.latency_ns):
        return []
    sides = [[h for name, h in latency.items() if name.partition(".")[0] == side] for side in ("control", "candidate")]
    (control_ns, n_control), (candidate_ns, n_candidate) = map(total, sides)
    return [Timed(control_ns, candidate_ns, min(n_control, n_candidate))]

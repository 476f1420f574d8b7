"""Live figures for a TensorBoard writer that the host already has; fed by windows, never by the hot path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.record.histogram import percentile
from reports.record.records import Window
from reports.record.totals import Totals

_EVERY_S = 15.0  # at least between two points, and this share of the run so far: curves stay small, however long it is
_SHARE = 0.01


class LiveFigures:
    """Writes windows as scalars under ``KVLockstep/``: the first at once, later ones added up to a point now and then.

    Args:
        tb_logger: A ``SummaryWriter`` of any make: all that is asked of it is ``add_scalar(tag, value, step)``.
    """

    def __init__(self, tb_logger: Any) -> None:
        self._add = tb_logger.add_scalar
        self._waiting: dict[str, Totals] = {}
        self._shown_s: dict[str, float] = {}

    def __call__(self, window: Window, *, last: bool = False, now: bool = True) -> None:
        """Take in one window; show it and those that wait, if it is time or the last of its pair.

        They are shown at its env step, or at its ordinal where the host counts none. ``now`` is whether anything may be
        shown: in the host's own thread.
        """
        cache = window.cache
        totals = self._waiting.setdefault(cache, Totals())
        totals.add(window)
        shown_s = self._shown_s.get(cache)
        if not now or (not last and shown_s is not None and window.t_s < shown_s + max(_EVERY_S, _SHARE * window.t_s)):
            return
        del self._waiting[cache]
        self._shown_s[cache] = window.t_s
        step = window.env_step if window.env_step >= 0 else window.seq
        for name, value in _figures(totals, window.t_s - (shown_s or 0.0)):
            self._add(f"KVLockstep/{cache}/{name}", value, step)


def _figures(totals: Totals, elapsed_s: float) -> Iterator[tuple[str, float]]:
    for outcome, count in totals.outcomes().items():
        yield f"lookups/{outcome}", float(count)
    for side, rate in totals.hit_rate().items():
        if rate is not None:
            yield f"hit_rate/{side}", rate
    yield "divergences", float(totals.n_divergences)
    for name, counts in totals.latency_ns.items():
        median_ns = percentile(counts, 0.5)
        if median_ns is not None:
            yield f"latency_us_p50/{name}", median_ns / 1e3
    if elapsed_s > 0:
        yield "overhead_share_of_wall", totals.harness_ns / 1e9 / elapsed_s

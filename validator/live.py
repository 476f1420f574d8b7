"""Live figures for a TensorBoard writer that the host already has; fed by windows, never by the hot path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from validator.histogram import percentile
from validator.records import Window
from validator.run import fold


class LiveFigures:
    """Writes each window as scalars under ``KVLockstep/``.

    Args:
        tb_logger: A ``SummaryWriter`` of any make: all that is asked of it is ``add_scalar(tag, value, step)``.
    """

    def __init__(self, tb_logger: Any) -> None:
        self._add = tb_logger.add_scalar
        self._last_s: dict[str, float] = {}

    def __call__(self, window: Window) -> None:
        """Show one window, at its env step, or at its ordinal where the host counts none."""
        step = window.env_step if window.env_step >= 0 else window.seq
        for name, value in self._figures(window):
            self._add(f"KVLockstep/{window.cache}/{name}", value, step)

    def _figures(self, window: Window) -> Iterator[tuple[str, float]]:
        totals = fold([window])
        for outcome, count in totals.outcomes().items():
            yield f"lookups/{outcome}", float(count)
        for side, rate in totals.hit_rate().items():
            if rate is not None:
                yield f"hit_rate/{side}", rate
        yield "divergences", float(totals.n_divergences)
        for name, counts in window.latency_ns.items():
            median_ns = percentile(counts, 0.5)
            if median_ns is not None:
                yield f"latency_us_p50/{name}", median_ns / 1e3
        began_s = self._last_s.get(window.cache, 0.0)
        self._last_s[window.cache] = window.t_s
        if window.t_s > began_s:
            yield "overhead_share_of_wall", window.harness_ns / 1e9 / (window.t_s - began_s)

"""Very many windows in bounded memory: neighbours of one pair are added up once there are too many of them."""

from __future__ import annotations

from typing import Any

from validator.run import add_counts

MOST = 1024
_COUNTS = ("ops", "divergences", "coverage", "envs", "dropped")
_TABLES = ("lookups", "latency_ns")

Line = dict[str, Any]


class Thinned:
    """Windows of one pair, as lines; at most ``2 * most`` of them, each the sum of equally many but the last.

    Args:
        most: Half of how many lines are kept.

    Attributes:
        lines: The windows; single ones are the lines as they were given.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.lines: list[Line] = []
        self._each = 1
        self._in_last = 0

    def add(self, line: Line) -> None:
        """Add the line of one window, whose counts have been checked."""
        if self.lines and self._in_last < self._each:
            _merge(self.lines[-1], line)
            self._in_last += 1
            return
        if len(self.lines) == 2 * self._most:
            for into, line_after in zip(self.lines[::2], self.lines[1::2], strict=True):
                _merge(into, line_after)
            self.lines = self.lines[::2]
            self._each *= 2
        self.lines.append(line)
        self._in_last = 1


def _merge(into: Line, line: Line) -> None:
    """Add the window that follows."""
    for name in _COUNTS:
        if counts := line.get(name):
            add_counts(into.setdefault(name, {}), counts)
    for name in _TABLES:
        if tables := line.get(name):
            have = into.setdefault(name, {})
            for part, counts in tables.items():
                if part in have:
                    add_counts(have[part], counts)
                else:
                    have[part] = counts
    into["harness_ns"] = into.get("harness_ns", 0) + line.get("harness_ns", 0)
    into["t_s"] = max(into["t_s"], line["t_s"])
    if held := line.get("bytes_held"):
        into["bytes_held"] = held
    for name in ("train_iter", "env_step"):
        if (moved := line.get(name, -1)) >= 0:
            into[name] = moved

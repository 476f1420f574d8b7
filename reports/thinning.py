"""Very many windows in bounded memory: neighbours of one pair are added up once there are too many of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.short import HELD, Name, Names
from validator.run import add_counts

MOST = 1024
_MOST_WAITING = 128
_PROGRESS = ("train_iter", "env_step")
_COUNTS = ("ops", "divergences", "coverage", "envs", "dropped")
_TABLES = ("lookups", "latency_ns")

Line = dict[str, Any]


class Thinned:
    """Windows of one pair, as lines; at most ``2 * most`` of them, each the sum of equally many but the last.

    Args:
        most: Half of how many lines are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lines: list[Line] = []
        self._each = 1
        self._in_last = 0
        self._names: tuple[Name, ...] = ()
        self._waiting: list[Line] = []  # short windows that are not in the last line yet

    def add(self, line: Line) -> None:
        """Add the line of one window, whose counts have been checked."""
        if self._lines and self._in_last < self._each:
            self._settle()
            _merge(self._lines[-1], line)
            self._in_last += 1
        else:
            self._begin(line)

    def add_short(self, lines: Sequence[Line], names: Names) -> None:
        """Add lines of windows in short, which follow each other; very many are added up column by column."""
        if self._names is not names.names or len(self._waiting) >= _MOST_WAITING:
            self._settle()
            self._names = names.names
        done = 0
        while done < len(lines):
            room = self._each - self._in_last if self._lines else 0
            if room:
                part = lines[done : done + room]
                self._waiting += part
                self._in_last += len(part)
                done += len(part)
            else:
                self._begin(names.expand(lines[done]))
                done += 1

    def lines(self) -> list[Line]:
        """Return the windows so far; single ones are the lines as they were given."""
        self._settle()
        return self._lines

    def _begin(self, line: Line) -> None:
        self._settle()
        if len(self._lines) == 2 * self._most:
            for into, line_after in zip(self._lines[::2], self._lines[1::2], strict=True):
                _merge(into, line_after)
            self._lines = self._lines[::2]
            self._each *= 2
        self._lines.append(line)
        self._in_last = 1

    def _settle(self) -> None:
        """Add the short windows that wait to the last line."""
        if not self._waiting:
            return
        into = self._lines[-1]
        rows = [line["counts"] for line in self._waiting]
        for (table, part, name), column in zip(self._names, zip(*rows, strict=True), strict=True):
            if count := column[-1] if table == HELD else sum(column):
                counts = into.setdefault(table, {})
                counts = counts.setdefault(part, {}) if part else counts
                counts[name] = count if table == HELD else counts.get(name, 0) + count
        into["harness_ns"] = into.get("harness_ns", 0) + sum([line.get("harness_ns", 0) for line in self._waiting])
        into["t_s"] = max(into["t_s"], max([line["t_s"] for line in self._waiting]))
        for name in _PROGRESS:
            if moved := [reached for line in self._waiting if (reached := line.get(name, -1)) >= 0]:
                into[name] = moved[-1]
        self._waiting = []


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
    if held := line.get(HELD):
        into[HELD] = held
    into["harness_ns"] = into.get("harness_ns", 0) + line.get("harness_ns", 0)
    into["t_s"] = max(into["t_s"], line["t_s"])
    for name in _PROGRESS:
        if (moved := line.get(name, -1)) >= 0:
            into[name] = moved

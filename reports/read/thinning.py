"""Very many windows in bounded memory: neighbours of one pair are added up once there are too many of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import Any

from reports.columns import Columns
from reports.record.totals import add_counts
from reports.short import HELD, Names

MOST = 1024
_PROGRESS = ("train_iter", "env_step")
_COUNTS = ("ops", "divergences", "coverage", "envs", "dropped")
_LOOKUPS, _LATENCY = "lookups", "latency_ns"
_KEPT = ("cache", "seq", "t_s", "harness_ns", *_PROGRESS, _LATENCY)

Line = dict[str, Any]


@dataclass(slots=True)
class _Sum:
    """Windows of one pair that follow each other, added up; counts column by column as long as the names are the same.

    Attributes:
        line: The sum as the line of one window; without tables of counts where ``names`` has their names.
        names: What ``counts`` stand for, None if ``line`` has all.
        counts: The numbers.
    """

    line: Line
    names: Names | None = None
    counts: list[int] = field(default_factory=list)

    @classmethod
    def of_full(cls, line: Line, names: Names) -> _Sum:
        """Return the sum of one window; what has a name and no number can only stay as it is."""
        counts = names.counts(line)
        if not (all(counts) and all(line.get(_LOOKUPS, {}).values())):
            return cls(line)
        return cls({name: line[name] for name in _KEPT if name in line}, names, counts)

    @classmethod
    def of_short(cls, windows: Columns, names: Names) -> _Sum:
        """Return the sum of windows in short."""
        line = {"cache": windows.cache, "seq": windows.seq[0], "t_s": max(windows.t_s)}
        line["harness_ns"] = sum(windows.harness_ns)
        line["train_iter"] = next((number for number in reversed(windows.train_iter) if number >= 0), -1)
        line["env_step"] = next((number for number in reversed(windows.env_step) if number >= 0), -1)
        counts = windows.sums()
        for place, count in zip(names.held, windows.last(names.held), strict=True):
            counts[place] = count
        return cls(line, names, counts)

    def whole(self) -> Line:
        """Return the sum as the line of one window, with everything in it."""
        return {**self.line, **self.names.tables(self.counts)} if self.names else self.line

    def add(self, after: _Sum) -> None:
        """Add windows that follow."""
        if self.names and after.names and self.names.names is after.names.names:
            held = after if any(after.counts[place] for place in self.names.held) else self
            last = [held.counts[place] for place in self.names.held]
            self.counts = [*map(add, self.counts, after.counts)]
            for place, count in zip(self.names.held, last, strict=True):
                self.counts[place] = count
            _merge(self.line, after.line)
        else:
            self.line, self.names = self.whole(), None
            _merge(self.line, after.whole())


class Thinned:
    """Windows of one pair, as lines; at most ``2 * most`` of them, each the sum of equally many but the last.

    Args:
        most: Half of how many lines are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._sums: list[_Sum] = []
        self._each = 1
        self._in_last = 1

    def add(self, line: Line, names: Names) -> None:
        """Add the line of one window, whose counts have been checked, and which has these names."""
        self._add(_Sum.of_full(line, names), 1)

    def add_short(self, windows: Columns, names: Names) -> None:
        """Add windows in short."""
        done = 0
        while done < len(windows.seq):
            part = windows.part(done, done + (self._each - self._in_last or self._each))
            self._add(_Sum.of_short(part, names), len(part.seq))
            done += len(part.seq)

    def lines(self) -> list[Line]:
        """Return the windows so far."""
        return [one.whole() for one in self._sums]

    def _add(self, windows: _Sum, count: int) -> None:
        if self._in_last < self._each:
            self._sums[-1].add(windows)
            self._in_last += count
            return
        if len(self._sums) == 2 * self._most:
            for into, after in zip(self._sums[::2], self._sums[1::2], strict=True):
                into.add(after)
            self._sums = self._sums[::2]
            self._each *= 2
        self._sums.append(windows)
        self._in_last = count


def _merge(into: Line, line: Line) -> None:
    """Add the window that follows."""
    for name in _COUNTS:
        if counts := line.get(name):
            add_counts(into.setdefault(name, {}), counts)
    for name in (_LOOKUPS, _LATENCY):
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

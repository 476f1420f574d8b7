"""A window on disk in short: where an earlier one has all its names, its numbers alone, a third of the bytes.

In a long run the same names come in every window. At least one in ``FULL_EVERY`` is written in full, and so is one with
histograms; those of that pair after it say ``like``, the ordinal of that full one, and ``counts``, their numbers in the
order of its names, 0 where they have none. So a full line that is damaged costs the few windows after it, no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HELD = "bytes_held"
FULL_EVERY = 1024
_TABLES = ("ops", "divergences", "coverage", "envs", "dropped", HELD)
_NESTED = "lookups"
_KEPT = ("t_s", "cache", "seq", "harness_ns", "train_iter", "env_step")

Line = Mapping[str, Any]
Name = tuple[str, str, str]  # table; part of it, empty where it has none; name


@dataclass(slots=True)
class Short:
    """A window in short, whose numbers have been checked; msgspec decodes to a type of its own with these attributes.

    Attributes:
        like: Ordinal of the full window that has its names.
        counts: Its numbers, in the order of these names.
    """

    cache: str
    seq: int
    t_s: float
    like: int
    counts: list[int]
    harness_ns: int = 0
    train_iter: int = -1
    env_step: int = -1

    @classmethod
    def of(cls, line: Line) -> Short:
        """Return a window from a line in short, which has been checked."""
        return cls(**{name: line[name] for name in cls.__slots__ if name in line})


@dataclass(slots=True)
class Full:
    """A window in full.

    Attributes:
        line: All of it.
        like: None: it needs no other's names.
    """

    cache: str
    line: dict[str, Any]
    like: None = None

    @classmethod
    def of(cls, line: dict[str, Any]) -> Full:
        """Return a window from a line in full, which has been checked."""
        return cls(line["cache"], line)


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of short windows stand for.

    Attributes:
        seq: Ordinal of the full window that has these names.
        names: Its names, in order.
        held: Where among them those of bytes held are, which are not added up.
    """

    seq: int
    names: tuple[Name, ...]
    held: tuple[int, ...]

    @classmethod
    def of(cls, line: Line, before: Names | None = None) -> Names:
        """Return the names of a full window.

        Args:
            line: The window, whose tables have been checked.
            before: Those of an earlier one; where they are the same, the very same tuple is returned.
        """
        names = tuple(name for name, _ in _counts(line))
        if before and before.names == names:
            return cls(line["seq"], before.names, before.held)
        return cls(line["seq"], names, tuple(place for place, (table, _, _) in enumerate(names) if table == HELD))

    def counts(self, line: Line) -> list[int]:
        """Return the numbers of a full window that has these names, in their order."""
        return [count for _, count in _counts(line)]

    def shorten(self, line: Line) -> dict[str, Any] | None:
        """Return a later window of the same pair in short, or None where that would not say the same."""
        found = dict(_counts(line))
        counts = [found.get(name, 0) for name in self.names]
        short = {**{name: line[name] for name in _KEPT}, "like": self.seq, "counts": counts}
        same = not line.get("latency_ns") and self.tables(counts) == {
            table: line[table] for table in (*_TABLES, _NESTED) if line.get(table)
        }
        # What is held is no difference: readers take the last number, so there must be one.
        return short if same and all(counts[place] for place in self.held) else None

    def tables(self, counts: Sequence[int]) -> dict[str, Any]:
        """Return tables with these counts, without those that are 0."""
        tables: dict[str, Any] = {}
        for (table, part, name), count in zip(self.names, counts, strict=True):
            if count:
                into = tables.setdefault(table, {})
                (into.setdefault(part, {}) if part else into)[name] = count
        return tables


class Shortener:
    """Writes windows in short where it can; remembers the last full one of each pair."""

    def __init__(self) -> None:
        self._full: dict[str, Names] = {}

    def line(self, window: Line) -> dict[str, Any]:
        """Return what to write of a window."""
        cache = window["cache"]
        full = self._full.get(cache)
        if full and window["seq"] < full.seq + FULL_EVERY and (short := full.shorten(window)):
            return short
        self._full[cache] = Names.of(window)
        return {name: value for name, value in window.items() if value != {}}

    def forget(self) -> None:
        """Write the next window of each pair in full."""
        self._full = {}


def _counts(line: Line) -> Iterator[tuple[Name, int]]:
    for table in _TABLES:
        for name, count in line.get(table, {}).items():
            yield (table, "", name), count
    for part, counts in line.get(_NESTED, {}).items():
        for name, count in counts.items():
            yield (_NESTED, part, name), count

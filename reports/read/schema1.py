"""What does a window in short say, as version 0.1 wrote most of them? Its numbers alone, in an earlier one's order.

``like`` is the ordinal of the last full window of the pair before it, and ``counts`` are the numbers, in the order of
the names there; a 0 says that the name is absent. Read, never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TABLES = ("ops", "divergences", "coverage", "envs", "dropped", "bytes_held")  # in this order, then lookups

Line = Mapping[str, Any]


class InFull:
    """Turns the lines of one rank's windows, which have been checked, into lines in full."""

    def __init__(self) -> None:
        self._full: dict[str, Line] = {}

    def of(self, line: Line) -> Line:
        """Return a window in full.

        Raises:
            ValueError: If the one that it is like is not the last full one before it.
        """
        if "like" not in line:
            self._full[line["cache"]] = line
            return line
        full = self._full.get(line["cache"], {})
        names = [*_names(full)]
        if full.get("seq") != line["like"] or len(names) != len(line["counts"]):
            raise ValueError("no window that can be understood without an earlier one, which can't be read")
        tables: dict[str, Any] = {}
        for (table, part, name), count in zip(names, line["counts"], strict=True):
            if count:
                into = tables.setdefault(table, {})
                (into.setdefault(part, {}) if part else into)[name] = count
        return {**line, **tables}


def _names(line: Line) -> Iterator[tuple[str, str, str]]:
    for table in _TABLES:
        yield from ((table, "", name) for name in line.get(table, ()))
    for part, counts in line.get("lookups", {}).items():
        yield from (("lookups", part, name) for name in counts)

"""The windows of one rank, pair by pair: are they all there, what are their names, what do they add up to?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

from reports.columns import Columns
from reports.read.order import Order
from reports.read.thinning import MOST, Thinned
from reports.record.histogram import total
from reports.record.totals import Timed
from reports.short import Full, Names, Short

Line = dict[str, Any]
Lines = tuple[list[int], Columns | Full]  # their numbers, and what stands in them


class Windows:
    """Takes in the lines of windows, whose counts have been checked.

    Args:
        most: Half of how many windows of a pair are kept apart.
        with_latency: Whether windows keep their latencies; else only what they add up to.

    Attributes:
        timed: What both sides took, window by window of those that have latencies.
    """

    def __init__(self, most: int = MOST, with_latency: bool = True) -> None:
        self.timed: list[Timed] = []
        self._most = most
        self._with_latency = with_latency
        self._order = Order()
        self._thinned: dict[str, Thinned] = {}
        self._names: dict[str, Names] = {}

    def take(self, tables: Sequence[Columns], others: Mapping[int, Full | Short]) -> list[int]:
        """Take in the windows that follow.

        Args:
            tables: Windows in short, many at once.
            others: Others between them, by the numbers of their lines.

        Returns:
            The numbers of the lines that mean names which are unknown, ascending.
        """
        unread: list[int] = []
        for numbers, own in _in_order(tables, others):
            if own.cache not in self._thinned:
                self._thinned[own.cache] = Thinned(self._most)
            if isinstance(own, Full):
                self._take_full(own.cache, own.line)
            elif not self._take_short(own):
                unread += numbers
        return sorted(unread)

    def lines(self) -> list[Line]:
        """Return the windows so far; neighbours added up where they are very many."""
        return [line for thinned in self._thinned.values() for line in thinned.lines()]

    def gaps(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        return self._order.gaps()

    def _take_full(self, cache: str, line: Line) -> None:
        self._order.saw(cache, [line["seq"]], [line["t_s"]])
        if latency := line.get("latency_ns"):  # a window with latencies is never in short
            self.timed.append(_timed(latency))
            if not self._with_latency:
                del line["latency_ns"]
        self._names[cache] = names = Names.of(line, self._names.get(cache))
        self._thinned[cache].add(line, names)

    def _take_short(self, windows: Columns) -> bool:
        names = self._names.get(windows.cache)
        if names is None or names.seq != windows.like or len(names.names) != windows.n_names:
            return False
        self._order.saw(windows.cache, windows.seq, windows.t_s)
        self._thinned[windows.cache].add_short(windows, names)
        return True


def _in_order(tables: Sequence[Columns], others: Mapping[int, Full | Short]) -> list[Lines]:
    """Put windows in the order of their lines; windows between which another one of their pair stands are parted."""
    found: dict[str, list[Lines]] = defaultdict(list)
    for table in tables:
        found[table.cache].append((table.numbers, table))
    alike: dict[tuple[str, int, int], dict[int, Short]] = defaultdict(dict)
    for number, one in others.items():
        if isinstance(one, Full):
            found[one.cache].append(([number], one))
        else:
            alike[one.cache, one.like, len(one.counts)][number] = one
    for (cache, _, _), windows in alike.items():
        found[cache].append(([*windows], Columns.of(windows)))
    parts: list[Lines] = []
    for own in found.values():
        own.sort(key=_first)
        apart = all(before[-1] < after[0] for (before, _), (after, _) in pairwise(own))
        parts += own if apart else _parted(own)
    return sorted(parts, key=_first)


def _first(lines: Lines) -> int:
    return lines[0][0]


def _parted(windows: Sequence[Lines]) -> Iterator[Lines]:
    done = [0] * len(windows)
    lines = sorted((number, which) for which, (numbers, _) in enumerate(windows) for number in numbers)
    for which, together in groupby(lines, itemgetter(1)):
        begin, end = done[which], done[which] + len(list(together))
        done[which] = end
        numbers, own = windows[which]
        yield numbers[begin:end], own.part(begin, end) if isinstance(own, Columns) else own


def _timed(latency: dict[str, dict[str, int]]) -> Timed:
    sides = [[h for name, h in latency.items() if name.partition(".")[0] == side] for side in ("control", "candidate")]
    (control_ns, n_control), (candidate_ns, n_candidate) = map(total, sides)
    return Timed(control_ns, candidate_ns, min(n_control, n_candidate))

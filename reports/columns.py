"""Windows in short, many at once: what they have of one kind in one list, all their counts in one block of memory.

``_windows.c`` reads them so from their lines, a few times as fast as a decoder of JSON, and may only be stricter than
``reports.read.window_check``. What it leaves, all where it is not built, is decoded and checked line by line, which has
the last word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.short import Short

try:
    from reports import _windows
except ImportError:  # not built: no compiler
    _windows = None  # type: ignore[assignment]  # mypy knows no module that may be None

_MOST_TABLES = 32  # in one go, each of which passes over the lines of the others


@dataclass(frozen=True, slots=True)
class Columns:
    """Windows in short of one pair, which follow each other, and whose numbers have been checked; at least one.

    Attributes:
        cache: The pair.
        like: Ordinal of the full window that has their names.
        n_names: How many counts each has.
        numbers: Numbers of their lines, ascending.
        counts: Their counts, window by window: a list of each, or of all one after the other in 64 bits each.
    """

    cache: str
    like: int
    n_names: int
    counts: memoryview | list[list[int]]
    numbers: list[int]
    seq: list[int]
    t_s: list[float]
    harness_ns: list[int]
    train_iter: list[int]
    env_step: list[int]

    @classmethod
    def of(cls, by_number: Mapping[int, Short]) -> Columns:
        """Return windows, by the numbers of their lines: of one pair, like one full one, with equally many counts."""
        windows = [*by_number.values()]
        return cls(
            windows[0].cache,
            windows[0].like,
            len(windows[0].counts),
            [one.counts for one in windows],
            [*by_number],
            [one.seq for one in windows],
            [one.t_s for one in windows],
            [one.harness_ns for one in windows],
            [one.train_iter for one in windows],
            [one.env_step for one in windows],
        )

    def part(self, begin: int, end: int) -> Columns:
        """Return some of them."""
        each = 1 if isinstance(self.counts, list) else self.n_names
        return Columns(
            self.cache,
            self.like,
            self.n_names,
            self.counts[begin * each : end * each],
            self.numbers[begin:end],
            self.seq[begin:end],
            self.t_s[begin:end],
            self.harness_ns[begin:end],
            self.train_iter[begin:end],
            self.env_step[begin:end],
        )

    def sums(self) -> list[int]:
        """Add up the counts of each name."""
        if isinstance(self.counts, list):
            return [*map(sum, zip(*self.counts, strict=True))]
        with contextlib.suppress(OverflowError):
            return _windows.sums(self.counts, self.n_names)
        counts = self.counts.tolist()
        return [sum(counts[place :: self.n_names]) for place in range(self.n_names)]

    def last(self, places: Sequence[int]) -> list[int]:
        """Return the counts in these places of the last window that has any there, else zeros."""
        last = [0] * len(places)
        for end in range(len(self.seq), 0, -1) if places else ():
            counts = self.part(end - 1, end).sums()
            last = [counts[place] for place in places]
            if any(last):
                break
        return last


def in_columns(raws: list[bytes], first: int) -> tuple[list[Columns], list[int]]:
    """Read what windows in short ``_windows.c`` can read.

    Args:
        raws: Whole lines that follow each other; only the last may lack its end.
        first: Number of the first of them.

    Returns:
        The windows, and the places of the lines that are left.
    """
    found: list[Columns] = []
    left = [*range(len(raws))]
    for _ in range(_MOST_TABLES if _windows else 0):
        if not (read := _windows.read(raws, left)):
            break
        cache, like, n_names, counts, (places, seq, t_s, harness_ns, train_iter, env_step, left) = read
        about = memoryview(counts).cast("q"), [first + place for place in places], seq, t_s
        found.append(Columns(cache, like, n_names, *about, harness_ns, train_iter, env_step))
    return found, left

"""What one rank's file of lines holds, and what in it can't be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from reports.disk import rank_file
from reports.json_file import CHANGED
from reports.seal import is_sealed, new_digest
from reports.short import Full, Short
from reports.thinning import MOST
from reports.typed import window_decoder
from reports.windows import Windows
from validator.histogram import BUCKETS
from validator.records import Divergence, Outcome, Window, from_json
from validator.run import Timed

_BUCKET_NAMES = frozenset(map(str, range(BUCKETS)))
_OUTCOME_NAMES = frozenset(outcome.value for outcome in Outcome)
_WINDOW_FIELDS = frozenset(Window.__dataclass_fields__)
_INT = {int}
_NONE: dict[str, dict[str, int]] = {}
_values = dict.values
_COUNTERS = ("ops", "divergences", "coverage", "envs", "bytes_held", "dropped")
_NUMBERS = (("seq", 0), ("like", 0), ("harness_ns", 0), ("train_iter", -1), ("env_step", -1))
_TOO_MANY = 2**63
_AFTER_CLOSE = "after the close of the run; ignored"
_BATCH = 128  # more at once fall out of the processor's caches
EVENTS_KEPT = 2000
_NAMED_LINES = 5
_NAMED_REASONS = 20


@dataclass(slots=True)
class RankLines:
    """One rank's lines, taken in one after the other.

    Attributes:
        rank: The rank.
        caches: Its ``cache`` lines.
        divergences: Its divergences written in full.
        events: Its ``event`` lines, the first ``EVENTS_KEPT`` of each name.
        n_events: How many events there are, by name.
        about: Its ``rank`` line: what a rank beyond the first says of itself.
        close: Its ``close`` line, None if it never closed.
        is_sealed: Whether the digest in its close fits every byte before.
        cut_off: Whether the last line lacks its end: the writer was killed, or is writing it now.
        n_read: Lines that could be read.
    """

    rank: int
    caches: list[dict[str, Any]] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    n_events: dict[str, int] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    is_sealed: bool = False
    close: dict[str, Any] | None = None
    cut_off: bool = False
    n_read: int = 0
    _number: int = 0
    _faults: dict[str, list[int]] = field(default_factory=dict)
    _windows: Windows = field(default_factory=Windows)
    _digest: Any = field(default_factory=new_digest)

    @property
    def timed(self) -> list[Timed]:
        """What both sides took, window by window of those that have latencies."""
        return self._windows.timed

    def take(self, raws: Sequence[bytes]) -> None:
        """Take in the lines that follow, keeping every one that can be read.

        Args:
            raws: Whole lines; only the last of a file may lack its end.
        """
        numbers = range(self._number + 1, self._number + len(raws) + 1)
        self._number += len(raws)
        decoder = window_decoder()
        block = b"".join(raws)
        if self.close is None and decoder and (in_short := decoder.block(block, len(raws))):
            self._digest.update(block)
            self._take_windows(in_short, numbers)
            return
        typed = decoder.lines(raws) if decoder else [None] * len(raws)
        was_open = self.close is None
        windows: dict[int, Any] = {}
        parsed = iter(_batch([raw for raw, window in zip(raws, typed, strict=True) if window is None]))
        for number, raw, window in zip(numbers, raws, typed, strict=True):
            try:
                if window is None:
                    line = next(parsed)
                    window = self._take(json.loads(raw.decode()) if line is None else line)
                elif self.close is not None:
                    raise ValueError(_AFTER_CLOSE)
                if window is not None:
                    windows[number] = window
                if was_open and self.close is not None:
                    was_open = False
                    self._digest.update(b"".join(raws[: number - numbers[0]]))
                    self.is_sealed = is_sealed(raw.removesuffix(b"\n"), self._digest)
            except (ValueError, RecursionError) as fault:
                if raw == b"\n":
                    continue  # a writer begins so after a line it could not finish
                if not raw.endswith(b"\n"):
                    self.cut_off = True
                    continue
                self._note(_reason(fault), number)
        if was_open:
            self._digest.update(block)
        self._take_windows([*windows.values()], [*windows])

    def windows(self) -> list[Window]:
        """Return the windows so far, pair by pair; neighbours added up where they are very many."""
        return [
            Window(**{**{name: line[name] for name in _WINDOW_FIELDS & line.keys()}, "rank": self.rank})
            for line in self._windows.lines()
        ]

    def problems(self) -> list[str]:
        """Say what can't be read or is missing, one sentence each."""
        name = rank_file(self.rank)
        found = [f"{_lines(numbers)}: {reason}" for reason, numbers in self._faults.items()]
        found += self._windows.gaps()
        if self.close is not None:
            found += _losses(self.close, self.n_read - 1)
            if not (found or self.is_sealed):
                found.append(CHANGED)  # and nothing else tells of it
        return [f"{name}: {what}" for what in found]

    def _take(self, line: Any) -> Any:
        """Take in a line that could be parsed; return it if it is a window, which waits for those of its batch."""
        if type(line) is not dict:
            raise ValueError("no object")
        if self.close is not None:
            raise ValueError(_AFTER_CLOSE)
        kind = line.get("type")
        if kind == "window":
            _check_window(line)
            return Short.of(line) if "like" in line else Full.of(line)
        if kind == "divergence":
            try:
                self.divergences.append(from_json(Divergence, {**line, "rank": self.rank}))
            except (TypeError, ValueError) as fault:
                raise ValueError(f"no divergence that this version understands: {fault!s:.120}") from None
        elif kind == "event" and type(line.get("event")) is str:
            name = line["event"]
            self.n_events[name] = count = self.n_events.get(name, 0) + 1
            if count <= EVENTS_KEPT:
                self.events.append(line)
        elif kind == "cache" and type(line.get("cache")) is str:
            self.caches.append(line)
        elif kind == "rank":
            self.about = line
        elif kind == "close":
            self.close = line
        else:
            raise ValueError(f"of a type that this version does not know, {kind!r:.40}")
        self.n_read += 1
        return None

    def _take_windows(self, windows: Sequence[Any], numbers: Sequence[int]) -> None:
        unread = self._windows.take(windows)
        self.n_read += len(windows) - len(unread)
        for number, window in zip(numbers, windows, strict=True) if unread else ():
            if any(window is one for one in unread):
                self._note("no window that can be understood without an earlier one, which can't be read", number)

    def _note(self, reason: str, number: int) -> None:
        if reason not in self._faults and len(self._faults) >= _NAMED_REASONS:
            reason = "further reasons"
        self._faults.setdefault(reason, []).append(number)


def read_lines(path: Path, rank: int, most: int = MOST, with_latency: bool = True) -> RankLines:
    """Read one rank's file.

    Args:
        path: The file.
        rank: Whose it is.
        most: Half of how many windows of a pair are kept apart; beyond, neighbours are added up.
        with_latency: Whether windows keep their latencies; else only what they add up to.

    Returns:
        Its records, with a sentence for whatever is wrong.

    Raises:
        OSError: If the file can't be opened.
    """
    found = RankLines(rank, _windows=Windows(most, with_latency))
    with path.open("rb", buffering=1 << 20) as file:
        while raws := list(islice(file, _BATCH)):
            found.take(raws)
    return found


def _batch(raws: Sequence[bytes]) -> list[Any]:
    """Parse many lines at once, 2.5 times faster than one by one because keys are shared; Nones if any fails."""
    try:
        batch: list[Any] = json.loads((b"[" + b",".join(raws) + b"]").decode())
    except (ValueError, RecursionError):
        return [None] * len(raws)
    return batch if len(batch) == len(raws) else [None] * len(raws)


def _check_window(line: dict[str, Any]) -> None:
    """Check a window down to its counts, because they are added up; this is the hot path of reading."""
    try:
        lookups, latency = line.get("lookups", _NONE), line.get("latency_ns", _NONE)
        tables = [line[name] for name in _COUNTERS if name in line]
        tables += lookups.values()
        tables += latency.values()
        if ("counts" in line) != ("like" in line):
            raise KeyError("like" if "counts" in line else "counts")
        if "counts" in line:
            if tables:
                raise ValueError("tables beside counts")
            tables.append(dict(enumerate(line["counts"])))
        counts = list(chain.from_iterable(map(_values, tables)))  # raises TypeError where one is no table
        if counts and not (set(map(type, counts)) == _INT and min(counts) >= 0 and max(counts) < _TOO_MANY):
            bad = next(n for n in counts if type(n) is not int or not 0 <= n < _TOO_MANY)
            raise ValueError(f"{bad!r:.40} is no count")
        for outcomes in lookups.values():
            if not outcomes.keys() <= _OUTCOME_NAMES:
                raise ValueError(f"unknown outcome {min(outcomes.keys() - _OUTCOME_NAMES)!r:.40}")
        for histogram in latency.values():
            if not histogram.keys() <= _BUCKET_NAMES:
                raise ValueError("latency outside the histogram's buckets")
        for group in line.get("divergences", ()):
            if group.count("|") != 2:
                raise ValueError(f"{group!r:.60} is no dimension|cause|fault")
        if type(line["cache"]) is not str:
            raise ValueError("cache is no name")
        if not 0 <= line["t_s"] < 1e12:  # seconds; false for NaN
            raise ValueError("t_s is no time")
        for name, least in _NUMBERS:
            if type(number := line.get(name, 0)) is not int or not least <= number < _TOO_MANY:
                raise ValueError(f"{number!r:.40} is no {name}")
        if "seq" not in line:
            raise KeyError("seq")
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        said = f"lacks {fault}" if isinstance(fault, KeyError) else str(fault)
        if isinstance(fault, TypeError) and "descriptor" in said:
            said = "a table of counts is none"
        raise ValueError(f"no window that this version understands: {said:.120}") from None


def _reason(fault: Exception) -> str:
    if isinstance(fault, json.JSONDecodeError):
        return "no JSON"
    if isinstance(fault, UnicodeDecodeError):
        return "no UTF-8"
    return "nested too deeply" if isinstance(fault, RecursionError) else str(fault)


def _lines(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers[:_NAMED_LINES]))
    more = len(numbers) - _NAMED_LINES
    return f"lines {named}{f' and {more} more' if more > 0 else ''}" if len(numbers) > 1 else f"line {named}"


def _losses(close: Mapping[str, Any], n_read: int) -> list[str]:
    """Hold what was read against the account that the writer gave when it closed."""
    losses = []
    written, lost, faults = close.get("lines"), close.get("lost_lines"), close.get("faults")
    if type(written) is int and written != n_read:
        losses.append(f"{n_read} lines can be read before its close, which counts {written}")
    if type(lost) is int and lost:
        losses.append(f"the writer lost {lost} line{'s' * (lost != 1)}")
    if isinstance(faults, Mapping):
        losses += [
            f"the writer met this fault {count!r:.20} times: {reason!s:.200}" for reason, count in faults.items()
        ]
    return losses

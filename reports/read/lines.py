"""What one rank's file of lines holds, and what in it can't be read."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from reports.columns import in_columns
from reports.disk.json_file import CHANGED
from reports.disk.layout import rank_file
from reports.disk.seal import is_sealed, new_digest
from reports.read.thinning import MOST
from reports.read.window_check import check_window
from reports.read.windows import Windows
from reports.record.codec import from_json
from reports.record.records import Divergence, Window
from reports.record.totals import Timed
from reports.short import Full, Short
from reports.typed import window_decoder

_WINDOW_FIELDS = frozenset(Window.__dataclass_fields__)
_AFTER_CLOSE = "after the close of the run; ignored"
_NAMELESS = "no window that can be understood without an earlier one, which can't be read"
_BATCH, _DECODED_AT_ONCE = 512, 128  # more at once fall out of the processor's caches
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

    def take(self, raws: list[bytes]) -> None:
        """Take in the lines that follow, keeping every one that can be read.

        Args:
            raws: Whole lines; only the last of a file may lack its end.
        """
        done = 0
        while done < len(raws):
            done += self._take_some(raws[done : done + _BATCH])

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

    def _take_some(self, raws: list[bytes]) -> int:
        """Take in lines as far as the close of the run, if it is among them; return how many."""
        first = self._number + 1
        was_open = self.close is None
        tables, left = in_columns(raws, first) if was_open else ([], [*range(len(raws))])
        windows: dict[int, Full | Short] = {}
        faults: list[tuple[int, str]] = []
        others = [raws[place] for place in left] if tables else raws
        for place, raw, (window, line) in zip(left, others, _decoded(others), strict=True):
            number = first + place
            try:
                if window is None:
                    window = self._take(json.loads(raw.decode()) if line is None else line)
                elif not was_open:
                    raise ValueError(_AFTER_CLOSE)
                if window is not None:
                    windows[number] = window
            except (ValueError, RecursionError) as fault:
                if raw == b"\n":
                    continue  # a writer begins so after a line it could not finish
                if raw.endswith(b"\n"):
                    faults.append((number, _reason(fault)))
                else:
                    self.cut_off = True
            if was_open and self.close is not None:
                raws = raws[: place + 1]
                tables = [one.part(0, end) for one in tables if (end := bisect_left(one.numbers, number))]
                break
        self._number += len(raws)
        if was_open:
            self._digest.update(b"".join(raws if self.close is None else raws[:-1]))
            self.is_sealed = self.close is not None and is_sealed(raws[-1].removesuffix(b"\n"), self._digest)
        unread = self._windows.take(tables, windows)
        self.n_read += sum(len(one.seq) for one in tables) + len(windows) - len(unread)
        faults += [(number, _NAMELESS) for number in unread]
        for number, reason in sorted(faults):
            self._note(reason, number)
        return len(raws)

    def _take(self, line: Any) -> Full | Short | None:
        """Take in a line that could be parsed; return it if it is a window, which waits for those beside it."""
        if type(line) is not dict:
            raise ValueError("no object")
        if self.close is not None:
            raise ValueError(_AFTER_CLOSE)
        kind = line.get("type")
        if kind == "window":
            check_window(line)
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


def _decoded(raws: Sequence[bytes]) -> Iterator[tuple[Any, Any]]:
    """Yield for each line the checked window that it is, or else what json makes of it, or None."""
    decoder = window_decoder()
    for begin in range(0, len(raws), _DECODED_AT_ONCE):
        some = raws[begin : begin + _DECODED_AT_ONCE]
        windows = decoder(some) if decoder else [None] * len(some)
        others = [raw for raw, window in zip(some, windows, strict=True) if window is None]
        parsed = _parsed(others)
        if len(parsed) == len(some):
            yield from zip(windows, parsed, strict=True)
        else:
            rest = iter(parsed)
            yield from [(window, None if window is not None else next(rest)) for window in windows]


def _parsed(raws: Sequence[bytes]) -> list[Any]:
    """Parse many lines at once, 2.5 times faster than one by one because keys are shared; Nones if any fails."""
    try:
        batch: list[Any] = json.loads((b"[" + b",".join(raws) + b"]").decode())
    except (ValueError, RecursionError):
        return [None] * len(raws)
    return batch if len(batch) == len(raws) else [None] * len(raws)


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

"""What one rank's files hold, of lines and of open windows, and what in them can't be read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from errno import EFBIG
from functools import partial
from pathlib import Path
from typing import Any

from reports.disk.json_file import CHANGED, from_text, json_file
from reports.disk.layout import open_file, rank_file
from reports.disk.seal import is_sealed, new_digest
from reports.read.schema1 import InFull
from reports.read.window_check import check_window, window_of
from reports.read.windows import MOST, Windows, timed
from reports.record.codec import from_json
from reports.record.inventory import Inventory
from reports.record.records import Divergence, Window
from reports.record.totals import Timed

EVENTS_KEPT = 2000
MOST_BYTES = 512 << 20  # of a file of lines
LONGEST_LINE = 16 << 20  # bytes
# Behind what they add up to, as the writer puts them. They are nine tenths of a window, and of everything that is read.
_LATENCIES = re.compile(rb'(,"timed":\[[\d.e+,]*\]),"latency_ns":\{(?:"[^"\\]*":\{[\d":,]*\},?)+\}')
_NAMED_LINES = 5
_NAMED_REASONS = 20


@dataclass(slots=True)
class RankLines:
    """One rank's lines, taken in one after the other.

    Attributes:
        rank: The rank.
        caches: Its ``cache`` lines, each with its rank.
        divergences: Its divergences written in full.
        events: Its ``event`` lines, the first ``EVENTS_KEPT`` of each name.
        n_events: How many events there are, by name.
        about: Its ``rank`` line: what a rank beyond the first says of itself.
        close: Its ``close`` line, None if it never closed.
        is_sealed: Whether the digest in its close fits every byte before.
        cut_off: Whether the last line lacks its end: the writer was killed, or is writing it now.
        n_read: Lines that could be read.
        inventory: What all its lines before the close add up to, to hold the close against.
        open: Its open windows, from beside the lines; those that are lines as well are passed over.
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
    inventory: Inventory = field(default_factory=Inventory)
    open: list[Window] = field(default_factory=list)
    _number: int = 0
    _faults: dict[str, tuple[list[int], int]] = field(default_factory=dict)  # the first lines, and how many in all
    _windows: Windows = field(default_factory=Windows)
    _in_full: InFull = field(default_factory=InFull)
    _digest: Any = field(default_factory=new_digest)

    @property
    def timed(self) -> list[Timed]:
        """What both sides took, window by window of those that have latencies."""
        return self._windows.timed + [one for window in self._still_open() for one in timed(window)]

    @property
    def ended(self) -> str:
        """How the host ended, as its close says: what follows "the host ended"."""
        said = (self.close or {}).get("ended")
        return said[:400] if isinstance(said, str) else ""

    def take(self, raws: Iterable[bytes]) -> None:
        """Take in the lines that follow, keeping every one that can be read.

        Args:
            raws: Whole lines; only the last of a file may lack its end.
        """
        for raw in raws:
            self._number += 1
            if len(raw) > LONGEST_LINE:
                self._note(f"of more than {LONGEST_LINE:,} bytes, the limit; nothing is read from there on")
                return
            was_open = self.close is None
            try:
                self._take(line := from_text(raw if self._windows.with_latency else _LATENCIES.sub(rb"\1", raw, 1)))
                self.n_read += 1
                self.inventory.add(line)
            except (ValueError, RecursionError) as fault:
                if not raw.endswith(b"\n"):
                    self.cut_off = True
                elif raw != b"\n":  # a writer begins so after a line it could not finish
                    self._note(_reason(fault))
            if self.close is None:
                self._digest.update(raw)
            elif was_open:
                self.is_sealed = is_sealed(raw.removesuffix(b"\n"), self._digest)

    def windows(self) -> list[Window]:
        """Return the windows so far, pair by pair; neighbours added up where they are very many."""
        return self._windows.kept() + self._still_open()

    def problems(self) -> list[str]:
        """Say what can't be read or is missing, one sentence each."""
        found = [f"{_lines(numbers, count)}: {reason}" for reason, (numbers, count) in self._faults.items()]
        still_open = self._still_open()
        found += self._windows.gaps(still_open)
        if self.close is not None:
            found += [f"a window of {window.cache!r:.60} is still open after its close" for window in still_open]
            found += _losses(self.close, self.n_read - 1)
            if not (found or self.is_sealed):
                found.append(CHANGED)  # and nothing else tells of it
        return [f"{rank_file(self.rank)}: {what}" for what in found]

    def _still_open(self) -> list[Window]:
        return [window for window in self.open if not self._windows.is_covered(window)]

    def _take(self, line: Any) -> None:
        if type(line) is not dict:
            raise ValueError("no object")
        if self.close is not None:
            raise ValueError("after the close of the run; ignored")
        kind = line.get("type")
        if kind == "window":
            check_window(line)
            self._windows.add(window_of(self._in_full.of(line), self.rank), line.get("timed", ()))
        elif kind == "divergence":
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
            self.caches.append({**line, "rank": self.rank})
        elif kind == "rank":
            self.about = line
        elif kind == "close":
            self.close = line
        else:
            raise ValueError(f"of a type that this version does not know, {kind!r:.40}")

    def _note(self, reason: str) -> None:
        if reason not in self._faults and len(self._faults) >= _NAMED_REASONS:
            reason = "further reasons"
        numbers, count = self._faults.get(reason, ([], 0))
        self._faults[reason] = ([*numbers, self._number][:_NAMED_LINES], count + 1)


def read_lines(
    path: Path, rank: int, open_windows: Iterable[Window] = (), most: int = MOST, with_latency: bool = True
) -> RankLines:
    """Read one rank's file.

    Args:
        path: The file.
        rank: Whose it is.
        open_windows: Its open windows, read before.
        most: Half of how many windows of a pair are kept apart; beyond, neighbours are added up.
        with_latency: Whether windows keep their latencies.

    Returns:
        Its records, with a sentence for whatever is wrong.

    Raises:
        OSError: If the file can't be opened.
    """
    found = RankLines(rank, open=[*open_windows], _windows=Windows(most, with_latency))
    with path.open("rb", buffering=1 << 20) as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            raise OSError(EFBIG, f"{size:,} bytes, and the limit is {MOST_BYTES:,}")
        found.take(iter(partial(file.readline, LONGEST_LINE + 1), b""))
    return found


def read_open(path: Path, rank: int, problems: list[str], changed: list[str]) -> list[Window]:
    """Read a rank's open windows. Read them before its lines: what they lack then is in these.

    Args:
        path: The run directory.
        rank: Whose they are.
        problems: Takes a sentence for what can't be read.
        changed: Takes one if they were changed after they were written.

    Returns:
        The windows, at most one of each pair; some may be lines by now.
    """
    name = open_file(rank)
    content = json_file(path, name, problems, changed)
    listed = [] if content is None else content.get("windows")
    if not isinstance(listed, list):
        problems.append(f"{name} holds no windows")
        return []
    found: dict[str, Window] = {}
    for place, line in enumerate(listed):
        try:
            if type(line) is not dict or "like" in line:
                raise ValueError("no window in full")
            check_window(line)
            if line["cache"] in found:
                raise ValueError(f"another one of {line['cache']!r:.60}")
            found[line["cache"]] = window_of(line, rank)
        except ValueError as fault:
            problems.append(f"{name}: windows[{place}]: {fault}")
    return [*found.values()]


def _reason(fault: Exception) -> str:
    if isinstance(fault, json.JSONDecodeError):
        return "no JSON"
    if isinstance(fault, UnicodeDecodeError):
        return "no UTF-8"
    return "nested too deeply" if isinstance(fault, RecursionError) else str(fault)


def _lines(numbers: list[int], count: int) -> str:
    named = ", ".join(map(str, numbers))
    more = count - len(numbers)
    return f"lines {named}{f' and {more} more' if more > 0 else ''}" if count > 1 else f"line {named}"


def _losses(close: Mapping[str, Any], n_read: int) -> list[str]:
    """Hold what was read against the account that the writer gave when it closed."""
    losses = []
    written, lost, faults = close.get("lines"), close.get("lost_lines"), close.get("faults")
    if not (type(written) is type(lost) is int and isinstance(faults, Mapping)):
        losses.append("its close does not say what it wrote and lost")
    elif written != n_read:
        losses.append(f"{n_read} lines can be read before its close, which counts {written}")
    if type(lost) is int and lost:
        losses.append(f"the writer lost {lost} line{'s' * (lost != 1)}")
    if isinstance(faults, Mapping):
        losses += [
            f"the writer met this fault {count!r:.20} times: {reason!s:.200}" for reason, count in faults.items()
        ]
    return losses

"""How a trace lies on disk while it is written: an index that grows by lines, and segments of which the oldest go.

Nothing here raises. A trace that can't go on ends, and says why; the run and the training go on without it.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

from reports.disk.layout import encoded
from reports.disk.own_file import OwnFile
from reports.disk.seal import seal

TRACE_DIR: Final = "trace"
_SEGMENT_MOST = 4 << 20  # bytes
_BODIES_SHARE = 0.75  # of the room; what they leave is for operations
_SEGMENTS_LEAST = 8  # into which the room is divided, so that what gives way is a small part of it


def index_file(rank: int, number: int) -> str:
    """Return the name of the index of one pair's trace."""
    return f"rank-{rank:04d}-{number:02d}.jsonl"


def segment_file(index: str, segment: int) -> str:
    """Return the name of one segment of a trace, given the name of its index."""
    return f"{index.removesuffix('.jsonl')}.{segment:06d}.ops"


def bodies_file(index: str) -> str:
    """Return the name of the file of entries that are kept whole, given the name of the index of their trace."""
    return f"{index.removesuffix('.jsonl')}.bodies"


class Room:
    """Bytes that all traces of one rank may take."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0


class TraceFile:
    """Pen of one trace; called by one thread at a time.

    Args:
        run: The run directory.
        index: Name of the index, see ``index_file``.
        about: First line of the index.
        record_bytes: Size of a record.
        room: What it shares with other traces.

    Attributes:
        ended: Why nothing is written any more, or empty.
        records: Records that are on disk, those that gave way among them.
        first: Ordinal of the first record that is still there.
        bodies_ended: Why no entries are kept any more, or empty.
    """

    def __init__(self, run: Path, index: str, about: dict[str, Any], record_bytes: int, room: Room) -> None:
        self.ended = self.bodies_ended = ""
        self._bodies: OwnFile | None = None
        self._n_bodies = 0
        self.records = self.first = 0
        self._path = run / TRACE_DIR
        self._index_name = index
        self._size = record_bytes
        self._room = room
        self._most = max(1, min(_SEGMENT_MOST, room.most // _SEGMENTS_LEAST) // record_bytes)
        self._whole: deque[tuple[int, int]] = deque()  # number and records of segments that are whole, oldest first
        self._heads: deque[bytes] = deque()  # the first record of each segment that is there
        self._number, self._in_segment = -1, 0
        self._segment: OwnFile | None = None
        self._pid = os.getpid()
        self._index: OwnFile | None = None
        try:
            self._path.mkdir(exist_ok=True)
            if self._path.is_symlink():
                raise OSError(f"{TRACE_DIR} is a symbolic link")
            self._index = self._opened(index)
            self._line(about)
        except (OSError, ValueError, TypeError) as problem:
            self._end(problem)

    def line(self, value: dict[str, Any]) -> None:
        """Append a line to the index."""
        self._go_on(lambda: self._line(value))

    def append(self, records: bytes) -> None:
        """Append whole records; where there is no room for more, the oldest segment that is whole goes."""
        self._go_on(lambda: self._append(records))

    def body(self, data: bytes) -> None:
        """Append an entry with what stands before it; where there is no room, or an error, no more of them are kept."""
        if self.bodies_ended or self.ended or os.getpid() != self._pid:
            return
        try:
            if self._room.used + len(data) > self._room.most * _BODIES_SHARE:
                raise ValueError("there is no room for more")
            self._bodies = self._bodies or self._opened(bodies_file(self._index_name))
            self._bodies.extend(data)
            self._room.used += len(data)
            self._n_bodies += 1
        except Exception as problem:
            self.bodies_ended = f"{getattr(problem, 'strerror', None) or problem!s:.200}"

    @property
    def head(self) -> bytes:
        """The oldest record that is there, if others gave way, else empty."""
        return self._heads[0] if self.first and self._heads else b""

    def close(self) -> None:
        """Seal what is there."""
        self._go_on(self._close)

    def _close(self) -> None:
        self._finish_segment()
        if self._bodies is not None:
            self._bodies.close()
            self._line({"bodies": self._n_bodies, "digest": self._bodies.digest.hexdigest()})
        assert self._index is not None
        self._index.append(seal(encoded({"close": self.records}), self._index.digest) + b"\n")
        self._index.sync()
        self._index = None

    def _go_on(self, step: Any) -> None:
        if self._index is None or self.ended or os.getpid() != self._pid:
            return
        try:
            step()
        except Exception as problem:
            self._end(problem)

    def _end(self, problem: Exception) -> None:
        said = (problem.strerror if isinstance(problem, OSError) else None) or str(problem) or type(problem).__name__
        self.ended = f"{said:.200}"
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.close()
        self._segment = None
        with contextlib.suppress(Exception):
            self._line({"ended": self.ended})

    def _line(self, value: dict[str, Any]) -> None:
        if self._index is not None:
            line = encoded(value) + b"\n"
            self._index.append(line)
            self._room.used += len(line)

    def _append(self, records: bytes) -> None:
        rest = memoryview(records)
        while rest:
            segment = self._segment or self._begin_segment()
            if not self._in_segment:
                self._heads.append(bytes(rest[: self._size]))
            part = rest[: (self._most - self._in_segment) * self._size]
            rest = rest[len(part) :]
            segment.extend(part)
            self._in_segment += len(part) // self._size
            self._room.used += len(part)
            if self._in_segment >= self._most:
                self._finish_segment()

    def _begin_segment(self) -> OwnFile:
        while self._room.used + self._most * self._size > self._room.most and self._whole:
            number, records = self._whole.popleft()
            (self._path / segment_file(self._index_name, number)).unlink()
            self._room.used -= records * self._size
            self._heads.popleft()
            self.first += records
            self._line({"dropped": number})
        self._number += 1
        self._in_segment = 0
        self._segment = made = self._opened(segment_file(self._index_name, self._number))
        return made

    def _finish_segment(self) -> None:
        segment = self._segment
        if segment is None:
            return
        self._segment = None
        segment.close()
        about = {"segment": self._number, "first": self.records, "records": self._in_segment}
        self._line({**about, "digest": segment.digest.hexdigest()})
        self.records += self._in_segment
        self._whole.append((self._number, self._in_segment))

    def _opened(self, name: str) -> OwnFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        return OwnFile(self._path / name, os.open(self._path / name, flags, 0o644))

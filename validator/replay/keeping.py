"""Entries that are kept whole beside their digests: all of them, or the last ones, written when something diverges."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol

from xxhash import xxh3_64_intdigest

from reports.record.trace import BODY
from shadow.entries import leaves
from shadow.memory.buffers import bytes_of
from validator.entries.compare import valid
from validator.entries.digest import Digest

LAST: Final = 1024  # sets whose entries wait for a divergence
_LAST_BYTES = 64 << 20  # that they may take


class Pen(Protocol):
    """What a keeping writes with; nothing of it raises."""

    @property
    def bodies_ended(self) -> str:
        """Why no entries are kept any more, or empty."""

    def body(self, data: bytes) -> None: ...


class Keeping:
    """Keeps entries of one trace, each once.

    Args:
        pen: What it writes with.
        waits: Whether entries wait until something diverges, and only the last ones are written then.
    """

    def __init__(self, pen: Pen, waits: bool) -> None:
        self._pen = pen
        self._waiting: deque[tuple[tuple[int, int], bytes]] = deque()
        self._n_waiting = 0  # bytes
        self._waits = waits
        self._checks: dict[tuple[int, int], int] = {}  # of what is written, by digest and layout
        self._left_out = ""

    def keep(self, digest: Digest, layout: int, entry: Any) -> None:
        """Keep an entry, whose layout has a number; it is read before either side can change it."""
        if digest.whole is None or any(device.type != "cpu" for _, _, device, _ in digest.layout):
            self._left_out = "entries on a device are not kept: they would have to be waited for"
            return
        if self._pen.bodies_ended:
            return
        name, data = (digest.whole, layout), b"".join(map(bytes_of, map(valid, leaves(entry))))
        if not self._waits:
            self._write(name, data)
            return
        self._waiting.append((name, data))
        self._n_waiting += len(data)
        while len(self._waiting) > LAST or self._n_waiting > _LAST_BYTES:
            self._n_waiting -= len(self._waiting.popleft()[1])

    def write(self) -> None:
        """Write what waits: something diverged."""
        for name, data in self._waiting:
            self._write(name, data)
        self._waiting.clear()
        self._n_waiting = 0

    def remark(self) -> str:
        """Say what was not kept, or nothing."""
        ended = self._pen.bodies_ended
        return self._left_out or (f"{ended}; later entries are known by their digests" if ended else "")

    def _write(self, name: tuple[int, int], data: bytes) -> None:
        check = xxh3_64_intdigest(data)
        known = self._checks.setdefault(name, -1)
        if known == -1:
            self._checks[name] = check
            self._pen.body(BODY.pack(name[0], check, name[1] + 1, len(data)) + data)
        elif known != check:
            self._left_out = "two entries of one digest differ: of these the first one stands for both"

"""A file that takes our lines and nobody else's, and lines that go there or nowhere.

The host may close any descriptor, and open a file of its own under the same number; it may also remove or replace ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from reports.disk.seal import new_digest


class OwnFile:
    """One file that only grows by what is appended here. Every method raises OSError where that can't be.

    Args:
        path: Where it is.
        fd: Descriptor of it, opened for appending.

    Attributes:
        digest: Of all that stands in it.
        torn: Whether it ends within a line.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.digest = new_digest()
        self.torn = False
        self._path = path
        self._fd = fd
        self._file = _identity(os.fstat(fd))
        self._size = 0

    def was_changed(self) -> bool:
        """Tell whether somebody else changed its size since the last time."""
        size = os.fstat(self.descriptor()).st_size
        changed, self._size = size != self._size, size
        return changed

    def append(self, line: bytes) -> None:
        """Write a line. After a torn one it begins with a newline: one torn line is one lost line."""
        self.extend(b"\n" + line if self.torn else line)

    def extend(self, data: bytes | memoryview) -> None:
        """Write bytes as they are."""
        fd = self.descriptor()
        rest = memoryview(data)
        while rest:
            self.torn = True  # also if an interrupt strikes between these lines
            count = os.write(fd, rest)
            if not count:
                raise OSError("nothing could be written")
            self._size += count
            self.digest.update(rest[:count])
            self.torn = rest[count - 1] != 0x0A
            rest = rest[count:]

    def sync(self) -> None:
        """Wait until all of it is on the disk, and close it."""
        fd = self.descriptor()
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close it; the system writes it to the disk in its own time."""
        os.close(self.descriptor())

    def descriptor(self) -> int:
        """Return a descriptor of our own file, opened again where somebody closed it."""
        path = self._path
        try:
            if _identity(os.lstat(path)) != self._file:
                raise OSError(f"{path.name} was replaced by another file")
        except FileNotFoundError:
            raise OSError(f"{path.name} was removed") from None
        try:
            if _identity(os.fstat(self._fd)) == self._file:
                return self._fd
        except OSError:
            pass
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        return self._fd


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

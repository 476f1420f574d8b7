"""What of a run is not on disk, and why: told in a file whose room was taken while there was some.

Overwriting it in place needs no space, so it can be done on a full disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.disk.json_file import is_inside
from reports.disk.layout import lost_file

_BYTES = 8192
_NAMED = 4  # reasons, each of at most 250 characters


def reserve(path: Path, rank: int) -> None:
    """Take the room.

    Raises:
        OSError: If there is none.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path / lost_file(rank), flags, 0o644)
    try:
        room = b" " * _BYTES
        while room:
            room = room[os.write(fd, room) :]
    finally:
        os.close(fd)


def note(path: Path, rank: int, account: Mapping[str, Any]) -> None:
    """Put down what a writer lost so far, if the room is still there; never raises."""
    reasons = dict(list(account["faults"].items())[:_NAMED])
    data = json.dumps({"lost_lines": account["lost_lines"], "faults": reasons}).encode("ascii").ljust(_BYTES)
    with contextlib.suppress(OSError, AttributeError):
        fd = os.open(path / lost_file(rank), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.pwrite(fd, data, 0)
        finally:
            os.close(fd)


def noted(path: Path, rank: int) -> Mapping[str, Any]:
    """Return what was put down, empty for nothing."""
    name = lost_file(rank)
    try:
        if is_inside(path, name) and (path / name).stat().st_size <= _BYTES:
            found = json.loads((path / name).read_bytes().strip() or b"{}")
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    return {}


def told(account: Mapping[str, Any]) -> str:
    """Say what a writer's account comes to, such as ``73 lines lost: No space left on device``; empty for nothing.

    Args:
        account: ``lost_lines`` and ``faults``, each ``what: kind of error: reason`` with its count; not trusted.
    """
    lost, faults = account.get("lost_lines"), account.get("faults")
    n_lost = lost if type(lost) is int and lost > 0 else 0
    reasons: dict[str, list[str]] = {}
    for fault in faults if isinstance(faults, Mapping) else ():
        what, _, rest = str(fault).partition(": ")
        why = rest.partition(": ")[2] or rest
        reasons.setdefault(what, []).append(f"{why:.200}")
    if n_lost:
        reasons.setdefault("line", [])
    said = []
    for what, whys in reasons.items():
        head = f"{n_lost:,} line{'s' * (n_lost != 1)} lost" if what == "line" else f"{what:.40} not written"
        said.append(": ".join((head, ", ".join(dict.fromkeys(whys)))).removesuffix(": "))
    return "; ".join(said[:_NAMED])

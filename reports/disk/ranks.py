"""What other processes left in a run directory: whose is it, and may one more rank join them?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.disk.json_file import is_inside
from reports.disk.layout import RANK_FILE, RUN_FILE, rank_file, twice_file
from reports.disk.process import alive, begun

_LONGEST = 1 << 24  # bytes of a manifest


def said_of(path: Path, rank: int) -> Mapping[str, Any]:
    """Return what the process that is a rank of a run says of itself, empty for nothing: see ``RunWriter.create``."""
    name = rank_file(rank) if rank else RUN_FILE
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if is_inside(path, name):  # a pipe, say, would never end
            with (path / name).open("rb") as file:
                said = json.loads(file.readline(_LONGEST) if rank else file.read(_LONGEST))
            return said if isinstance(said, dict) else {}
    return {}


def left_before(path: Path, meeting: object) -> int | None:
    """Return a rank whose process was gone, and all files left alone, before this process began; None for no such.

    Args:
        path: The run directory.
        meeting: What this launch alone agreed on, if it could; who agreed on the same is of no earlier run.
    """
    found, latest = None, 0.0
    for file in path.iterdir():
        latest = max(latest, file.lstat().st_mtime)
        if match := RANK_FILE.fullmatch(file.name):
            said = said_of(path, int(match[1]))
            if not (meeting and said.get("meeting") == meeting) and alive(said) is False:
                found = int(match[1])
    return found if latest < begun() else None


def claimed_again(path: Path, rank: int) -> None:
    """Leave a mark that two processes call themselves one rank of a run: nobody can say which of them was watched."""
    with contextlib.suppress(OSError):
        (path / twice_file(rank)).touch()

"""What a JSON file says that lies in a directory nobody vouches for, and whether it is what was written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from reports.disk.seal import is_sealed

CHANGED = "changed after it was written: its digest does not fit its content"
MOST_BYTES = 64 << 20
DEEPEST = 64  # levels of lists and objects in one another
_UNSEALED = "lacks its digest, with which it was written: it was changed"


def is_inside(path: Path, name: str) -> bool:
    """Say whether a name leads to a regular file that lies in the directory; links out of it are not followed."""
    try:
        if Path(name).name == name and stat.S_ISREG((path / name).lstat().st_mode):
            return True  # a plain file right in it, as nearly all are
        target = (path / name).resolve(strict=True)
        return target.is_relative_to(path.resolve()) and stat.S_ISREG(target.stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        return False


def from_text(data: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: If it is none, or nested more deeply than anything that is written.
        RecursionError: If it is nested more deeply than it can be read.
    """
    content = json.loads(data.decode())
    if data.count(b"[") + data.count(b"{") > DEEPEST:
        level, depth = [content], 0
        while level := [
            item
            for one in level
            if isinstance(one, (dict, list))
            for item in (one.values() if isinstance(one, dict) else one)
        ]:
            depth += 1
            if depth > DEEPEST:
                raise ValueError("nested too deeply")
    return content


def json_file(path: Path, name: str, problems: list[str], changed: list[str]) -> dict[str, Any] | None:
    """Read a sealed JSON object.

    Args:
        path: The directory.
        name: The file in it.
        problems: Takes a sentence if the file is there and can't be read.
        changed: Takes one if it can, and its digest does not fit.

    Returns:
        The object without its digest, None if there is none.
    """
    if not os.path.lexists(path / name):
        return None
    if not is_inside(path, name):
        problems.append(f"{name} is no plain file inside the run directory; not read")
        return None
    try:
        if (size := (path / name).stat().st_size) > MOST_BYTES:
            problems.append(f"{name} is of {size:,} bytes, and the limit is {MOST_BYTES:,}; not read")
            return None
        data = (path / name).read_bytes()
        content = from_text(data)
    except (OSError, ValueError, RecursionError) as fault:
        said = "nested too deeply" if isinstance(fault, RecursionError) else f"{fault!s:.120}"
        problems.append(f"{name} can't be read as JSON: {said}")
        return None
    if not isinstance(content, dict):
        problems.append(f"{name} holds no object")
        return None
    if not is_sealed(data):
        changed.append(f"{name} was {CHANGED}" if "digest" in content else f"{name} {_UNSEALED}")
    content.pop("digest", None)
    return content

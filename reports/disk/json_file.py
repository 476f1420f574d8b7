"""What a JSON file says that lies in a directory nobody vouches for, and whether it is what was written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from reports.disk.seal import is_sealed

CHANGED = "changed after it was written: its digest does not fit its content"
MOST_BYTES = 256 << 20
_UNSEALED = "lacks its digest, with which it was written: it was changed"


def is_inside(path: Path, name: str) -> bool:
    """Say whether a name leads to a regular file that lies in the directory; links out of it are not followed."""
    try:
        target = (path / name).resolve(strict=True)
        return target.is_relative_to(path.resolve()) and stat.S_ISREG(target.stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        return False


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
            problems.append(f"{name} is of {size:,} bytes, more than any that is written; not read")
            return None
        data = (path / name).read_bytes()
        content = json.loads(data.decode())
    except (OSError, ValueError, RecursionError) as fault:
        problems.append(f"{name} can't be read as JSON: {fault!s:.120}")
        return None
    if not isinstance(content, dict):
        problems.append(f"{name} holds no object")
        return None
    if not is_sealed(data):
        changed.append(f"{name} was {CHANGED}" if "digest" in content else f"{name} {_UNSEALED}")
    content.pop("digest", None)
    return content

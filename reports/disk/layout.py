"""How things lie in a run directory: names of its files, files that are whole or absent, JSON that always is JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Final

from reports.record.codec import to_json

RUN_FILE: Final = "run.json"
SUMMARY_FILE: Final = "summary.json"
EVIDENCE_DIR: Final = "evidence"
RANK_FILE: Final = re.compile(r"rank-(\d{4,9})\.jsonl")  # see ``rank_file``
LOST_FILE: Final = re.compile(r"rank-(\d{4,9})\.lost\.json")  # see ``lost_file``

_MAX_DEPTH = 40


def rank_file(rank: int) -> str:
    """Return the name of one rank's stream of lines."""
    return f"rank-{rank:04d}.jsonl"


def open_file(rank: int) -> str:
    """Return the name of the file of one rank's windows that are no lines yet."""
    return f"rank-{rank:04d}.open.json"


def lost_file(rank: int) -> str:
    """Return the name of the file that says what of one rank is not on disk; blank, and gone after a close, mostly."""
    return f"rank-{rank:04d}.lost.json"


def forked_file(rank: int) -> str:
    """Return the name of the file that a forked child leaves which used a shadowed cache of this rank."""
    return f"rank-{rank:04d}.forked"


def twice_file(rank: int) -> str:
    """Return the name of the file that is left where two processes called themselves this rank."""
    return f"rank-{rank:04d}.twice"


def folders_in(path: Path) -> list[Path]:
    """List the directories directly in one, by name; links are not followed, and none are where it can't be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(path / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def write_atomically(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file that is there as a whole or not at all.

    Args:
        path: The file; an old one is replaced.
        data: Its content.
        sync: Whether content and name must have reached the disk when this returns.

    Raises:
        OSError: If it can't be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()  # of a process of the same number that was killed; never opened, whatever it is
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync and hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):  # some network file systems refuse this; the rename itself is done
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def encoded(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Turn a mapping into one piece of ASCII JSON, a line unless indented.

    NaN and infinities become null, for which every reader has a word. Numbers of numpy, paths, sets and records are
    written as what they mean.

    Raises:
        TypeError: If something in it is no JSON.
        ValueError: If it contains itself.
    """
    style: dict[str, Any] = {"default": _plain, "allow_nan": False, "indent": indent}
    style["separators"] = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(value, **style).encode("ascii")
    except ValueError:
        return json.dumps(_finite(value, 0), **style).encode("ascii")


def described(value: Any, depth: int = 0) -> Any:
    """Turn anything a person may have configured into JSON; what is none is given by its ``repr``, cut."""
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {str(name): described(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        return [described(item, depth + 1) for item in value]
    if value is None or isinstance(value, str):
        return value
    try:
        return described(_plain(value), depth + 1) if not isinstance(value, (bool, int, float)) else value
    except Exception:
        try:
            return f"{value!r:.200}"
        except Exception as problem:
            return f"<{type(value).__name__}, whose repr raised {type(problem).__name__}>"


def _finite(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply, or containing itself")
    if isinstance(value, Mapping):
        return {name: _finite(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, depth + 1) for item in value]
    if isinstance(value, Real) and not isinstance(value, Integral) and not math.isfinite(value):
        return None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    raise TypeError(f"{type(value).__name__} is no JSON")

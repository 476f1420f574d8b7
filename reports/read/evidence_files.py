"""Which files does a verdict rest on, and are they still what they were? Digests; no link is followed out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from reports.disk.json_file import is_inside
from reports.disk.layout import EVIDENCE_DIR, RUN_FILE, SUMMARY_FILE
from reports.record.trainings import AB_FILE

# What the gate reads; pages and logs that lie beside can be made again and prove nothing.
_READ = re.compile("|".join((*map(re.escape, (RUN_FILE, SUMMARY_FILE, AB_FILE)), r"rank-\d{4,9}\.(jsonl|open\.json)")))
_CHUNK = 1 << 20
NO_FILE = "no plain file inside its directory"


def evidence_files(directory: Path) -> dict[str, str]:
    """Take the digest of every file of evidence in the directory of a run or of an A/B.

    Args:
        directory: The directory.

    Returns:
        SHA-256 by name relative to it; for a link out of it, what it is instead.
    """
    names = [path.name for path in _children(directory) if _READ.fullmatch(path.name)]
    if not (directory / EVIDENCE_DIR).is_symlink():
        names += [f"{EVIDENCE_DIR}/{path.name}" for path in _children(directory / EVIDENCE_DIR)]
    return named_files(directory, names)


def named_files(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Take the digests of files in a directory; those that are not there are left out."""
    found = {}
    for name in sorted(names):
        if is_inside(directory, name):
            found[name] = _digest(directory / name)
        elif (directory / name).is_symlink() or (directory / name).exists():
            found[name] = NO_FILE
    return found


def differences(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Name every file that changed, went or came, one phrase each."""
    phrases = []
    for name in sorted({*recorded, *found}):
        if name not in found:
            phrases.append(f"{name} is missing")
        elif name not in recorded:
            phrases.append(f"{name} was not there")
        elif found[name] != recorded[name]:
            phrases.append(f"{name} is {NO_FILE}" if found[name] == NO_FILE else f"{name} has changed")
    return phrases


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _digest(path: Path) -> str:
    running = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                running.update(chunk)
    except OSError as problem:
        return f"unreadable: {problem.strerror}"
    return running.hexdigest()

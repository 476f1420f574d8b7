"""Which course did a run take? What was asked and stored, as its trace has it; two runs of one course show one."""

from __future__ import annotations

import json
from pathlib import Path

from reports.disk.json_file import MOST_BYTES, is_inside

_TRACES = "trace"


def course(path: Path) -> str:
    """Return the course of a run, as text to compare.

    Args:
        path: The run directory.

    Returns:
        The digests of everything recorded of each pair; empty if nothing was recorded, or not all of it.
    """
    try:
        names = sorted(child.name for child in (path / _TRACES).iterdir() if child.suffix == ".jsonl")
    except OSError:
        return ""
    found = [_of_pair(path / _TRACES, name) for name in names]
    return " ".join(found) if all(found) else ""


def _of_pair(traces: Path, name: str) -> str:
    try:
        if not is_inside(traces, name) or (traces / name).stat().st_size > MOST_BYTES:
            return ""
        lines = (traces / name).read_bytes().splitlines()
        marks = [json.loads(line) for line in lines if line.startswith((b'{"segment"', b'{"dropped"', b'{"close"'))]
        whole = bool(marks) and "close" in marks[-1] and not any("dropped" in mark for mark in marks)
        return "-".join(str(mark["digest"]) for mark in marks[:-1]) if whole else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""

"""Results of adversarial streams on disk, beside the runs: written by the conformance command, found by the gate."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.disk.json_file import json_file
from reports.disk.layout import encoded, write_atomically
from reports.disk.seal import seal
from reports.errors import RunDirectoryError
from reports.read.consistency import schema_problems
from reports.record.redaction import redacted
from reports.record.run import ConformanceResult, created
from reports.record.words import SCHEMA

_FILE = re.compile(r"conformance-[A-Za-z0-9-]{1,100}\.json")


def write_conformance(out: Path, about: Mapping[str, Any]) -> Path:
    """Write one result.

    Args:
        out: Directory of runs; made if missing.
        about: ``control, candidate, source, seed, operations, conforms, charged`` as in ``ConformanceResult``, and
            whatever else tells what ran.

    Returns:
        Its file.

    Raises:
        RunDirectoryError: If it can't be written.
    """
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    path = out / f"conformance-{stamp}-{os.getpid()}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal(encoded(redacted({"schema": SCHEMA, "created": now, **about}), indent=1)))
    except OSError as problem:
        raise RunDirectoryError(f"{path}: {problem.strerror}; expected a directory that can be written") from problem
    return path


def find_conformance(folder: Path) -> list[Path]:
    """Find every result that lies directly in a directory of runs."""
    try:
        return sorted(child for child in folder.iterdir() if _FILE.fullmatch(child.name))
    except OSError:
        return []


def read_conformance(path: Path) -> ConformanceResult:
    """Read one result; one that can't be believed says why."""
    problems: list[str] = []
    content = json_file(path.parent, path.name, problems, problems) or {}
    if not problems:
        problems += schema_problems(path.name, {"schema": None, **content})
    values: dict[str, Any] = {"created": created(content) or 0.0}
    for field, kind in (("control", str), ("candidate", str), ("source", str), ("seed", int), ("operations", int)):
        if type(content.get(field)) is kind:
            values[field] = content[field]
        elif not problems:
            problems.append(f"says nothing of {field}")
    charged = content.get("charged")
    if isinstance(charged, dict) and all(isinstance(causes, list) for causes in charged.values()):
        values["charged"] = {str(side): [str(cause) for cause in causes] for side, causes in charged.items()}
    elif not problems:
        problems.append("says nothing of what was charged")
    conforms = content.get("conforms") is True and not values.get("charged")
    said = problems[0].removeprefix(f"{path.name} ") if problems else ""
    return ConformanceResult(path, **values, conforms=conforms, problem=said)

"""Drills on disk: ``drill.json`` written whole, and read without trust."""

from __future__ import annotations

from pathlib import Path

from reports.disk.json_file import json_file
from reports.disk.layout import described, encoded, folders_in, write_atomically
from reports.disk.seal import seal
from reports.errors import RunDirectoryError
from reports.read.consistency import record, schema_problems
from reports.record.codec import to_json
from reports.record.drills import DRILL_FILE, DRILL_KIND, Drilled, DrillRecord
from reports.record.redaction import redacted
from reports.record.words import SCHEMA


def write_drill(drill: DrillRecord) -> None:
    """Write ``drill.json``.

    Raises:
        RunDirectoryError: If it can't be written.
    """
    about = {"schema": SCHEMA, "kind": DRILL_KIND, **drill.manifest, "state": drill.state}
    faults = [to_json(one) for one in drill.faults]
    content = seal(encoded(redacted(described({**about, "faults": faults})), indent=1))
    try:
        write_atomically(drill.path / DRILL_FILE, content)
    except OSError as problem:
        text = f"{drill.path / DRILL_FILE}: {problem.strerror}; expected a directory that can be written"
        raise RunDirectoryError(text) from problem


def find_drills(folder: Path) -> list[Path]:
    """Find every drill whose directory lies directly in a directory of runs; links are not followed."""
    return [one for one in folders_in(folder) if (one / DRILL_FILE).is_file()]


def read_drill(path: Path) -> DrillRecord:
    """Read one drill; one that can't be believed says why in ``problems``."""
    problems: list[str] = []
    content = json_file(path, DRILL_FILE, problems, problems) or {}
    if not problems and content.get("kind") != DRILL_KIND:
        problems.append(f"{DRILL_FILE} is of kind {content.get('kind')!r:.40}, expected {DRILL_KIND!r}")
    if not problems:
        problems += schema_problems(DRILL_FILE, {"schema": None, **content})
    listed = content.get("faults")
    read = [record(Drilled, each, DRILL_FILE, problems) for each in (listed if isinstance(listed, list) else [])]
    faults = [each for each in read if each is not None]
    manifest = {name: value for name, value in content.items() if name not in ("faults", "schema", "kind", "state")}
    return DrillRecord(path, str(content.get("state", "unreadable")), manifest, faults, problems)

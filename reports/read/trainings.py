"""Trainings with one cache alone on disk: ``ab.json`` written whole, and read without trust."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.disk.json_file import json_file
from reports.disk.layout import described, encoded, folders_in, write_atomically
from reports.disk.seal import seal
from reports.errors import RunUnreadable
from reports.read.consistency import record, schema_problems
from reports.record.codec import to_json
from reports.record.redaction import redacted
from reports.record.trainings import AB_FILE, AB_KIND, FirstDifference, Training, Trainings
from reports.record.words import SCHEMA

_RECORDS = ("trainings", "first_differences")


def write_trainings(trainings: Trainings, derived: Mapping[str, Any]) -> None:
    """Write ``ab.json``.

    Args:
        trainings: What was recorded so far.
        derived: What was concluded from it, for people and other tools.

    Raises:
        OSError: If it can't be written.
    """
    about = {"schema": SCHEMA, "kind": AB_KIND, **trainings.manifest, "state": trainings.state}
    records = {
        "trainings": [to_json(training) for training in trainings.trainings],
        "first_differences": [to_json(difference) for difference in trainings.differences],
    }
    write_atomically(
        trainings.path / AB_FILE, seal(encoded(redacted(described({**about, **records, **derived})), indent=1))
    )


def read_trainings(path: Path) -> Trainings:
    """Read one result directory of ``kv-lockstep ab``.

    Args:
        path: The directory.

    Returns:
        What it holds; ``problems`` names what of it can't be used.

    Raises:
        RunUnreadable: If there is no such result.
    """
    problems: list[str] = []
    content = json_file(path, AB_FILE, problems, problems)
    if content is None and not problems:
        raise RunUnreadable(f"{path}: no {AB_FILE} in it; expected a result directory of kv-lockstep ab")
    content = content or {}
    if content and content.get("kind") != AB_KIND:
        problems.append(f"{AB_FILE} is of kind {content.get('kind')!r:.40}, expected {AB_KIND!r}")
    if content:
        problems += schema_problems(AB_FILE, {"schema": None, **content})
    trainings = Trainings(
        path,
        str(content.get("state", "unreadable")),
        {name: value for name, value in content.items() if name not in _RECORDS},
        _records(Training, content, "trainings", problems),
        _records(FirstDifference, content, "first_differences", problems),
        problems,
    )
    paired = sorted(control.seed for control, _ in trainings.pairs())
    seeds = content.get("seeds")
    if trainings.state == "complete" and (not isinstance(seeds, list) or paired != sorted(seeds)):
        problems.append(f"{AB_FILE} names seeds {seeds!r:.80} and holds pairs of {paired!r:.80}")
    return trainings


def find_trainings(path: Path) -> list[Path]:
    """Find results of ``kv-lockstep ab``: the directory itself, or all directly below; links are not followed."""
    return [path] if holds_trainings(path) else [child for child in folders_in(path) if holds_trainings(child)]


def holds_trainings(path: Path) -> bool:
    """Say whether a directory is that of a ``kv-lockstep ab``."""
    return (path / AB_FILE).is_file()


def _records(cls: type[Any], content: Mapping[str, Any], name: str, problems: list[str]) -> list[Any]:
    listed = content.get(name, [])
    if not isinstance(listed, list):
        problems.append(f"{AB_FILE}: {name} is no list")
        return []
    read = [record(cls, each, f"{AB_FILE}: {name}[{position}]", problems) for position, each in enumerate(listed)]
    return [each for each in read if each is not None]

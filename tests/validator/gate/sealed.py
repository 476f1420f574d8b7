"""Run directories edited and sealed again, as whoever wants to deceive would with the tool's own functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reports.disk.layout import SUMMARY_FILE, encoded
from reports.disk.seal import new_digest, seal

Where = tuple[Any, ...]


def documents(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Read everything that is JSON in a run directory, without digests: a list of lines by file name."""
    names = [file.name for file in sorted(directory.iterdir()) if file.suffix in (".json", ".jsonl")]
    read = {name: (directory / name).read_text() for name in names}
    return {
        name: [
            {key: value for key, value in json.loads(line).items() if key != "digest"}
            for line in (text.splitlines() if name.endswith("l") else [text])
        ]
        for name, text in read.items()
    }


def write_sealed(directory: Path, name: str, lines: list[dict[str, Any]], whole: bool = False) -> None:
    """Seal a file again; ``whole`` also brings into line what another file says of its digest."""
    if name.endswith(".json"):
        (directory / name).write_bytes(seal(encoded(lines[0], indent=1)))
        return
    raws = [encoded(line) + b"\n" for line in lines[:-1]]
    before = new_digest()
    for raw in raws:
        before.update(raw)
    last = seal(encoded(lines[-1]), before)
    (directory / name).write_bytes(b"".join([*raws, last, b"\n"]))
    if whole and name == "rank-0000.jsonl" and (directory / SUMMARY_FILE).exists():
        summary = documents(directory)[SUMMARY_FILE][0]
        write_sealed(directory, SUMMARY_FILE, [{**summary, "lines_digest": json.loads(last)["digest"]}])


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """Name every single value in a piece of JSON."""
    if isinstance(value, (dict, list)) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*where, key))
    else:
        yield where


def edits(value: Any) -> list[Any]:
    """Return what else could stand in the place of a value; ``...`` for nothing at all."""
    if isinstance(value, bool):
        return [not value, ...]
    if isinstance(value, (int, float)):
        absent = [...] if value else []  # which counts as 0
        return [value + 1, value - 1 if value >= 1 else value + 7, 2 * value + 3, 0 if value else 1, *absent]
    if isinstance(value, str):
        return [f"{value}x", value[:-1] or "y", 1, ...]
    return [1, "x", ...] if value is None else [{"x": 1}, [1], None, ...]


def edited(value: Any, where: Where, new: Any) -> Any:
    """Return a copy of a piece of JSON with one value changed."""
    if not where:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(where) == 1 and new is ...:
        del copy[where[0]]
    else:
        copy[where[0]] = edited(copy[where[0]], where[1:], new) if len(where) > 1 else new
    return copy

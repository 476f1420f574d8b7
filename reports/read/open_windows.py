"""What did a rank count since its last lines? Its open windows, written anew now and then."""

from __future__ import annotations

from pathlib import Path

from reports.disk.json_file import json_file
from reports.disk.layout import open_file
from reports.read.window_check import check_window, window_of
from reports.record.records import Window


def read_open(path: Path, rank: int, problems: list[str], changed: list[str]) -> list[Window]:
    """Read a rank's open windows. Read them before its lines: what they lack then is in these.

    Args:
        path: The run directory.
        rank: Whose they are.
        problems: Takes a sentence for what can't be read.
        changed: Takes one if they were changed after they were written.

    Returns:
        The windows, at most one of each pair; some may be lines by now.
    """
    name = open_file(rank)
    content = json_file(path, name, problems, changed)
    listed = [] if content is None else content.get("windows")
    if not isinstance(listed, list):
        problems.append(f"{name} holds no windows")
        return []
    found: dict[str, Window] = {}
    for place, line in enumerate(listed):
        try:
            if type(line) is not dict or "like" in line:
                raise ValueError("no window in full")
            check_window(line)
            if line["cache"] in found:
                raise ValueError(f"another one of {line['cache']!r:.60}")
            found[line["cache"]] = window_of(line, rank)
        except ValueError as fault:
            problems.append(f"{name}: windows[{place}]: {fault}")
    return [*found.values()]

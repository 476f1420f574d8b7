"""Where the tests lie that divergences were shrunk to: as files for people, and in one sealed file for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reports.disk.json_file import json_file
from reports.disk.layout import encoded, write_atomically
from reports.disk.seal import seal
from reports.record.codec import from_json, to_json
from reports.record.repro import KeptRepro

REPROS_DIR: Final = "repros"
REPROS_FILE: Final = "repros.json"


def read_repros(run: Path) -> tuple[list[KeptRepro], str]:
    """Read what divergences of a run were shrunk to.

    Args:
        run: The run directory.

    Returns:
        What was kept, and why it can't be told if something is wrong with the file: it is shown as a whole or not.
    """
    problems: list[str] = []
    try:
        content = json_file(run, f"{REPROS_DIR}/{REPROS_FILE}", problems, problems) or {}
        found = [from_json(KeptRepro, one) for one in content.get("repros", [])]
    except (ValueError, TypeError, AttributeError) as fault:
        problems.append(f"{REPROS_DIR}/{REPROS_FILE} can't be read: {fault!s:.120}")
    return ([], problems[0]) if problems else (found, "")


def keep_repro(run: Path, repro: KeptRepro) -> Path:
    """Keep what a divergence was shrunk to, in place of what was kept of it before.

    Args:
        run: The run directory.
        repro: The test, or why there is none, which does not take the place of a test.

    Returns:
        The test's file.

    Raises:
        OSError: If it can't be written.
    """
    folder = run / REPROS_DIR
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise OSError(f"{REPROS_DIR} is a symbolic link")
    kept = {(one.rank, one.divergence): one for one in read_repros(run)[0]}
    at = (repro.rank, repro.divergence)
    kept[at] = repro if repro.source or at not in kept else kept[at]  # a test stays until there is another
    if repro.source:
        write_atomically(folder / repro.file, repro.source.encode("utf-8", "backslashreplace"))
    whole = encoded({"repros": [to_json(kept[each]) for each in sorted(kept)]}, indent=1)
    write_atomically(folder / REPROS_FILE, seal(whole))
    return folder / repro.file

"""Which files of a run directory can be handed on, and what they say without the values of a person's configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from reports.disk.json_file import from_text, is_inside
from reports.disk.layout import EVIDENCE_DIR, RUN_FILE, SUMMARY_FILE, encoded, rank_file
from reports.disk.repros import REPROS_DIR
from reports.disk.seal import is_sealed, new_digest, seal
from reports.disk.trace import TRACE_DIR
from reports.record.redaction import redacted

LEFT_OUT: Final = "LEFT OUT"
BUNDLED: Final = "bundled"  # what the manifest of such a run says of it
_FOLDERS = (EVIDENCE_DIR, TRACE_DIR, REPROS_DIR)
_FILES = re.compile(
    rf"{re.escape(RUN_FILE)}|{re.escape(SUMMARY_FILE)}|rank-\d{{4,9}}\.(jsonl|open\.json|lost\.json|forked)"
)
# Of a manifest: what kv-lockstep itself writes of a run. All else is a person's own, and only its name is handed on.
_OURS = {
    *("schema", "run_id", "rank", "world_size", "created", "pid", "pid_started", "hostname", "versions", "git"),
    *("platform", "threads", "compiled", "cuda", "host", "validation", "selftest", "seed", "device", "num_layers"),
    *("env_num", "switches", "replayed", "drill", "process_group", BUNDLED),
}


def files_of(run: Path) -> tuple[list[str], list[str]]:
    """List what lies in a run directory.

    Args:
        run: The directory.

    Returns:
        Names of what is of the run, relative to it, and of what is not: links, and files that nobody here wrote.
    """
    found: list[str] = []
    other: list[str] = []
    for path in sorted(run.iterdir()):
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            names = sorted(f"{path.name}/{file.name}" for file in path.iterdir())
        else:
            names = [path.name]
        for name in names:
            of_run = "/" in name or _FILES.fullmatch(name) is not None
            (found if of_run and is_inside(run, name) else other).append(name)
    return found, other


def without_config(run: Path, keep: bool = False) -> dict[str, bytes]:
    """Return the files of a run that say what ran, without what is a person's own, sealed anew.

    The manifest stands in ``run.json`` and once more in the close of rank 0, whose digest stands in ``summary.json``.
    A member ``bundled`` of it names what was left out, and the digests that these files had. A file whose digest did
    not fit gets none that does.

    Args:
        run: The run directory.
        keep: Whether the configuration is handed on, so that only secrets are left out, which earlier versions wrote.

    Returns:
        Content by name, of the files that change; nothing if they can't be read or nothing changes.
    """
    lines_file = rank_file(0)
    whole = {name: _read(run, name) for name in (RUN_FILE, lines_file, SUMMARY_FILE)}
    manifest = _object(whole[RUN_FILE])
    about = {name: value for name, value in manifest.items() if name != "digest"}
    ours = {name: value if keep or name in _OURS else LEFT_OUT for name, value in redacted(about).items()}
    if not keep and isinstance(settings := ours.get("validation"), Mapping) and "out" in settings:
        ours["validation"] = {**settings, "out": LEFT_OUT}
    if ours == about:
        return {}
    first, last = _last_line(whole[lines_file])
    close, summary = _object(last), _object(whole[SUMMARY_FILE])
    ours[BUNDLED] = {
        "left_out": [name + ".out" * (name == "validation") for name in about if about[name] != ours[name]],
        "digests": {
            name: said["digest"]
            for name, said in ((RUN_FILE, manifest), (lines_file, close), (SUMMARY_FILE, summary))
            if "digest" in said
        },
    }
    changed = {RUN_FILE: _resealed(whole[RUN_FILE], ours, indent=1)}
    inventory = close.get("inventory")
    if isinstance(inventory, Mapping) and inventory.get("ran") == about:
        before = new_digest()
        before.update(first)
        sealed = _resealed(last, {**close, "inventory": {**inventory, "ran": ours}}, before)
        changed[lines_file] = first + sealed + b"\n"
        if summary.get("lines_digest") == close.get("digest"):
            now = {**summary, "lines_digest": json.loads(sealed)["digest"]}
            changed[SUMMARY_FILE] = _resealed(whole[SUMMARY_FILE], now, indent=1)
    return changed


def _resealed(old: bytes, content: Mapping[str, Any], before: Any = None, indent: int | None = None) -> bytes:
    """Write an object anew, with a digest that fits if the old one did."""
    content = dict(content)
    digest = content.pop("digest", None)
    if is_sealed(old, before):
        return seal(encoded(content, indent), before)
    return encoded(content if digest is None else {**content, "digest": digest}, indent)


def _last_line(data: bytes) -> tuple[bytes, bytes]:
    """Split a file of lines before its last one."""
    begin = data.rstrip(b"\n").rfind(b"\n") + 1
    return data[:begin], data[begin:].rstrip(b"\n")


def _read(run: Path, name: str) -> bytes:
    return (run / name).read_bytes() if is_inside(run, name) else b""


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = from_text(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

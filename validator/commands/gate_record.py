"""The rollout record: who judged what, when, by which policy, and whether all of it is still what it was."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from reports.disk.json_file import json_file
from reports.disk.layout import encoded, write_atomically
from reports.disk.seal import seal
from reports.errors import RunUnreadable
from reports.formats.terminal.layout import STYLES, Page
from reports.read.evidence_files import differences, evidence_files, named_files
from reports.record.codec import to_json
from reports.record.words import EXIT_CODE, READS, SCHEMA, Verdict
from validator.commands.arguments import installed_version
from validator.commands.gate_evidence import Sources, read_sources
from validator.errors import ConfigError, LockstepError
from validator.gate.judgement import Judgement, judge
from validator.gate.policy import GatePolicy
from validator.gate.shipped import shipped_folder
from validator.gate.waivers import load_waivers

KIND = "rollout record"
_WHOLE = ("run", "ab")  # directories of which every file counts; of others only the file that is named
_SHIPPED = {"policy": "gate", "waivers": "waivers"}  # kinds of which some come with every installation
_KINDS = (*_WHOLE, "conformance", *_SHIPPED)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before its verdict.

    Attributes:
        file: Where it will be written.
        items: What is judged and by what: ``kind``, ``path`` relative to the record's directory (empty for what comes
            with an installation), ``files`` (SHA-256 by name).
        unread: What was found and not read.
    """

    file: Path
    items: list[dict[str, Any]]
    unread: list[str]

    @classmethod
    def of(cls, file: Path, sources: Sources, policy: Path | None, waivers: Sequence[Path]) -> Draft:
        """Take the digests of everything that will be judged, and judged by.

        Raises:
            ConfigError: If the record exists already, or can't be written where it is to lie.
        """
        if os.path.lexists(file):
            raise ConfigError(f"{file}: exists already, and a record is never overwritten; choose another name")
        if not file.parent.is_dir():
            raise ConfigError(f"{file}: its directory does not exist; make it, or choose another one")
        base = file.parent
        items = [_item("run", path, evidence_files(path), base) for path in sources.runs]
        items += [_item("ab", path, evidence_files(path), base) for path in sources.trainings]
        singles = [("conformance", path) for path in sources.conformance]
        singles += [("policy", policy)] if policy else []
        singles += [("waivers", path) for path in waivers]
        items += [_item(kind, path.parent, named_files(path.parent, [path.name]), base) for kind, path in singles]
        return cls(file, items, sources.unread)

    def write(self, judgement: Judgement, now: float, by: str | None) -> None:
        """Write the record.

        Args:
            judgement: What came of it.
            now: The moment of judging, seconds since 1970.
            by: Who answers for it; None for the user of this process.

        Raises:
            LockstepError: If it can't be written: a verdict that was to be recorded and is not is no verdict.
        """
        about = {
            "schema": SCHEMA,
            "kind": KIND,
            "recorded": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
            "now": now,
            "who": by or _user(),
            "host": socket.gethostname(),
            "command": sys.argv,
            "versions": {"kv-lockstep": installed_version()},
            "policy": judgement.policy,
            "verdict": judgement.verdict.value,
            "reasons": list(judgement.reasons),
            "demands": [to_json(demand) for demand in judgement.demands],
            "evidence": self.items,
            "unread": self.unread,
        }
        try:
            write_atomically(self.file, seal(encoded(about, indent=1)))
        except OSError as problem:
            raise LockstepError(f"{self.file}: the record can't be written ({problem.strerror})") from None


def verify(file: Path, out: Console) -> int:
    """Look whether everything that a record names is still what it was, and judge it again as of that moment.

    Args:
        file: The record.
        out: Where to.

    Returns:
        The recorded verdict's exit code if nothing changed. Else that of INCONCLUSIVE, because the verdict rests on
        something that is not there any more; a recorded FAIL stays one.

    Raises:
        ConfigError: If there is no record that can be read.
    """
    record = _read(file)
    verdict = Verdict(record["verdict"])
    changes = list(record["changed"])
    for item in record["evidence"]:
        changes += [f"{_place(item)}: {phrase}" for phrase in _changes(file.parent, item)]
    if not changes:
        changes += _judged_again(file.parent, record, verdict)
    page = Page(out)
    when = page.text(f", recorded {record['recorded']} by {record['who']}, policy {record['policy']!r}")
    page.flush_left(Text.assemble((verdict.value, STYLES[verdict]), when))
    if not changes:
        n_files = sum(len(item["files"]) for item in record["evidence"])
        page.points([page.text(f"unchanged: {n_files} files; judged again as of then, the verdict is the same")])
        return EXIT_CODE[verdict]
    page.points(page.text(change, limit=1000) for change in changes)
    found = Verdict.FAIL if verdict is Verdict.FAIL else Verdict.INCONCLUSIVE
    rest = page.text(": this is not what was judged; run kv-lockstep gate again")
    page.flush_left(Text.assemble((found.value, STYLES[found]), rest))
    return EXIT_CODE[found]


def _changes(base: Path, item: Mapping[str, Any]) -> list[str]:
    directory = _directory(base, item)
    found = evidence_files(directory) if item["kind"] in _WHOLE else named_files(directory, item["files"])
    return differences(item["files"], found)


def _judged_again(base: Path, record: Mapping[str, Any], verdict: Verdict) -> Iterator[str]:
    """Yield what is wrong if the same evidence does not give the same verdict."""

    def paths(kind: str) -> list[Path]:
        items = [item for item in record["evidence"] if item["kind"] == kind]
        names = ("",) if kind in _WHOLE else ()  # of a whole directory, itself
        return [_directory(base, item) / name for item in items for name in names or item["files"]]

    policy = [GatePolicy.load(path) for path in paths("policy")] or [GatePolicy()]
    waivers = [waiver for path in paths("waivers") for waiver in load_waivers(path)]
    try:
        evidence = read_sources(Sources(paths("run"), paths("conformance"), paths("ab"), record["unread"]), waivers)
    except RunUnreadable as problem:
        yield str(problem)
        return
    again = judge(replace(evidence, now=record["now"]), policy[0])
    if again.verdict is not verdict:
        by = record["versions"].get("kv-lockstep", "?")
        now = f"judged again as of then by version {installed_version()} the verdict is {again.verdict.value}"
        yield f"{now} (it was judged by {by}): {again.reasons[0]}"


def _read(file: Path) -> dict[str, Any]:
    problems: list[str] = []
    changed: list[str] = []
    record = json_file(file.parent, file.name, problems, changed)
    if record is None:
        raise ConfigError(f"{file}: {problems[0] if problems else 'there is nothing'}; expected a record of --record")
    if record.get("kind") != KIND or record.get("schema") not in READS:
        found = f"kind {record.get('kind')!r:.40}, schema {record.get('schema')!r:.20}"
        raise ConfigError(f"{file}: found {found}; expected a {KIND} of schema 1 to {SCHEMA}")
    items = record.get("evidence")
    sound = isinstance(items, list) and all(map(_is_item, items)) and isinstance(record.get("versions"), dict)
    sound = sound and record.get("verdict") in {verdict.value for verdict in Verdict}
    sound = sound and isinstance(record.get("now"), float) and isinstance(record.get("unread"), list)
    if not sound or not all(isinstance(record.get(name), str) for name in ("recorded", "who", "policy")):
        raise ConfigError(f"{file}: not a whole record: verdict, moment, who or evidence is missing or mistyped")
    return {**record, "changed": changed}


def _is_item(item: Any) -> bool:
    if not (isinstance(item, dict) and item.get("kind") in _KINDS and isinstance(item.get("path"), str)):
        return False
    files = item.get("files")
    # A name is data: it must not lead anywhere but into the directory that is named.
    return isinstance(files, dict) and all(
        isinstance(digest, str) and ".." not in Path(name).parts and not Path(name).is_absolute()
        for name, digest in files.items()
    )


def _item(kind: str, path: Path, files: dict[str, str], base: Path) -> dict[str, Any]:
    shipped = kind in _SHIPPED and path.resolve() == shipped_folder(_SHIPPED[kind]).resolve()
    return {"kind": kind, "path": "" if shipped else Path(os.path.relpath(path, base)).as_posix(), "files": files}


def _directory(base: Path, item: Mapping[str, Any]) -> Path:
    """Return where an item lies now: what comes with an installation is looked for in the one that verifies."""
    if item["kind"] in _SHIPPED and not item["path"]:
        return shipped_folder(_SHIPPED[item["kind"]])
    path: str = item["path"]
    return base / path


def _place(item: Mapping[str, Any]) -> str:
    return f"{item['kind']} {item['path'] or 'that ships'}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"

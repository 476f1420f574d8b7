"""The rollout record: who judged what, when, by which policy, and whether all of it is still what it was."""

from __future__ import annotations

import getpass
import hashlib
import hmac
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
from reports.read.campaign import campaign_files
from reports.read.evidence_files import differences, evidence_files, named_files
from reports.record.codec import to_json
from reports.record.drills import DRILL_FILE
from reports.record.redaction import redacted
from reports.record.words import EXIT_CODE, READS, SCHEMA, Verdict
from validator.commands.arguments import installed_version
from validator.commands.gate_evidence import Sources, read_sources
from validator.errors import ConfigError, LockstepError
from validator.gate.judgement import Judgement, judge
from validator.gate.policy import GatePolicy
from validator.gate.shipped import shipped_folder
from validator.gate.waivers import load_waivers

KIND = "rollout record"
_WHOLE = (
    "run",
    "ab",
    "superseded run",
)  # directories of which every file counts; of others only the file that is named
_SHIPPED = {"policy": "gate", "waivers": "waivers"}  # kinds of which some come with every installation
_LEAST_KEY = 16  # bytes
_KINDS = (*_WHOLE, "conformance", "campaign", "drill", *_SHIPPED)


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
        items += [_item("superseded run", path, evidence_files(path), base) for path in sources.superseded]
        items += [_item("campaign", path, named_files(path, campaign_files(path)), base) for path in sources.campaigns]
        singles = [("conformance", path) for path in sources.conformance]
        singles += [("drill", path / DRILL_FILE) for path in sources.drills]
        singles += [("policy", policy)] if policy else []
        singles += [("waivers", path) for path in waivers]
        items += [_item(kind, path.parent, named_files(path.parent, [path.name]), base) for kind, path in singles]
        return cls(file, items, sources.unread)

    def write(self, judgement: Judgement, now: float, by: str | None, key: bytes = b"") -> None:
        """Write the record.

        Args:
            judgement: What came of it.
            now: The moment of judging, seconds since 1970.
            by: Who answers for it; None for the user of this process.
            key: What to sign it with; empty for no signature.

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
        about = redacted(about)
        signed = {**about, "hmac": _signature(about, key)} if key else about
        try:
            write_atomically(self.file, seal(encoded(signed, indent=1)))
        except OSError as problem:
            raise LockstepError(f"{self.file}: the record can't be written ({problem.strerror})") from None


def read_key(file: Path) -> bytes:
    """Read a key for records; blanks and line ends around it are no part of it.

    Raises:
        ConfigError: If the file can't be read, or what it holds is too short to keep anybody out.
    """
    try:
        key = file.read_bytes().strip() if file.is_file() else b""
    except OSError as problem:
        raise ConfigError(f"{file}: the key can't be read ({problem.strerror})") from None
    if len(key) < _LEAST_KEY:
        found = f"a key of {len(key)} bytes" if file.is_file() else "no plain file"
        raise ConfigError(f"{file}: found {found}; expected at least {_LEAST_KEY}: openssl rand -hex 32 > {file}")
    return key


def verify(file: Path, out: Console, key: bytes = b"") -> int:
    """Look whether everything that a record names is still what it was, and judge it again as of that moment.

    Args:
        file: The record.
        out: Where to.
        key: What it must have been signed with; empty to leave a signature unchecked.

    Returns:
        The recorded verdict's exit code if nothing changed. Else that of INCONCLUSIVE, because the verdict rests on
        something that is not there any more; a recorded FAIL stays one.

    Raises:
        ConfigError: If there is no record that can be read, or it was not signed with the key.
    """
    record = _read(file, key)
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
        page.points([page.text(f"its signature {_SIGNED[bool(key), 'hmac' in record]}")])
        return EXIT_CODE[verdict]
    page.points(page.text(change, limit=1000) for change in changes)
    found = Verdict.FAIL if verdict is Verdict.FAIL else Verdict.INCONCLUSIVE
    rest = page.text(": this is not what was judged; run kv-lockstep gate again")
    page.flush_left(Text.assemble((found.value, STYLES[found]), rest))
    return EXIT_CODE[found]


_SIGNED = {  # by whether there is a key, and whether there is a signature
    (True, True): "was made with this key",
    (False, True): "can't be checked without the key: --key-file FILE",
    (False, False): "is missing: digests tell of accidents, and whoever edits can compute them again",
}


def _signature(about: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, encoded(about), hashlib.sha256).hexdigest()


def _changes(base: Path, item: Mapping[str, Any]) -> list[str]:
    directory = _directory(base, item)
    found = evidence_files(directory) if item["kind"] in _WHOLE else named_files(directory, item["files"])
    if item["kind"] == "campaign":
        found = named_files(directory, {*item["files"], *campaign_files(directory)})
    return differences(item["files"], found)


def _judged_again(base: Path, record: Mapping[str, Any], verdict: Verdict) -> Iterator[str]:
    """Yield what is wrong if the same evidence does not give the same verdict."""

    def paths(kind: str) -> list[Path]:
        items = [item for item in record["evidence"] if item["kind"] == kind]
        names = ("",) if kind in (*_WHOLE, "campaign") else ()  # of a whole directory, itself
        return [_directory(base, item) / name for item in items for name in names or item["files"]]

    policy = [GatePolicy.load(path) for path in paths("policy")] or [GatePolicy()]
    waivers = [waiver for path in paths("waivers") for waiver in load_waivers(path)]
    try:
        named = paths("run"), paths("conformance"), paths("ab"), record["unread"]
        drills = [path.parent for path in paths("drill")]
        evidence = read_sources(Sources(*named, paths("campaign"), paths("superseded run"), drills), waivers)
    except RunUnreadable as problem:
        yield str(problem)
        return
    again = judge(replace(evidence, now=record["now"]), policy[0])
    if again.verdict is not verdict:
        by = record["versions"].get("kv-lockstep", "?")
        now = f"judged again as of then by version {installed_version()} the verdict is {again.verdict.value}"
        yield f"{now} (it was judged by {by}): {again.reasons[0]}"


def _read(file: Path, key: bytes) -> dict[str, Any]:
    problems: list[str] = []
    changed: list[str] = []
    record = json_file(file.parent, file.name, problems, changed)
    if record is None:
        raise ConfigError(f"{file}: {problems[0] if problems else 'there is nothing'}; expected a record of --record")
    if record.get("kind") != KIND or record.get("schema") not in READS:
        found = f"kind {record.get('kind')!r:.40}, schema {record.get('schema')!r:.20}"
        raise ConfigError(f"{file}: found {found}; expected a {KIND} of schema 1 to {SCHEMA}")
    if key:
        signature = str(record.get("hmac", ""))
        about = {name: value for name, value in record.items() if name != "hmac"}
        if not hmac.compare_digest(signature.encode(), _signature(about, key).encode()):
            found = "its signature was not made with this key" if signature else "it is not signed"
            raise ConfigError(f"{file}: {found}, or it was changed since; expected a record of --record --key-file")
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

"""Traces, read without trust: what is torn, foreign, newer or edited is said, and what can be read is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from reports.disk.json_file import is_inside
from reports.disk.seal import is_sealed, new_digest
from reports.disk.trace import TRACE_DIR, bodies_file, segment_file
from reports.errors import RunUnreadable
from reports.record.trace import BODY, FORMAT, RECORD, Form, Layout, Trace, Verb

_INDEX = re.compile(r"rank-(\d{4,9})-(\d{2,9})\.jsonl")
_LINE_MOST = 1 << 20
_LINES_MOST = 1 << 20
_LEAVES_MOST = 4096  # of one entry
_SEGMENT_MOST = 64 << 20  # bytes


def find_traces(path: Path | str) -> list[Path]:
    """Find the traces of a run, by rank and pair.

    Args:
        path: A run directory, or the index of one trace.

    Raises:
        RunUnreadable: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    folder = path / TRACE_DIR
    found = (
        [file for file in folder.iterdir() if _INDEX.fullmatch(file.name)]
        if folder.is_dir() and not folder.is_symlink()
        else []
    )
    if not found:
        raise RunUnreadable(
            f"{path}: holds no trace; one is recorded where cache_validation has record = 'digests', the default"
        )
    return sorted(found)


def read_trace(path: Path) -> Trace:
    """Read one trace as far as it can be read.

    Args:
        path: Its index.

    Raises:
        RunUnreadable: If it is no trace, or one that this version can't read.
    """
    if not _INDEX.fullmatch(path.name) or not is_inside(path.parent, path.name):
        raise RunUnreadable(f"{path}: expected the index of a trace, a plain file such as trace/rank-0000-00.jsonl")
    lines = _lines(path)
    _, first, _ = next(lines, (b"", dict[str, Any](), None))
    if not isinstance(first.get("trace"), int):
        raise RunUnreadable(f"{path}: is no trace: its first line says none")
    if first["trace"] != FORMAT or first.get("record") != RECORD.itemsize:
        raise RunUnreadable(
            f"{path}: is a trace of format {first['trace']}, and this version reads {FORMAT}: use the version of "
            "kv-lockstep that wrote it"
        )
    trace = Trace(str(path), first, np.empty(0, RECORD))
    segments: dict[int, dict[str, Any]] = {}
    bodies: dict[str, Any] = {}
    for data, line, before in lines:
        try:
            if "bodies" in line:
                bodies = line
            else:
                _take(trace, segments, data, line, before)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            trace.problems.append(f"{path.name}: a line can't be read: {data[:80]!r}")
    _read_segments(path, trace, segments)
    _read_bodies(path, trace, bodies)
    _check_numbers(trace)
    return trace


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any], Any]]:
    digest = new_digest()
    with path.open("rb") as file:
        for data in islice(iter(lambda: file.readline(_LINE_MOST), b""), _LINES_MOST):
            before = digest.copy()
            digest.update(data)
            try:
                line = json.loads(data)
                yield data, line if isinstance(line, dict) else {}, before
            except (ValueError, RecursionError):
                yield data, {"torn": True}, before


def _take(trace: Trace, segments: dict[int, dict[str, Any]], data: bytes, line: dict[str, Any], before: Any) -> None:
    if "verb" in line:
        _at(trace.verbs, line["verb"], Verb(*(str(line[name]) for name in ("method", "kind", "pool", "name"))))
    elif "layout" in line:
        _at(trace.layouts, line["layout"], _layout(line["leaves"]))
        trace.forms.append(_form(line.get("form")))
    elif "key" in line:
        value = line.get("value", f"{line.get('repr', 'key')}-{line['key']}")
        trace.stand_ins += "repr" in line
        _at(trace.keys, line["key"], _tupled(value))
    elif "segment" in line:
        segments[int(line["segment"])] = line
    elif "dropped" in line:
        segments[int(line["dropped"])]["dropped"] = True
    elif "ended" in line:
        trace.ended = f"{line['ended']:.200}"
    elif "close" in line:
        trace.whole = True
        if not is_sealed(data.rstrip(b"\n"), before):
            trace.problems.append("its index was changed after it was written: its digest does not fit")
    elif "torn" not in line:
        trace.problems.append(f"its index holds a line of no known kind: {data[:80]!r}")
    elif data.endswith(b"\n"):
        trace.problems.append("a line of its index is no JSON")


def _at(found: list[Any], number: int, value: Any) -> None:
    if number != len(found):
        raise ValueError("out of order")
    found.append(value)


def _layout(runs: Any) -> Layout:
    leaves: list[tuple[tuple[int, ...], str, str, int]] = []
    for count, shape, dtype, device, size in runs:
        if not 0 < count <= _LEAVES_MOST - len(leaves):
            raise ValueError("too many leaves")
        leaves += [(tuple(int(n) for n in shape), str(dtype), str(device), int(size))] * count
    return tuple(leaves)


def _form(found: Any) -> Form | None:
    return None if found is None else tuple((str(path), str(what)) for path, what in found)


def _tupled(value: Any) -> Any:
    """Return a key as it was: JSON has no tuples, and no list is a key."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _read_segments(path: Path, trace: Trace, segments: dict[int, dict[str, Any]]) -> None:
    """Put the records of all segments together, those after the last index line too."""
    parts, number = [], 0
    while number in segments and segments[number].get("dropped"):
        trace.first += int(segments[number]["records"])
        number += 1
    while True:
        name = segment_file(path.name, number)
        if not is_inside(path.parent, name):
            break
        if (size := (path.parent / name).stat().st_size) > _SEGMENT_MOST:
            trace.problems.append(f"{name} is of {size:,} bytes, more than any that is written; not read")
            break
        data = (path.parent / name).read_bytes()
        about = segments.get(number)
        digest = new_digest()
        digest.update(data)
        if about is not None and about.get("digest") != digest.hexdigest():
            trace.problems.append(f"{name} was changed after it was written: its digest does not fit")
        parts.append(np.frombuffer(data[: len(data) - len(data) % RECORD.itemsize], RECORD))
        number += 1
    if any(missing >= number for missing in segments):
        trace.problems.append(f"{segment_file(path.name, number)} is missing: nothing after it was read")
    if parts:
        trace.records = np.concatenate(parts)


def _read_bodies(path: Path, trace: Trace, about: dict[str, Any]) -> None:
    """Find the entries that were kept, up to the first that is torn or was changed."""
    name = bodies_file(path.name)
    if not is_inside(path.parent, name):
        if about:
            trace.problems.append(f"{name} is missing: its entries are made of their digests")
        return
    if not (path.parent / name).stat().st_size:
        return
    data: Any = np.memmap(path.parent / name, np.uint8, "r")
    if about and _digest_of(data) != about.get("digest"):
        trace.problems.append(f"{name} was changed after it was written: its digest does not fit")
    at = 0
    while at + BODY.size <= len(data):
        digest, check, layout, size = BODY.unpack_from(data, at)
        body = data[at + BODY.size : at + BODY.size + size]
        at += BODY.size + size
        if len(body) < size:
            break  # torn
        if check != xxh3_64_intdigest(body):
            trace.problems.append(f"{name}: an entry was changed after it was written; it and later ones are not used")
            break
        trace.bodies[digest, layout - 1] = body


def _digest_of(data: Any) -> str:
    digest = new_digest()
    digest.update(data)
    return str(digest.hexdigest())


def _check_numbers(trace: Trace) -> None:
    """Cut a trace before the first record that names what its index does not hold."""
    records = trace.records
    is_known = np.array([verb.kind != "life" for verb in trace.verbs], bool)
    bad = records["verb"] >= len(trace.verbs)
    of_operations = np.zeros(len(records), bool)
    of_operations[~bad] = is_known[records["verb"][~bad]] if len(trace.verbs) else False
    bad |= of_operations & (records["layout"] > len(trace.layouts))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        trace.records = records[:at]
        trace.problems.append(
            f"record {trace.first + at:,} names what the index does not hold; nothing after it was read"
        )

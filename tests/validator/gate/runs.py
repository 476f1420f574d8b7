"""Runs that the default policy passes, in memory and on disk, and what a test changes in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.record.records import Divergence, Window
from reports.record.run import Run
from reports.record.totals import fold, summarise
from reports.record.words import SCHEMA, Cause, Dimension, Fault, Outcome
from reports.writer import RunWriter

COVERED = {"overwrites": 3, "evictions": 2, "clears_recur": 7, "weight_updates": 1}
LOOKUPS = {"init": {"both_hit_equal": 90, "both_miss": 10}, "recur": {"both_hit_equal": 200}}
ENVS = {"0": 60, "1": 40}
MANIFEST = {
    "run_id": "one",
    "schema": 1,
    "selftest": {"passed": True},
    "validation": {"digest_share": 1.0, "rtol": None, "atol": None},
}
PAIR = {
    "cache": "collect",
    "control": "LegacyKVCache",
    "candidate": "KVCacheManager",
    "primary": "control",
    "env_num": 2,
    "sources": {"control": "0a", "candidate": "0b"},
}


def window(**changes: Any) -> Window:
    """A window of a run that the default policy passes."""
    return replace(Window("collect", 0, 1.0, lookups=LOOKUPS, coverage=COVERED, envs=ENVS), **changes)


def run_of(*windows: Window, **changes: Any) -> Run:
    """A run that the default policy passes, unless windows or changes say otherwise."""
    windows = windows or (window(),)
    about: dict[str, Any] = {
        "path": Path("runs/one"),
        "state": "complete",
        "manifest": MANIFEST,
        "summary": {"state": "complete"},
        "caches": [PAIR],
        "windows": list(windows),
        "totals": fold(windows),
    }
    return Run(**{**about, **changes})


def named(name: str, **changes: Any) -> Run:
    """Another such run, of another id and path."""
    return run_of(path=Path("runs") / name, manifest={**MANIFEST, "run_id": name}, **changes)


def divergence(**changes: Any) -> Divergence:
    """A divergence that charges the candidate."""
    about: dict[str, Any] = {
        "id": 0,
        "cache": "collect",
        "op_index": 512,
        "operation": "get.recur",
        "pool": "recur",
        "env_id": None,
        "key": "00000000000000ff",
        "outcome": Outcome.BOTH_HIT_DIFFER,
        "dimension": Dimension.VALUE,
        "cause": Cause.CORRUPTED,
        "fault": Fault.CANDIDATE,
        "explanation": "The candidate answers other values than were stored.",
    }
    return Divergence(**{**about, **changes})


def write_run(
    out: Path, run_id: str = "one", *windows: Window, divergences: tuple[Divergence, ...] = (), close: bool = True
) -> Path:
    """Leave a run directory as a training would."""
    writer = RunWriter.create(out, run_id, {**MANIFEST, "run_id": run_id}, evidence_limit_bytes=0)
    writer.cache("collect", **{name: said for name, said in PAIR.items() if name != "cache"})
    for one in divergences:
        writer.divergence(one)
    for one in windows:
        writer.window(one)
    if close:
        writer.close(summarise(fold(windows), schema=SCHEMA, run_id=run_id, state="complete"))
    return writer.path

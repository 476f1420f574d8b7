"""Records of a small, plausible run, for the tests of reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports.record.records import Divergence, LeafDifference, Window
from reports.record.totals import fold, summarise
from reports.record.words import SCHEMA, Cause, Dimension, Fault, Outcome
from reports.writer import RunWriter

MANIFEST: dict[str, Any] = {
    "schema": SCHEMA,
    "world_size": 1,
    "created": "2026-11-23T04:17:00+00:00",
    "versions": {"kv-lockstep": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
    "git": {"commit": "c721e6a0c0ffee", "dirty": True},
    "seed": 0,
    "device": "cpu",
    "switches": {"use_new_cache_manager": False, "cache_validation_mode": True},
}
CACHE: dict[str, Any] = {
    "control": "shadow.legacy.LegacyKVCache",
    "candidate": "shadow.manager.KVCacheManager",
    "primary": "control",
}


def leaf(**changes: Any) -> LeafDifference:
    """A value tensor of layer 1 that differs in 12 of 96 elements."""
    about: dict[str, Any] = {
        "layer": 1,
        "part": "V",
        "rung": "bits",
        "control": "float32 (1, 2, 6, 8) cpu valid 6",
        "candidate": "float32 (1, 2, 6, 8) cpu valid 6",
        "n_elements": 96,
        "n_mismatched": 12,
        "max_abs_diff": 0.731,
        "max_abs_index": (0, 1, 4, 7),
        "max_rel_diff": 12.5,
        "max_rel_index": (0, 0, 2, 3),
        "n_nan_candidate": 3,
    }
    return LeafDifference(**about | changes)


def divergence(**changes: Any) -> Divergence:
    """A hit of both sides that answered different values."""
    about: dict[str, Any] = {
        "id": 0,
        "cache": "world_model",
        "op_index": 1041,
        "operation": "get.init",
        "pool": "init",
        "env_id": 3,
        "key": "00ab54a98ceb1f0a",
        "outcome": Outcome.BOTH_HIT_DIFFER,
        "dimension": Dimension.VALUE,
        "cause": Cause.STALE_VERSION,
        "fault": Fault.CANDIDATE,
        "explanation": "The candidate answered what was stored under this key by set #1009; set #1033 replaced it.",
        "leaves": (leaf(part="K"), leaf()),
        "history": (
            "#1009 set.init env 3 00ab54a98ceb1f0a T=6 digest 71c0",
            "#1033 set.init env 3 00ab54a98ceb1f0a T=6 digest 9e41",
            "#1041 get.init env 3 00ab54a98ceb1f0a: control 9e41, candidate 71c0",
        ),
        "train_iter": 120,
        "env_step": 4800,
        "episode": 7,
        "weight_version": 119,
        "t_s": 12.5,
    }
    return Divergence(**about | changes)


def window(seq: int = 0, **changes: Any) -> Window:
    """A window of 100 operations without a divergence."""
    about: dict[str, Any] = {
        "cache": "world_model",
        "seq": seq,
        "t_s": 5.0 * (seq + 1),
        "ops": {"get.init": 40, "set.init": 20, "get.recur": 30, "set.recur": 8, "clear.recur": 2},
        "lookups": {
            "init": {"both_hit_equal": 36, "both_miss": 4},
            "recur": {"both_hit_equal": 20, "both_miss": 10},
        },
        "coverage": {"overwrites": 5, "evictions": 8, "ring_wraps": 1, "clears_init": 0},
        "envs": {"0": 30, "1": 40},
        "latency_ns": {
            "control.get.init": {"97": 30, "110": 10},
            "candidate.get.init": {"90": 39, "130": 1},
            "control.set.init": {"120": 20},
            "candidate.set.init": {"118": 20},
        },
        "bytes_held": {"control": 3_145_728, "candidate": 1_572_864},
        "harness_ns": 40_000_000,
        "train_iter": 120 + seq,
        "env_step": 4800,
    }
    return Window(**about | changes)


def write_run(
    out: Path,
    run_id: str = "r1",
    windows: tuple[Window, ...] = (window(0), window(1)),
    divergences: tuple[Divergence, ...] = (),
    close: bool = True,
    state: str = "complete",
    **manifest: Any,
) -> Path:
    """Write a run as the session does, and return its directory."""
    writer = RunWriter.create(out, run_id, MANIFEST | manifest, evidence_limit_bytes=1 << 20)
    writer.cache("world_model", **CACHE)
    writer.event("weights_updated", "version 1")
    for record in divergences:
        writer.divergence(record)
    for record in windows:
        writer.window(record)
    if close:
        assert writer.close(summarise(fold(windows), schema=SCHEMA, run_id=run_id, state=state))
    return writer.path


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file."""
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

"""Evidence that passes each shipped policy, in memory and on disk, for tests to take something away from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.read.conformance import write_conformance
from reports.record.records import Window
from reports.record.run import ConformanceResult, Run
from reports.record.totals import Timed, fold, summarise
from reports.record.trainings import Trainings
from reports.record.words import SCHEMA
from reports.writer import RunWriter
from tests.validator.gate.runs import MANIFEST, PAIR
from tests.validator.gate.trainings import training
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Evidence
from validator.gate.shipped import find_file

NOW = 1_795_600_000.0
DAY = 86_400.0
POLICIES = ("smoke", "shadow-to-canary", "canary-to-default", "remove-legacy")
# Policy: primary of each run; its seed is its position.
RUNS = {
    "smoke": ("control",),
    "shadow-to-canary": ("control",) * 3,
    "canary-to-default": ("control",) * 3 + ("candidate",),
    "remove-legacy": ("candidate",) * 5,
}
LATENCY = {"control.get.init": {"80": 300}, "candidate.get.init": {"80": 300}}


def policy(name: str) -> GatePolicy:
    return GatePolicy.load(find_file("gate", name, "gate policy"))


def busy_window(**changes: Any) -> Window:
    """A window in which everything happened that any shipped policy asks for."""
    return replace(
        Window(
            cache="collect",
            seq=0,
            t_s=10.0,
            ops={
                **dict.fromkeys(("get.init", "get.wm", "get.hierarchical"), 4000),
                **dict.fromkeys(("clear.all", "clear.init_env", "clear.recur"), 200),
                **{"set.init": 3000, "set.wm": 900},
            },
            lookups={pool: {"both_hit_equal": 3900, "both_miss": 100} for pool in ("init", "wm", "hierarchical")},
            coverage={
                **dict.fromkeys(("overwrites", "ring_wraps", "clears_all", "clears_init_env", "clears_recur"), 200),
                **{"evictions": 2000, "weight_updates": 12, "episodes": 100, "searches": 300, "sets_of_2_layers": 3900},
            },
            envs={"0": 4000, "1": 4000},
            latency_ns=LATENCY,
            bytes_held={"control": 1000, "candidate": 1000},
            harness_ns=3_000_000_000,
        ),
        **changes,
    )


def manifest(number: int, now: float = NOW, **changes: Any) -> dict[str, Any]:
    return {
        **MANIFEST,
        "run_id": f"run-{number}",
        "pid": 0,  # of no process, so that a run without a close is not taken for one in progress
        "world_size": 1,
        "created": now - DAY,
        "seed": number,
        "num_layers": 2,
        "git": {"commit": "c0ffee", "dirty": False},
        "config": {"env_num": 2, "cache_validation": {"out": f"runs/{number}"}},
        **changes,
    }


def busy_run(seed: int, primary: str = "control", *windows: Window, pair: Any = None, **changes: Any) -> Run:
    """A run that any shipped policy counts; ``manifest`` in changes is merged into its own."""
    windows = windows or (busy_window(),)
    about = manifest(seed, **changes.pop("manifest", {}))
    return Run(
        **{
            "path": Path(f"runs/run-{seed}"),
            "state": "complete",
            "manifest": about,
            "summary": {"state": "complete"},
            "caches": [{**PAIR, "primary": primary, **(pair or {})}],
            "windows": list(windows),
            "totals": fold(windows),
            "timed": [Timed(1000.0, 990.0 + n, 300) for n in range(5)],
            "ranks": {0: about},
            "digests": {"rank-0000.jsonl": f"{seed:032x}"},
            **changes,
        }
    )


def conformance_result(**changes: Any) -> ConformanceResult:
    return ConformanceResult(
        **{
            "path": Path("runs/conformance-1.json"),
            "created": NOW - DAY,
            "control": PAIR["control"],
            "candidate": PAIR["candidate"],
            "source": "0b",
            "operations": 100_000,
            "conforms": True,
            **changes,
        }
    )


def sound(name: str) -> Evidence:
    """Evidence that passes a shipped policy."""
    runs = tuple(busy_run(seed, primary) for seed, primary in enumerate(RUNS[name]))
    trainings = (alone(),) if policy(name).training else ()
    return Evidence(runs, conformance=(conformance_result(),), trainings=trainings, now=NOW)


def alone(**candidate: Any) -> Trainings:
    """Trainings of these caches, each alone, that pass; what is given changes those with the candidate."""
    changes = {"control": {}, "candidate": candidate}
    listed = [
        training(seed, side, **{"cache": PAIR[side], "source": PAIR["sources"][side], **changes[side]})
        for seed in range(5)
        for side in ("control", "candidate")
    ]
    about = {"repeatable": True, "created": NOW - DAY, "git": {"commit": "c0ffee", "dirty": False}}
    return Trainings(Path("runs/ab-1"), "complete", about, listed)


def with_run(evidence: Evidence, run: Run) -> Evidence:
    return replace(evidence, runs=(*evidence.runs, run))


def write(
    out: Path,
    number: int,
    *windows: Window,
    now: float,
    primary: str = "control",
    pair: Any = None,
    before_close: Callable[[RunWriter], object] = lambda writer: None,
    close: bool = True,
    state: str = "complete",
    **changes: Any,
) -> Path:
    """Write such a run as the session does."""
    windows = windows or (busy_window(),)
    about = manifest(number, now, **changes)
    writer = RunWriter.create(out, about["run_id"], about, evidence_limit_bytes=0)
    writer.cache(**{**PAIR, "primary": primary, **(pair or {}), "name": "collect", "cache": "collect"})
    for window in windows:
        writer.window(window)
    before_close(writer)
    if close:
        writer.close(summarise(fold(windows), schema=SCHEMA, run_id=about["run_id"], state=state))
    return writer.path


def write_streams(out: Path, **changes: Any) -> Path:
    """Write a conformance result."""
    about = {"control": PAIR["control"], "candidate": PAIR["candidate"], "source": "0b", "seed": 0}
    return write_conformance(out, {**about, "operations": 100_000, "conforms": True, "charged": {}, **changes})

"""Were the ranks of a run ranks of one training? Configured alike, their weights in step, and each of them once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.record.parted import parted
from reports.record.run import Run
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, demand, each
from validator.gate.rules.divergence import n_divergences

# What decides a training, as far as one rank's may not differ from another's.
_ALIKE = ("world_size", "host", "versions", "git", "switches", "num_layers", "env_num", "validation", "config")
_OWN = ("out", "run_id", "exp_name", "seed", "device", "rank", "local_rank")  # a rank may have its own of each


def standing(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[Run, Run]]]:
    """Tell runs that count from attempts that a later attempt of the same launch took the place of.

    An attempt that shows a divergence, or lost some of its lines, counts all the same: a restart undoes no finding.

    Args:
        runs: All runs.

    Returns:
        Those that count, and each other one with the attempt after it.
    """
    last: dict[str, tuple[list[int], Run]] = {}
    for run in runs:
        if (told := _attempt(run)) and told[1] > last.get(told[0], ([], run))[0]:
            last[told[0]] = told[1], run
    kept, restarted = [], []
    for run in runs:
        by = last[told[0]][1] if (told := _attempt(run)) else run
        if by is run or n_divergences(run) or run.lost or _attempt(by) == told:
            kept.append(run)
        else:
            restarted.append((run, by))
    return kept, restarted


def _attempt(run: Run) -> tuple[str, list[int]] | None:
    """Return which session of which launch a run is, with the command that ran, and which attempt at it."""
    told = run.manifest.get("launch")
    told = told if isinstance(told, Mapping) else {}
    attempt = told.get("attempt")
    if not isinstance(attempt, list) or not all(type(each) is int for each in attempt) or not told.get("id"):
        return None
    return json.dumps([told["id"], told.get("session"), run.manifest.get("argv")], default=str), attempt


def attempts_not_counted(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Attempts that a restart by the launcher replaced are named, and not counted."""
    for run, by in evidence.restarted:
        yield demand("a restarted job counted once", f"an earlier attempt left out, for {by.path}", True, str(run.path))


def alike(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """All ranks of a run are of one training, and each knew that it is one of them."""

    def look(run: Run) -> tuple[str, str]:
        if run.n_events.get("other_process_group"):
            found = "a session opened before the process group that its process was in at the end"
            return found, "open it after init_process_group, or tell RANK and WORLD_SIZE"
        pairs = {rank: _pairs(run, rank) for rank in run.ranks}
        for rank, about in sorted(run.ranks.items()):
            told = [name for name in _ALIKE if name in about and name in run.manifest]
            ours, theirs = ({name: _common(said[name]) for name in told} for said in (about, run.manifest))
            shared = pairs[rank].keys() & pairs.get(0, {}).keys()
            ours["cache"], theirs["cache"] = ({name: pairs[of][name] for name in shared} for of in (rank, 0))
            if difference := parted(ours, theirs):
                where, own, first = difference
                return f"{where} is {own} on rank {rank}, {first} on rank 0", "start every rank alike"
        return "", ""

    runs = [run for run in evidence.runs if len(run.ranks) > 1 or run.n_events.get("other_process_group")]
    yield from each(runs, "all ranks configured alike", look)


def in_step(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Ranks of a process group heard of the same weight updates: else staleness was judged wrongly on one of them."""
    if not policy.coverage.weights_in_step:
        return

    def look(run: Run) -> tuple[str, str]:
        copies = {line.get("cache") for line in run.caches if line.get("copy_of")}
        counts: dict[str, Counter[int]] = {}
        for window in run.windows:
            if window.cache not in copies:
                counts.setdefault(window.cache, Counter())[window.rank] += window.coverage.get("weight_updates", 0)
        for cache, by_rank in sorted(counts.items()):
            if len(set(by_rank.values())) > 1:
                named = ", ".join(f"{count:,} on rank {rank}" for rank, count in sorted(by_rank.items())[:5])
                return f"weight updates of {cache}: {named}", "tell each rank of every update: weights_updated()"
        return "", ""

    runs = [run for run in evidence.runs if len(run.ranks) > 1 and _in_group(run)]
    yield from each(runs, "as many weight updates on every rank of the process group", look)


def _in_group(run: Run) -> bool:
    return bool(run.n_events.get("process_group")) or any(said.get("process_group") for said in run.ranks.values())


def _pairs(run: Run, rank: int) -> dict[str, dict[str, Any]]:
    named = ("control", "candidate", "primary", "sources")
    lines = (line for line in run.caches if line.get("rank", 0) == rank)
    return {str(line.get("cache")): {name: line.get(name) for name in named} for line in lines}


def _common(said: Any) -> Any:
    """Leave out what each rank may have of its own."""
    if isinstance(said, Mapping):
        return {name: _common(value) for name, value in said.items() if name not in _OWN}
    return [_common(value) for value in said] if isinstance(said, list) else said

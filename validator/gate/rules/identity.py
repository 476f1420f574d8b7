"""What is a run a run of? Its candidate, its stage, its seed, and whether it may count as evidence at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reports.record.run import Run
from reports.record.words import ONLY_COUNTED
from validator.gate.policy import GatePolicy

_PATHS = ("out", "run_id", "exp_name")  # where a run is written, and what it is called, does not change its course
_VARIED = ("seed", "use_new_cache_manager")


class Candidate(NamedTuple):
    """One candidate: its class, and a digest of the source it was built from (empty if not recorded)."""

    kind: str
    source: str

    def __str__(self) -> str:
        return f"{self.kind} of {f'source {self.source}' if self.source else 'unrecorded source'}"


def candidates(run: Run) -> frozenset[Candidate]:
    """Return what stood on the candidate's side, over all pairs and ranks."""
    return caches(run, "candidate")


def caches(run: Run, side: str) -> frozenset[Candidate]:
    """Return what stood on one side, over all pairs and ranks."""
    return frozenset(_cache(line, side) for line in run.caches)


def by_rank(run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what each rank says of itself, after a phrase that names it where it is not the first."""
    for rank, about in sorted({0: run.manifest, **run.ranks}.items()):
        yield f" on rank {rank}" if rank else "", about


def usual_candidate(runs: Sequence[Run], policy: GatePolicy) -> frozenset[Candidate]:
    """Return what most runs are about; of those of the class that a policy names, if it names one."""
    counts = Counter(candidates(run) for run in runs if run.caches)
    wanted = policy.runs.candidate
    named = {each: n for each, n in counts.items() if not wanted or {one.kind for one in each} == {wanted}}
    return max(named, key=lambda each: named[each], default=frozenset())


def stage_of_pair(pair: Mapping[str, Any]) -> str:
    """Return ``shadow`` where the host received the control's answers, ``canary`` where the candidate's."""
    return {"control": "shadow", "candidate": "canary"}.get(str(pair.get("primary")), "unknown")


def stage(run: Run) -> str:
    """Return the stage of a run: ``shadow``, ``canary``, or ``unknown`` where it is mixed or not recorded."""
    stages = {stage_of_pair(line) for line in run.caches}
    return stages.pop() if len(stages) == 1 else "unknown"


def seed(run: Run) -> str:
    """Return a run's seed as text, empty if it is not recorded."""
    said = run.manifest.get("seed")
    return "" if said is None or isinstance(said, (dict, list)) else str(said)


def sampled(run: Run) -> str:
    """Say what of the values was left to chance, or empty."""
    settings = run.manifest.get("validation")
    if not isinstance(settings, dict):
        return "the settings of the validation are not recorded"
    share = settings.get("digest_share")
    if not isinstance(share, (int, float)) or isinstance(share, bool):
        return "digest_share is not recorded"
    return "" if share >= 1 else f"digest_share {share}: only that share of equal hits was held against what was stored"


def dropped(run: Run) -> dict[str, int]:
    """Return what was not looked at or not written, by reason; a divergence that was counted was looked at."""
    return {reason: n for reason, n in sorted(run.totals.dropped.items()) if n and reason != ONLY_COUNTED}


def planted(run: Run) -> str:
    """Name the fault that a drill planted in a run, on any rank; empty where nothing was planted."""
    for _, about in by_rank(run):
        drill = about.get("drill")
        if drill is not None and drill != {"fault": ""}:  # what can't be read is no run without a fault
            return str(drill.get("fault") if isinstance(drill, Mapping) else drill) or "unnamed"
    return ""


def is_sound(run: Run) -> bool:
    """Say whether a run may count: whole, readable, nothing dropped, sampled or planted."""
    whole = run.state == (run.summary or {}).get("state", "complete") == "complete"
    return whole and not (planted(run) or run.lost or run.problems or dropped(run) or sampled(run))


def distinct(runs: Sequence[Run], apart: Sequence[Callable[[Run], str]] = ()) -> list[Run]:
    """Return one run of each course, the first: what asked, stored and showed the same to the last bit is no more.

    Args:
        runs: The runs; those whose course is not known are all kept.
        apart: In what runs of one course must differ to be kept all the same.
    """
    found: dict[Any, Run] = {}
    for run in runs:
        shown = frozenset(run.totals.divergences.items()), run.totals.n_differing
        course = (run.course, candidates(run), configuration(run), shown, *(of(run) for of in apart))
        found.setdefault(course if run.course else id(run), run)
    return list(found.values())


def configuration(run: Run) -> str:
    """Return what a run was configured with, as text to compare: beside its seed, its stage and where it lies."""
    return json.dumps(_without(run.manifest.get("config"), (*_PATHS, *_VARIED)), sort_keys=True, default=str)


def replayed(run: Run) -> str | None:
    """Return the id of the run that this one is a replay of, empty if it does not say; None if it is none."""
    said = run.manifest.get("replayed")
    return None if said is None else str(said.get("run_id", "") if isinstance(said, Mapping) else "")


def setting(run: Run) -> str:
    """Return what decides a run's course, as text to compare: candidate, stage, seed and configuration."""
    config = json.dumps(_without(run.manifest.get("config"), _PATHS), sort_keys=True, default=str)
    return json.dumps([sorted(map(str, candidates(run))), stage(run), seed(run), config])


def _without(config: Any, left_out: Sequence[str]) -> Any:
    if isinstance(config, Mapping):
        return {name: _without(value, left_out) for name, value in config.items() if name not in left_out}
    return config


def _cache(line: Mapping[str, Any], side: str) -> Candidate:
    sources = line.get("sources")
    source = sources.get(side) if isinstance(sources, Mapping) else ""
    return Candidate(str(line.get(side)), source if isinstance(source, str) else "")

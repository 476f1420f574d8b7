"""Is it the whole campaign? Every job judged, each as it was asked for, nothing seen in what was lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reports.record.campaign import Attempt, Fate, Job
from reports.record.run import Run
from reports.record.words import Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, demand
from validator.gate.rules.divergence import n_left
from validator.gate.rules.identity import seed, stage

_NAMED = 5
_STAGE = {"legacy": "shadow", "new": "canary"}


def readable(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """What a campaign says of its jobs can be believed."""
    for one in evidence.campaigns:
        found = "; ".join(one.problems[:3]) + (f"; and {len(one.problems) - 3} more" if one.problems[3:] else "")
        mend = "run the campaign again: its record was damaged or changed"
        yield demand("a campaign's record readable and whole", found or "no problem", not found, str(one.path), mend)


def every_job(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every job of a campaign came to a verdict, and left what it rests on."""
    folders = {path.resolve().parent for path in _evidence_paths(evidence)}
    for one in evidence.campaigns:
        counting, last = one.counting(), {attempt.job: attempt for attempt in one.attempts}
        left = {job.number for folder, job in one.folders().items() if folder in folders}
        wrong = []
        for job in one.jobs:
            attempt = counting.get(job.number, last.get(job.number))
            if problem := _problem(attempt, job.number in left):
                wrong.append(f"{job} {problem}")
        n_judged = len(one.jobs) - len(wrong)
        more = f"; and {len(wrong) - _NAMED} more" if wrong[_NAMED:] else ""
        found = f"{n_judged:,}" + (f"; {'; '.join(wrong[:_NAMED])}{more}" if wrong else "")
        resume = f"kv-lockstep campaign --resume {one.path}"
        remedy = (
            f"run what is missing: {resume}" if one.missing() else "see what it printed, and run the campaign again"
        )
        demanded = f"all {len(one.jobs):,} jobs of the campaign ended with a verdict of their own"
        yield demand(demanded, found, not wrong, str(one.path), remedy)


def as_asked(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """A run has the seed and the primary of its job."""
    for one in evidence.campaigns:
        jobs = one.folders()
        asked = [(run, jobs[at]) for run in evidence.runs if (at := run.path.resolve().parent) in jobs]
        wrong = [(run, said) for run, job in asked if (said := _other_than_asked(run, job))]
        where = str(wrong[0][0].path) if wrong else f"{len(asked):,} runs"
        found = f"not so in {len(wrong):,}: {wrong[0][1]}" if wrong else "yes"
        reach = "let the seed and the primary reach the script, by {seed} and {primary} among its words"
        yield demand("every run with its job's seed and primary", found, not wrong, where, reach)


def trainings_judged(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """A campaign that trained with each cache alone is judged by a policy that looks at that."""
    if evidence.campaigns and evidence.trainings and policy.training is None:
        found = f"{len(evidence.trainings):,} not judged: policy {policy.name!r} has no table [training]"
        yield demand("trainings of the campaign judged", found, False, remedy="name a policy that has one")


def superseded(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """What was lost or stopped showed no divergence until then; a repetition does not undo one."""
    lost = [one for each in evidence.campaigns for one in each.superseded()]
    if not lost:
        return
    left = n_left(replace(evidence, runs=evidence.superseded))
    by_fate = ", ".join(f"{sum(one.fate is fate for one in lost):,} {fate.value}" for fate in (Fate.LOST, Fate.STOPPED))
    demanded = f"no divergence in {len(lost):,} superseded attempts ({by_fate})"
    first = next((run for run in evidence.superseded if run.divergences or run.totals.n_divergences), None)
    see = f"see it: kv-lockstep report {first.path}" if first else ""
    yield demand(demanded, f"{left:,}", not left, str(first.path) if first else "", see, Verdict.FAIL)


def _evidence_paths(evidence: Evidence) -> Iterator[Path]:
    yield from (run.path for run in evidence.runs)
    yield from (result.path for result in evidence.conformance)
    yield from (trainings.path for trainings in evidence.trainings)
    yield from (drill.path for drill in evidence.drills)


def _problem(attempt: Attempt | None, left_something: bool) -> str:
    if attempt is None:
        return "never ran"
    if attempt.fate is not Fate.JUDGED:
        return f"{attempt.fate.value}: {attempt.reason}".removesuffix(": ")
    return "" if left_something else f"left nothing to judge, with exit code {attempt.code}"


def _other_than_asked(run: Run, job: Job) -> str:
    if job.seed is not None and seed(run) not in ("", str(job.seed)):
        return f"{job} ran with seed {seed(run)}"
    if job.primary and run.caches and stage(run) != _STAGE[job.primary]:
        return f"{job} ran in the {stage(run)} stage"
    return ""

"""Does it train as well? Trainings with the control alone and the candidate alone, over the same seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from reports.record.run import created
from reports.record.trainings import SIDES, Training, Trainings
from reports.record.words import Verdict
from validator.gate.noninferiority import Comparison, compare
from validator.gate.policy import GatePolicy, TrainingPolicy
from validator.gate.rules.campaign import age_problem, commit_problem
from validator.gate.rules.demand import Demand, Evidence, demand
from validator.gate.rules.identity import Candidate, caches, usual_candidate
from validator.gate.rules.remedies import remedy

_CALMER = "more seeds, longer trainings or a quieter machine would decide"
_AGAIN = "run kv-lockstep ab again and let it end"


class Metric(NamedTuple):
    """One quantity that is compared.

    Attributes:
        margin: Name of its margin in the policy.
        called: What to call it.
        of: Reads it off a training; None where it was not measured.
        higher_is_better: Which way is worse.
        shown: Formats a value of it.
    """

    margin: str
    called: str
    of: Callable[[Training], float | None]
    higher_is_better: bool
    shown: Callable[[float], str]


METRICS = (
    Metric("returns", "mean return", lambda training: training.mean_return, True, lambda x: f"{x:.4g}"),
    Metric("loss", "mean loss", lambda training: training.mean_loss, False, lambda x: f"{x:.4g}"),
    Metric("time", "time per env step", lambda t: t.s_per_env_step, False, lambda x: f"{x * 1e3:.2f} ms"),
    Metric("memory", "peak memory", lambda training: training.peak_bytes or None, False, lambda x: f"{x / 1e6:.0f} MB"),
    Metric("hit_rate", "hit rate", lambda training: training.hit_rate, True, lambda x: f"{x:.2%}"),
)


def trains_as_well(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The training outcome of every A/B beside the runs: whole, of this candidate, enough seeds, no worse."""
    if policy.training is None:
        return
    if not evidence.trainings:
        demanded = f"control and candidate trained alone with {policy.training.seeds} seeds"
        how = remedy("trained alone", next(iter(evidence.runs), None))
        yield demand(demanded, "no such comparison", False, remedy=how)
    for trainings in evidence.trainings:
        yield from _same_caches(trainings, evidence, policy)
        yield _fit(trainings, evidence, policy)
        yield from whole_and_judged(trainings, policy.training)


def whole_and_judged(trainings: Trainings, policy: TrainingPolicy) -> Iterator[Demand]:
    """Make every demand of a policy on one A/B by itself."""
    yield _whole(trainings)
    counting = [pair for pair in trainings.pairs() if not any(training.error for training in pair)]
    yield from _ended(trainings)
    yield demand(
        f"both sides trained to the end with at least {policy.seeds} seeds",
        f"{len(counting)}",
        len(counting) >= policy.seeds,
        str(trainings.path),
        f"run kv-lockstep ab again with --seeds {policy.seeds}",
    )
    if policy.trajectories and trainings.repeatable:
        yield _same_trajectories(trainings, counting)
    for metric in METRICS:
        margin = getattr(policy, metric.margin)
        if counting and not math.isinf(margin):
            yield _no_worse(trainings, metric, margin, counting)


def measured(metric: Metric, pairs: Sequence[tuple[Training, Training]]) -> Comparison | None:
    """Compare one quantity over the pairs; None if it was not measured in all of them."""
    values = [[metric.of(pair[side]) for pair in pairs] for side in (0, 1)]
    control, candidate = ([value for value in column if value is not None] for column in values)
    if not pairs or not len(control) == len(candidate) == len(pairs):
        return None
    return compare(control, candidate)


def _whole(trainings: Trainings) -> Demand:
    found = "; ".join(trainings.problems[:3]) or trainings.state
    return demand("a complete A/B of trainings", found, found == "complete", str(trainings.path), _AGAIN)


def _same_caches(trainings: Trainings, evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The caches that trained alone are those that the runs are about."""
    if not evidence.runs:
        return
    control, candidate = ({Candidate(*cache) for cache in trainings.caches(side)} for side in SIDES)
    usual = usual_candidate(evidence.runs, policy)
    controls = {control for run in evidence.runs for control in caches(run, "control")}
    known = all(cache.source for cache in control | candidate)
    same = candidate == usual and bool(control) and control <= controls and control != candidate and known
    yield demand(
        "trained with the caches that the runs compared",
        _pair(control, candidate),
        same,
        str(trainings.path),
        f"the runs compared {_pair(controls, usual)}: train these, with --control and --candidate of kv-lockstep ab",
    )


def _pair(control: Collection[Candidate], candidate: Collection[Candidate]) -> str:
    sides = (", ".join(sorted(map(str, caches))) or "nothing" for caches in (candidate, control))
    return " against ".join(sides)


def _fit(trainings: Trainings, evidence: Evidence, policy: GatePolicy) -> Demand:
    """What the policy asks of a run's age and commit it asks of these trainings too."""
    problems = [age_problem(created(trainings.manifest), evidence.now, policy.runs.max_age_days)]
    if policy.runs.clean_commit:
        problems.append(commit_problem(trainings.manifest))
    found = "; ".join(filter(None, problems))
    demanded = "trained as lately and from as clean a commit as the runs"
    again = "commit, and run kv-lockstep ab again"
    return demand(demanded, found or "so", not found, str(trainings.path), again)


def _ended(trainings: Trainings) -> Iterator[Demand]:
    """A training that fails with the candidate alone where the control's went through is the candidate's failure."""
    for control, candidate in trainings.pairs():
        broken = next((training for training in (control, candidate) if training.error), None)
        if broken is not None:
            alone = bool(candidate.error and not control.error)
            yield Demand(
                "every training ends in order",
                f"seed {broken.seed} with the {'candidate alone' if alone else broken.side}: {broken.error}",
                Verdict.FAIL if alone else Verdict.INCONCLUSIVE,
                str(trainings.path),
                "read what it printed",
            )


def _same_trajectories(trainings: Trainings, pairs: Sequence[tuple[Training, Training]]) -> Demand:
    demanded = "the same trajectory with either cache, to the last bit"
    where = str(trainings.path)
    parted = [control.seed for control, candidate in pairs if control.digests != candidate.digests]
    if parted or trainings.differences:
        named = {difference.seed: str(difference) for difference in trainings.differences}
        seed = min({*parted, *named})
        by_script = trainings.manifest.get("host") == "lightzero"
        how = (
            "run -- SCRIPT.py with the same script, and seed"
            if by_script
            else "train with the same --config and --seed"
        )
        found = named.get(seed, f"seed {seed}: digests differ")
        return demand(demanded, found, False, where, f"see whose fault it is: kv-lockstep {how} {seed}", Verdict.FAIL)
    if not pairs or not all(training.digests for pair in pairs for training in pair):
        return demand(demanded, "no trajectory recorded", False, where, _AGAIN)
    return demand(demanded, f"identical for {len(pairs)} seeds", True, where)


def _no_worse(
    trainings: Trainings, metric: Metric, margin: float, pairs: Sequence[tuple[Training, Training]]
) -> Demand:
    demanded = f"{metric.called} at most {margin:.1%} worse than the control's"
    where = str(trainings.path)
    found = measured(metric, pairs)
    if found is None:
        longer = "train longer, so that episodes end and weights are updated"
        return demand(demanded, "not measured in every training", False, where, longer)
    verdict = found.verdict(margin, metric.higher_is_better)
    look = "" if verdict is Verdict.PASS else "see each training in its ab.json, and what it printed beside it"
    if verdict is Verdict.INCONCLUSIVE:
        needed = found.seeds_needed(margin, metric.higher_is_better)
        look = f"about {needed} seeds would decide: --seeds {needed}" if needed else _CALMER
    means = f"{metric.shown(found.candidate)} against {metric.shown(found.control)}"
    return Demand(demanded, f"{means}, {change(found)}", verdict, where, look)


def change(found: Comparison) -> str:
    """Say how the candidate differs from the control, as a share of the control's mean, with the 95 % interval."""
    mean = found.share(found.difference.estimate)
    if mean is None:
        return "no share of 0"
    if found.n < 2:
        return f"{mean:+.1%} (one seed: no interval)"
    low, high = found.share(found.difference.low), found.share(found.difference.high)
    return f"{mean:+.1%}" + ("" if low is None or high is None else f" ({low:+.1%} to {high:+.1%})")

"""May it ship? Judges recorded runs by a policy; reads nothing, writes nothing.

Each rule makes demands, each with a verdict of its own: PASS if the demand is shown to hold, FAIL if it is shown not
to, INCONCLUSIVE if the evidence is missing. The judgement is the worst of them: FAIL, then INCONCLUSIVE, then PASS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from reports.record.run import Run
from reports.record.words import EXIT_CODE, Outcome, Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rates import Rate, rates
from validator.gate.rules import RULES
from validator.gate.rules.demand import Demand, Evidence
from validator.gate.rules.divergence import n_divergences, n_left
from validator.gate.rules.identity import distinct
from validator.gate.rules.ranks import standing
from validator.gate.spread import Group, by_configuration, spread

__all__ = ["Demand", "Evidence", "Judgement", "judge"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a set of runs.

    Attributes:
        verdict: FAIL before INCONCLUSIVE before PASS.
        demands: Every demand that was looked at.
        reasons: What the verdict rests on, one sentence each: what failed, what is missing, or the evidence of a PASS.
        policy: Name of the policy.
        rates: The divergence rate of each pool over all runs, by lookup and by episode, without waived ones.
        spread: In which respect the runs are not alike, one sentence each.
        groups: The rates of each configuration by itself, where there are several.
    """

    verdict: Verdict
    demands: tuple[Demand, ...]
    reasons: tuple[str, ...]
    policy: str = "default"
    rates: tuple[Rate, ...] = ()
    spread: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 for PASS, 1 for FAIL, 5 for INCONCLUSIVE."""
        return EXIT_CODE[self.verdict]

    def __str__(self) -> str:
        return "\n  ".join((self.verdict.value, *self.reasons))


def judge(evidence: Evidence | Sequence[Run], policy: GatePolicy | None = None) -> Judgement:
    """Judge evidence by a policy.

    Args:
        evidence: What was recorded; runs alone will do.
        policy: What is demanded; None for the default policy.

    Returns:
        The verdict with every demand and its reasons. Without runs it is INCONCLUSIVE: no evidence is never a PASS.
    """
    policy = policy or GatePolicy()
    evidence = evidence if isinstance(evidence, Evidence) else Evidence(evidence)
    runs, restarted = standing(evidence.runs)
    evidence = replace(evidence, runs=runs, restarted=restarted)
    bounds = tuple(rates(distinct(evidence.runs), n_left(evidence)))
    demands = tuple(demand for rule in RULES for demand in rule(evidence, policy))
    decided = decide(demands, policy.name, lambda: _evidence(evidence), bounds)
    return replace(decided, spread=tuple(spread(evidence)), groups=tuple(by_configuration(evidence)))


def decide(
    demands: tuple[Demand, ...], policy: str, held: Callable[[], Iterator[str]], bounds: tuple[Rate, ...] = ()
) -> Judgement:
    """Draw the verdict from demands: the worst of theirs.

    Args:
        demands: Every demand that was looked at.
        policy: Name of the policy that made them.
        held: Says what a PASS rests on.
        bounds: Divergence rates to show with it.
    """
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        reasons = [str(demand) for demand in demands if demand.verdict is verdict]
        if reasons:
            rest = sum(demand.verdict is Verdict.INCONCLUSIVE for demand in demands)
            if verdict is Verdict.FAIL and rest:
                reasons.append(f"besides, evidence is missing for {rest} of {len(demands)} demands")
            return Judgement(verdict, demands, tuple(reasons), policy, bounds)
    return Judgement(Verdict.PASS, demands, tuple(held()), policy, bounds)


def _evidence(evidence: Evidence) -> Iterator[str]:
    runs = evidence.runs
    lookups = sum(run.totals.n_lookups for run in runs)
    diverged = sum(n_divergences(run) for run in runs)
    left = n_left(evidence)
    if diverged > left:
        yield f"{diverged - left:,} divergences in {lookups:,} lookups are waived"
    if left:
        yield f"{left:,} divergences in {lookups:,} lookups, which the policy allows"
    elif not diverged:
        # Rule of three: with no event in N independent trials, 3/N is the upper end of a 95 % interval for the rate.
        apart = sum(run.totals.n_lookups for run in distinct(runs))
        twice = f", {apart:,} of them of different courses" if apart < lookups else ""
        yield f"0 divergences in {lookups:,} lookups{twice}: rate below 3/{apart:,} = {3 / apart:.1e} at 95 %"
    for run, by in evidence.restarted:
        yield f"{run.path} is not counted: {by.path} is the next attempt of the same launch"
    equal = sum(run.totals.outcomes()[Outcome.BOTH_HIT_EQUAL.value] for run in runs)
    close = sum(run.totals.coverage.get("equal only within tolerance", 0) for run in runs)
    bits = f"; {close:,} of these are equal within the tolerance only, not in their bits" if close else ""
    yield f"{equal:,} of them answered by both sides, with equal entries{bits}"
    pairs = {(str(line.get("control")), str(line.get("candidate"))) for run in runs for line in run.caches}
    for control, candidate in sorted(pairs):
        if control == candidate:
            yield f"candidate and control are both {control}: this says nothing about a new cache"
        else:
            yield f"{candidate} judged against {control}"

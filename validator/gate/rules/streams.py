"""What did adversarial streams show of this candidate?"""

from __future__ import annotations

from collections.abc import Iterator

from reports.record.run import ConformanceResult
from reports.record.words import Fault, Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rules.campaign import age_problem
from validator.gate.rules.demand import Demand, Evidence, at_least
from validator.gate.rules.divergence import n_divergences
from validator.gate.rules.identity import Candidate, usual_candidate


def conforms(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Enough operations of streams made to break caches, on the same candidate, all as its model says.

    A result that charges the candidate closes the gate even where none is demanded.
    """
    least = policy.conformance.operations
    usual = usual_candidate(evidence.runs, policy)
    operations: dict[int, int] = {}  # by seed: the same streams twice are no second evidence
    left_out = []
    for result in evidence.conformance:
        why = _useless(result, usual, evidence.now, policy)
        if why:
            left_out.append(f"{result.path.name}: {why}")
        elif result.conforms:
            operations[result.seed] = max(result.operations, operations.get(result.seed, 0))
        else:
            yield _charged(result, evidence)
    if not least:
        return
    total = sum(operations.values())
    found = f"{total:,}"
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        found += f", not counting {'; '.join(left_out[:3])}{more}"
    name = next(iter(usual)).kind if len(usual) == 1 else ""
    which = f"--candidate {':'.join(name.rsplit('.', 1))} " if name and name != "shadow.manager.KVCacheManager" else ""
    remedy = f"kv-lockstep conformance {which}--ops {least} --out DIR, the directory of the runs"
    yield at_least("operations on adversarial streams that conformed", least, total, "", remedy, found)


def _useless(result: ConformanceResult, usual: frozenset[Candidate], now: float, policy: GatePolicy) -> str:
    """Say why a result is no evidence about this candidate, or nothing."""
    if result.problem:
        return result.problem
    tested = Candidate(result.candidate, result.source)
    if usual != {tested}:
        return f"of {tested}"
    if not tested.source:
        return "the version it tested is unknown"
    return age_problem(result.created, now, policy.runs.max_age_days)


def _charged(result: ConformanceResult, evidence: Evidence) -> Demand:
    suspect = [side for side in result.charged if side != Fault.CONTROL.value]
    named = "; ".join(f"{side} at fault: {', '.join(causes[:3])}" for side, causes in result.charged.items())
    against = ""
    if suspect and not any(n_divergences(run) for run in evidence.runs):
        against = "; the runs, which show no divergence, contradict it: they did not exercise that"
    return Demand(
        "adversarial streams show what both caches declare",
        f"{named or 'the harness failed'}{against}",
        Verdict.FAIL if suspect else Verdict.INCONCLUSIVE,
        str(result.path),
        f"see the shortest failing program: kv-lockstep conformance --seed {result.seed} --ops {result.operations}",
    )

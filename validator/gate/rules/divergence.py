"""Did anything differ that must not?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reports.record.run import Run
from reports.record.words import Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, demand
from validator.gate.rules.waived import waived


def n_divergences(run: Run) -> int:
    """Return how many divergences a run shows, by whichever of its parts shows most.

    A killed process leaves divergences written in full whose window of counters is lost, and a lookup that differed
    is one even if nothing explains it.
    """
    return max(run.totals.n_divergences, len(run.divergences), run.totals.n_differing)


def n_left(evidence: Evidence) -> int:
    """Return how many divergences all runs show beside waived ones."""
    return sum(map(n_divergences, evidence.runs)) - sum(waived(evidence).by_run.values())


def no_divergence(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """No more divergences over all runs than the policy allows, beside waived ones."""
    runs = evidence.runs
    permitted = waived(evidence).by_run
    counts = [n_divergences(run) for run in runs]
    left = [count - permitted[position] for position, count in enumerate(counts)]
    total, n_waived = sum(left), sum(permitted.values())
    first = next((run for run, count in zip(runs, left, strict=True) if count), None)
    faults = f" ({_faults(runs) or 'unexplained'})" if sum(counts) else ""
    beside = f"{total:,} beside {n_waived:,} waived" if n_waived else f"{total:,}"
    yield demand(
        f"at most {policy.max_divergences:,} divergences" if policy.max_divergences else "no divergence",
        f"{beside}{faults}",
        total <= policy.max_divergences,
        _place(first) if first else "",
        f"see it in full: kv-lockstep report {first.path}" if first else "",
        Verdict.FAIL,
    )


def _faults(runs: Sequence[Run]) -> str:
    """Say which sides are at fault how often."""
    total: Counter[str] = Counter()
    for run in runs:
        written = Counter(divergence.fault.value for divergence in run.divergences)
        total.update(written | Counter(run.totals.divergences_by(2)))
    return ", ".join(f"{fault} at fault in {count:,}" for fault, count in total.most_common())


def _place(run: Run) -> str:
    """Name the first divergence of a run."""
    if not run.divergences:
        return str(run.path)
    first = run.divergences[0]
    parts = [first.operation, first.cause.value]
    parts += [f"env {first.env_id}"] if first.env_id is not None else []
    parts += [f"key {first.key}"] if first.key else []
    parts += [f"op {first.op_index}"]
    return f"{run.path} ({', '.join(parts)})"

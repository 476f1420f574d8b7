"""Was what the host stores recomputed without a cache, and did it agree?"""

from __future__ import annotations

from collections.abc import Iterator

from reports.record.run import Run
from reports.record.words import NOT_RECOMPUTED, NOT_RECOMPUTED_RAISED
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, each
from validator.gate.rules.remedies import remedy

_AGREED = "recomputations that agreed"


def recomputed(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Enough recomputations agreed in each run, and none raised; an oracle that was off agreed with nothing."""
    least = policy.coverage.recomputations
    if not least:
        return

    def look(run: Run) -> tuple[str, str]:
        coverage = run.totals.coverage
        agreed, left_out = coverage.get(_AGREED, 0), _left_out(run)
        if agreed >= least and not any(f"{NOT_RECOMPUTED}{why}".startswith(NOT_RECOMPUTED_RAISED) for why in left_out):
            return "", ""
        validation = run.manifest.get("validation")
        is_on = bool(left_out or any(name.endswith(" followed") for name in coverage)) or (
            isinstance(validation, dict) and validation.get("oracle") is not None
        )
        reasons = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        why = "the oracle was off" if not is_on else reasons and f"not judged: {reasons}"
        return f"{agreed:,}" + (f" ({why})" if why else ""), remedy("oracle", run)

    yield from each(evidence.runs, f"recomputations without a cache that agreed: at least {least:,}", look, "as many")


def _left_out(run: Run) -> dict[str, int]:
    counts = run.totals.coverage.items()
    return {name.removeprefix(NOT_RECOMPUTED): count for name, count in counts if name.startswith(NOT_RECOMPUTED)}

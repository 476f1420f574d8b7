"""Was a planted fault noticed on the host, by its name, at the candidate? Judged from what its runs left on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from reports.record.drills import Drilled, DrillOutcome
from reports.record.run import Run
from reports.record.words import Fault, Verdict
from validator.gate.judgement import judge
from validator.proof.drill.exercised import AnyPlanted, lacking
from validator.proof.drill.planting import ACTED, PLANTED_IN

Charges = Counter[tuple[str, str]]  # by cause and side


def charges(runs: Iterable[Run]) -> Charges:
    """Count what was charged by cause and side."""
    found: Charges = Counter()
    for run in runs:
        for group, count in run.totals.divergences.items():
            _, cause, fault = group.split("|")
            found[cause, fault] += count
    return found


def drilled(
    planted: AnyPlanted,
    runs: Sequence[Run],
    before: Charges,
    done: frozenset[str],
    folder: str,
    seconds: float,
    ended: str,
) -> Drilled:
    """Judge the run of one planted fault.

    Args:
        planted: What was planted.
        runs: What its program left.
        before: What was charged without it.
        done: What the host exercises; see ``exercised``.
        folder: Where its runs are.
        seconds: How long it took.
        ended: How its program ended where that was not by itself, such as ``stopped after 60 s``.

    Returns:
        What came of it.
    """
    found = charges(runs)
    first = next((one for run in runs for one in run.divergences if one.fault is planted.side), None)
    at_its_side = Counter({cause: count for (cause, side), count in found.items() if side == planted.side.value})
    most = [cause for cause, _ in at_its_side.most_common(1)]
    wanted = tuple(cause.value for cause in planted.causes)
    new = [charge for charge, _ in found.most_common() if charge not in before]
    # The control may show a quirk of its own that it did not show before, but not what was planted elsewhere.
    innocent = {cause for cause, side in new if side == Fault.CONTROL.value} & set(wanted)
    failed = any(judge([run]).verdict is Verdict.FAIL for run in runs)
    acts = _acts(runs)
    if failed and not innocent and (set(most) | ({first.cause.value} if first else set())) & set(wanted):
        outcome = DrillOutcome.FOUND
    elif innocent or any(side != Fault.CONTROL.value for _, side in new):
        outcome = DrillOutcome.MISNAMED
    elif ended or not runs:
        outcome = DrillOutcome.NO_RESULT
    elif not any(event.get("event") == PLANTED_IN for run in runs for event in run.events):
        outcome = DrillOutcome.NOT_PLANTED
    elif lacking(planted, done) or acts == 0:
        outcome = DrillOutcome.NOT_EXERCISED
    else:
        outcome = DrillOutcome.MISSED
    return Drilled(
        name=planted.name,
        family=planted.family,
        outcome=outcome,
        wanted=wanted,
        named=tuple(f"{cause} ({side})" for cause, side in new),
        operation=None if first is None else first.op_index,
        operations=sum(sum(run.totals.ops.values()) for run in runs),
        acts=acts,
        why=ended or lacking(planted, done) or ("it changed nothing here" if acts == 0 else ""),
        seconds=seconds,
        folder=folder,
    )


def _acts(runs: Iterable[Run]) -> int | None:
    """Return how often the fault did something; None if a run does not say."""
    told = [[e for e in run.events if e.get("event") == ACTED] for run in runs]
    if not (told and all(told)):
        return None
    return sum(int(str(events[-1].get("detail"))) for events in told)

"""What a rule is given, and what it says: evidence in, demands out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from reports.record.campaign import Campaign
from reports.record.drills import DrillRecord
from reports.record.run import ConformanceResult, Run
from reports.record.trainings import Trainings
from reports.record.words import Verdict
from validator.gate.policy import GatePolicy
from validator.gate.waivers import Waiver

_NAMED = 20  # offenders that get a line of their own


@dataclass(frozen=True, slots=True)
class Demand:
    """One line of a judgement.

    Attributes:
        demanded: What must hold.
        found: What the runs show.
        verdict: Whether it is shown to hold, shown not to, or not shown.
        where: Run, and place in it, to look at.
        remedy: What would supply missing evidence, or show more of a failure; empty for PASS.
    """

    demanded: str
    found: str
    verdict: Verdict
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.demanded}, found {self.found}"
        text += f" in {self.where}" if self.where else ""
        return f"{text}; {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a judgement may rest on.

    Attributes:
        runs: What was recorded; finished, running or crashed.
        waivers: Permissions that were named.
        conformance: Results of adversarial streams found beside the runs.
        unread: What lies beside the runs and was not read, one sentence each.
        trainings: Results of trainings compared with one cache alone at a time.
        campaigns: Campaigns of which these are the runs.
        superseded: Runs of attempts that were lost or stopped, and repeated or not.
        drills: What drills of a host showed.
        now: The moment of judging, seconds since 1970.
        restarted: Attempts of a launch that are not counted, each with the one after it; ``judge`` finds them.
    """

    runs: Sequence[Run] = ()
    waivers: Sequence[Waiver] = ()
    conformance: Sequence[ConformanceResult] = ()
    unread: Sequence[str] = ()
    trainings: Sequence[Trainings] = ()
    campaigns: Sequence[Campaign] = ()
    superseded: Sequence[Run] = ()
    drills: Sequence[DrillRecord] = ()
    now: float = field(default_factory=time.time)
    restarted: Sequence[tuple[Run, Run]] = ()


Rule = Callable[[Evidence, GatePolicy], Iterator[Demand]]


def demand(
    demanded: str, found: str, holds: bool, where: str = "", remedy: str = "", bad: Verdict = Verdict.INCONCLUSIVE
) -> Demand:
    """Return a demand that passes if it holds, and is else ``bad`` with what to do."""
    return Demand(demanded, found, Verdict.PASS if holds else bad, where, "" if holds else remedy)


def at_least(called: str, least: int, count: int, where: str = "", remedy: str = "", found: str = "") -> Demand:
    """Return the demand that a count reaches its least; ``found`` where more than the number is to be said."""
    return demand(f"{called}: at least {least:,}", found or f"{count:,}", count >= least, where, remedy)


def each(
    runs: Sequence[Run], demanded: str, look: Callable[[Run], tuple[str, str]], held: str = "yes"
) -> Iterator[Demand]:
    """Demand something of each run by itself: a line for every run where it does not hold, one for all others.

    Args:
        runs: The runs.
        demanded: What must hold.
        look: Says what a run shows against it and what to do; both empty where it holds.
        held: What the others show.
    """
    offending = [(run, found, remedy) for run in runs for found, remedy in [look(run)] if found]
    for run, found, remedy in offending[:_NAMED]:
        yield demand(demanded, found, False, str(run.path), remedy)
    if len(offending) > _NAMED:
        found = f"not so in {len(offending) - _NAMED:,} more runs"
        yield demand(demanded, found, False, remedy="judge fewer runs at a time to see each")
    n_held = len(runs) - len(offending)
    if n_held:
        where = str(runs[0].path) if len(runs) == 1 else f"{'all ' if n_held == len(runs) else ''}{n_held:,} runs"
        yield demand(demanded, held, True, where)

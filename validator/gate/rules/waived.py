"""Which divergences are waived, and does every waiver still hold?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from reports.record.run import Run
from reports.record.words import Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence
from validator.gate.rules.identity import stage_of_pair
from validator.gate.waivers import Waiver


@dataclass(slots=True)
class Waived:
    """What waivers take away.

    Attributes:
        by_run: Waived divergences, by the position of the run.
        matched: Divergences that fit each waiver, whether it holds or not, by its position.
        expired: Positions of waivers past their day.
    """

    by_run: Counter[int] = field(default_factory=Counter)
    matched: dict[int, int] = field(default_factory=dict)
    expired: set[int] = field(default_factory=set)


def waived(evidence: Evidence) -> Waived:
    """Match divergences with waivers; the first that fits counts. One that expired or is exceeded takes nothing away.

    Only divergences with a cause and a side can be waived: never a lookup that differed unexplained.
    """
    found = Waived()
    today = datetime.fromtimestamp(evidence.now, timezone.utc).date()
    found.expired = {i for i, one in enumerate(evidence.waivers) if one.expires is None or one.expires < today}
    taken: dict[int, Counter[int]] = {}
    for position, run in enumerate(evidence.runs):
        pairs = {str(line.get("cache")): line for line in run.caches}
        for (cache, group), count in _by_cause(run).items():
            pair = pairs.get(cache, {})
            fits = (i for i, one in enumerate(evidence.waivers) if _fits(one, group.split("|"), cache, pair))
            first = next(fits, None)
            if first is not None:
                taken.setdefault(first, Counter())[position] += count
    for waiver, by_run in taken.items():
        found.matched[waiver] = sum(by_run.values())
        if waiver in found.expired or found.matched[waiver] > evidence.waivers[waiver].max_count:
            continue
        found.by_run += by_run
    return found


def waivers_hold(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every waiver is within its day and its count; one that is not closes the gate."""
    if not evidence.waivers:
        return
    found = waived(evidence)
    for position, waiver in enumerate(evidence.waivers):
        count = found.matched.get(position, 0)
        demanded = f"waiver {waiver.id} ({waiver.cause}, {waiver.side} at fault): until {waiver.expires}, at most "
        demanded += f"{waiver.max_count:,}"
        fits = f"{count:,} divergences fit it" if count else "unused"
        verdict, remedy = Verdict.PASS, ""
        if position in found.expired:
            verdict = Verdict.FAIL if count else Verdict.INCONCLUSIVE
            fits, remedy = f"it has expired; {fits}", f"renew it after review, or remove it: {waiver.issue}"
        elif count > waiver.max_count:
            verdict, remedy = Verdict.FAIL, f"it holds for none of them; review it: {waiver.issue}"
            fits = f"exceeded: {fits}"
        elif not count:
            fits = "unused: no divergence fits it, so it can be removed"
        yield Demand(demanded, fits, verdict, f"owner {waiver.owner}", remedy)


def _by_cause(run: Run) -> Counter[tuple[str, str]]:
    """Count divergences by pair and ``dimension|cause|fault``, by windows or as written, whichever shows more."""
    counted: Counter[tuple[str, str]] = Counter()
    for window in run.windows:
        counted.update({(window.cache, group): count for group, count in window.divergences.items()})
    return counted | Counter((one.cache, one.group) for one in run.divergences)


def _fits(waiver: Waiver, group: list[str], cache: str, pair: dict[str, object]) -> bool:
    dimension, cause, fault = group
    scope = waiver.scope
    return (
        (cause, fault) == (waiver.cause, waiver.side)
        and (not scope.dimensions or dimension in scope.dimensions)
        and scope.cache in ("", cache)
        and scope.control in ("", pair.get("control"))
        and scope.candidate in ("", pair.get("candidate"))
        and scope.stage in ("", stage_of_pair(pair))
    )

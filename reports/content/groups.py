"""Divergences of a run, gathered by what they have in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reports.record.records import Divergence
from reports.record.run import Run

# The candidate is what may or may not ship, so its defects come first, however many quirks the control shows.
_GRAVITY = {"candidate": 0, "both": 1, "unknown": 2, "host": 3, "control": 4}


@dataclass(frozen=True, slots=True)
class Group:
    """Divergences with the same dimension, cause and side at fault.

    Attributes:
        dimension: In what respect.
        cause: Why.
        fault: Who is wrong.
        count: How often, repeats included.
        n_written: How many of them were written in full.
        first: The first of those, None if there is none.
        best: The first that shows most: with tensors that differ, else with evidence, else the very first.
    """

    dimension: str
    cause: str
    fault: str
    count: int
    n_written: int
    first: Divergence | None
    best: Divergence | None


def grouped(run: Run) -> list[Group]:
    """Gather the divergences of a run, those of the candidate first, then by count.

    A killed process leaves divergences whose window of counters is lost; they count as well.
    """
    written: dict[str, list[Divergence]] = {}
    for divergence in run.divergences:
        written.setdefault(divergence.group, []).append(divergence)
    counts = Counter(run.totals.divergences) | Counter({name: len(records) for name, records in written.items()})
    groups = []
    for name, count in counts.items():
        dimension, cause, fault = name.split("|")
        records = written.get(name, [])
        best = max(records, key=lambda one: (bool(one.evidence), bool(one.leaves)), default=None)
        groups.append(Group(dimension, cause, fault, count, len(records), next(iter(records), None), best))
    return sorted(groups, key=lambda group: (_GRAVITY.get(group.fault, 2), -group.count, group.cause))

"""Which recorded divergences came again, which did not, and what more was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.record.records import Divergence
from reports.record.words import Cause, Dimension, Fault

_OF_THE_HOST = (Dimension.ISOLATION, Dimension.VALUE)


@dataclass(slots=True)
class Again:
    """What came of the divergences of a run when it was played again.

    Attributes:
        came: Recorded ones that came again: the same cause and side, at the same operation, or of the same key where an
            audit found it.
        missing: Those that did not.
        unrecorded: Those that rest on what is not recorded, and can't come again: a host that wrote into entries, say.
        more: Those that only the replay found.
    """

    came: list[Divergence] = field(default_factory=list)
    missing: list[Divergence] = field(default_factory=list)
    unrecorded: list[Divergence] = field(default_factory=list)
    more: list[Divergence] = field(default_factory=list)


def again(
    recorded: Sequence[Divergence], replayed: Sequence[Divergence], names: Mapping[tuple[int, str], str]
) -> Again:
    """Match the divergences of a run with those of its replay.

    Args:
        recorded: Of the run.
        replayed: Of the replay.
        names: Name of each pair as it was recorded, with its rank, to its name in the replay.
    """
    left: dict[Any, list[Divergence]] = defaultdict(list)
    for one in replayed:
        for mark in _marks(one, one.cache):
            left[mark].append(one)
    result, taken = Again(), set[int]()
    for one in recorded:
        name = names.get((one.rank, one.cache))
        if name is None:
            continue
        twin = next((t for mark in _marks(one, name) for t in left[mark] if id(t) not in taken), None)
        if twin is not None:
            taken.add(id(twin))
            result.came.append(one)
        elif rests_on_the_host(one):
            result.unrecorded.append(one)
        else:
            result.missing.append(one)
    result.more = [one for one in replayed if id(one) not in taken]
    return result


def rests_on_the_host(one: Divergence) -> bool:
    """Tell whether a divergence rests on what a trace does not hold."""
    if one.fault is Fault.HOST:
        return one.dimension in _OF_THE_HOST or one.op_index < 0
    return one.cause in (Cause.MEDDLED, Cause.GROWS)


def by_cause(divergences: Sequence[Divergence]) -> Counter[tuple[str, str]]:
    """Count divergences by cause and side at fault."""
    return Counter((one.cause.value, one.fault.value) for one in divergences)


def _marks(one: Divergence, cache: str) -> list[tuple[Any, ...]]:
    """Return by what a divergence is known again, the surest first; when something is looked at closely, is chance."""
    group = (cache, one.cause, one.fault)
    exact = (*group, one.op_index, one.operation)
    return [exact] if one.outcome is not None else [exact, (*group, one.pool, one.env_id, one.key)]

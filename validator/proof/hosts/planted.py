"""A host with a planted fault, played once with the oracle and once without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from reports.record.words import Cause, Dimension, Fault
from validator.proof.trial import Trial

Plant = Callable[[Any], AbstractContextManager[Any]]
"""Puts a fault into a host, until left."""


@dataclass(frozen=True, slots=True)
class PlantedInHost:
    """One fault of a host.

    Attributes:
        name: What the host does wrong.
        host: Which host.
        causes: Causes that name it rightly.
        play: Plays the host with that fault, with an oracle or without, and returns the trial.
        plant: Puts it into a user's own host of that kind, until left; None for what only a use of it shows.
        has: A method by which a host of that kind is known.
    """

    name: str
    host: str
    causes: tuple[Cause, ...]
    play: Callable[[bool], Trial]
    plant: Plant | None = None
    has: str = ""

    side = Fault.HOST
    needs = ()

    @property
    def family(self) -> str:
        """Its kind: one of each is drilled, where not all are asked for."""
        return self.causes[0].value

    @property
    def shape(self) -> str:
        """What a list of faults puts it under: no shape of cache, but a host."""
        return f"{self.host} host, with an oracle"

    def fits(self, host: Any) -> bool:
        """Tell whether it can be planted in a host."""
        return self.plant is not None and hasattr(host, self.has)


@dataclass(frozen=True, slots=True)
class HostResult:
    """What came of one planted fault.

    Attributes:
        name: What the host does wrong.
        host: Which host.
        charged: Whether the oracle charged the host.
        cause_right: Whether the cause that it named first is one that fits.
        only_host: Whether nobody else was charged.
        agreed: Whether both caches agreed in everything, which they do where the fault is the host's alone.
        with_oracle: What was said first, with the oracle.
        without: What was said without; ``PASS`` where nothing was.
        failures: What the harness itself raised.
    """

    name: str
    host: str
    charged: bool
    cause_right: bool
    only_host: bool
    agreed: bool
    with_oracle: str
    without: str
    failures: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether the host was charged, nobody else was, and the harness did not fail."""
        return self.charged and self.only_host and self.agreed and not self.failures


def tried(planted: PlantedInHost) -> HostResult:
    """Play one planted fault, with the oracle and without."""
    seen, blind = planted.play(True), planted.play(False)
    by_oracle = [each for each in seen.divergences if each.dimension is Dimension.RECOMPUTE]
    differed = any(counts[1] + counts[2] + counts[3] for counts in seen.pair.counters.lookups.values())
    said = [f"{each.cause.value} ({each.fault.value})" for each in by_oracle]
    return HostResult(
        planted.name,
        planted.host,
        charged=bool(by_oracle) and by_oracle[0].fault is Fault.HOST,
        cause_right=bool(by_oracle) and by_oracle[0].cause in planted.causes,
        only_host=all(each.fault is Fault.HOST for each in seen.divergences),
        agreed=not differed,
        with_oracle=said[0] if said else "nothing",
        without=", ".join(dict.fromkeys(f"{each.cause.value} ({each.fault.value})" for each in blind.divergences))
        or "PASS",
        failures=tuple(repr(each) for each in (*seen.failures, *blind.failures)),
    )


def all_tried(planted: Sequence[PlantedInHost], on_progress: Callable[[int, int], None]) -> list[HostResult]:
    """Play each of them."""
    found = []
    for number, each in enumerate(planted):
        on_progress(number, len(planted))
        found.append(tried(each))
    return found

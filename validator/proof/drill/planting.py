"""Is this process a drill? Then each candidate gets a planted fault, and the run says so: it can never pass.

A drill is told to whatever program opens a session by variables of its environment, because the program is the user's
own and is not edited.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from validator.config import ValidationConfig
from validator.errors import ConfigError
from validator.proof.drill.exercised import AnyPlanted
from validator.proof.faults.acts import acts
from validator.proof.hosts import planted_in_hosts
from validator.proof.hosts.planted import PlantedInHost
from validator.proof.selftest import EVERYTHING

logger = logging.getLogger(__name__)

FAULT, OUT = "KV_LOCKSTEP_DRILL", "KV_LOCKSTEP_DRILL_OUT"
# Names of events.
FITS, PLANTED_IN, LEFT_ALONE, ACTED = "drill_fits", "drill_planted", "drill_left_alone", "drill_acted"


def plantable() -> tuple[AnyPlanted, ...]:
    """List all that can be planted: in caches of every shape, and in the hosts that are installed here."""
    return (*EVERYTHING, *planted_in_hosts())


class Drill(NamedTuple):
    """What a drill wants of this process.

    Attributes:
        fault: What to plant in each candidate, or in its host; None in the run without a fault that is looked at first.
        out: Where its runs belong, whatever the program says; empty for where it says.
        acts_before: How often planted faults had acted before the session.
    """

    fault: AnyPlanted | None
    out: str
    acts_before: int

    @property
    def name(self) -> str:
        """Name of the fault, or empty."""
        return "" if self.fault is None else self.fault.name

    def config(self, config: ValidationConfig) -> ValidationConfig:
        """Return the settings of a session with a fault: what can never pass needs no self-test, nor to be replayed."""
        return config if self.fault is None else replace(config, selftest=False, record="off")

    def planted(self, candidate: Any, shape: str, tell: Callable[[str, str], None]) -> Any:
        """Plant the fault in a candidate, or leave one alone that it does not fit; without a fault, tell which do.

        Args:
            candidate: A cache that holds nothing yet.
            shape: Name of its shape.
            tell: Told what was done, as the name and the detail of an event.

        Returns:
            The candidate with the fault.
        """
        if self.fault is None:
            for each in EVERYTHING:
                if each.shape == shape and each.fits(candidate):
                    tell(FITS, each.name)
            return candidate
        if isinstance(self.fault, PlantedInHost):
            return candidate
        kind = type(candidate).__qualname__
        if self.fault.shape != shape or not self.fault.fits(candidate):
            tell(LEFT_ALONE, f"{self.name!r} can't be planted in a {kind}")
            return candidate
        logger.warning("drill: fault %r is planted in the candidate, a %s; this run is no evidence", self.name, kind)
        tell(PLANTED_IN, kind)
        return self.fault.make(candidate)

    def in_host(self, host: Any, tell: Callable[[str, str], None]) -> AbstractContextManager[Any]:
        """Plant the fault in a host that an oracle watches, until left; without a fault, tell which do fit it.

        Args:
            host: What the oracle hooks into.
            tell: As for ``planted``.
        """
        fitting = [each for each in planted_in_hosts() if each.fits(host)]
        if self.fault is None:
            for each in fitting:
                tell(FITS, each.name)
        planted = next((each for each in fitting if each == self.fault), None)
        if planted is None or planted.plant is None:
            return nullcontext()
        tell(PLANTED_IN, type(host).__qualname__)
        return planted.plant(host)

    def acts(self) -> str:
        """Return how often the fault did something, in digits."""
        return str(acts() - self.acts_before)


def asked(environ: Mapping[str, str] = os.environ) -> Drill | None:
    """Return what a drill wants of this process, None where it is none.

    Raises:
        ConfigError: If it names no planted fault.
    """
    name = environ.get(FAULT)
    if name is None:
        return None
    found = next((each for each in plantable() if each.name == name), None)
    if name and found is None:
        raise ConfigError(
            f"{FAULT}={name!r:.80} names no planted fault; expected one that kv-lockstep drill --list shows"
        )
    return Drill(found, environ.get(OUT, ""), acts())

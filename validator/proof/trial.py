"""A validation without a disk: one pair, a stream, and what was charged. For self-test and conformance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from reports.record.records import Divergence
from reports.record.words import Cause, Fault
from validator.config import ValidationConfig
from validator.judge.case import Pairing
from validator.judge.counters import EQUAL
from validator.observe.pair import Pair
from validator.proof.stream import Player, Step
from validator.shapes import find
from validator.shapes.shape import Shape

_LOOK_FIRST = 1  # of each kind: what is planted is done every time, and looking at generators takes its time


class Trial:
    """Runs one pair in memory.

    Args:
        control: Trusted cache.
        candidate: New cache.
        primary: Whose answers the player receives.
        config: Settings.
        make: Makes the entry of a step's recipe; None for those of ``EntrySpec``.
        shape: Their shape; None to find out.
        look_first: Operations of each kind around which all state of the process is looked at.

    Attributes:
        divergences: What was charged in the order it came, repeats of one fault left out.
        operations: Cache operations played.
        failures: What the harness itself raised; anything here is a bug of ours.
    """

    train_iter = -1
    env_step = -1

    def __init__(
        self,
        control: Any,
        candidate: Any,
        primary: str = "control",
        config: ValidationConfig | None = None,
        make: Callable[[Any], Any] | None = None,
        shape: Shape | None = None,
        look_first: int = _LOOK_FIRST,
    ) -> None:
        self.divergences: list[Divergence] = []
        self.failures: list[Exception] = []
        self.operations = 0
        self._make = make
        self._players: dict[type[Player], Player] = {}
        config = config or ValidationConfig(overhead_budget=0.0)  # what a trial sees must not depend on the clock
        self._shape = shape or find(control)
        self._pairing = pairing = Pairing("trial", control, candidate, primary, config)
        self.pair = self._shape.pair(pairing, self)
        self.pair.look_before()
        self.pair.take_over()
        self.cache = self._shape.door(pairing, self.pair, config.seed, look_first)

    def play(self, stream: Iterable[Step], player: type[Player] = Player) -> None:
        """Play a stream through both sides; by the same player as the last one of this kind, who goes on."""
        playing = self._players.get(player)
        if playing is None:
            playing = self._players[player] = player(self.cache, self.pair, self._make)
        self.operations += playing.play_all(stream)

    def finish(self) -> None:
        """Audit everything, as a session does at its close."""
        self.pair.audit()
        for side in self.pair.case.sides:
            side.nbytes()

    @property
    def compared(self) -> int:
        """Lookups that both sides answered equally."""
        return sum(counts[EQUAL] for counts in self.pair.counters.lookups.values())

    def causes(self) -> Counter[tuple[Cause, Fault]]:
        """Count what was charged by cause and side."""
        return Counter((divergence.cause, divergence.fault) for divergence in self.divergences)

    def diverged(self, divergence: Divergence, answers: tuple[Any, Any]) -> bool:
        """Keep a divergence."""
        self.divergences.append(divergence)
        return True

    def window(self, pair: Pair, *, force: bool) -> None:
        """Nothing to write."""

    def event(self, name: str, detail: str = "") -> None:
        """Nothing to write."""

    def used_in_fork(self) -> None:
        """Nothing to mark."""

    def harness_failed(self, step: str, error: Exception) -> None:
        """Keep what the harness itself raised."""
        self.failures.append(error)

    def fork(self, pair: Pair, control: Any, candidate: Any) -> Pair:
        """Copies are not observed here."""
        return self._shape.pair(self._pairing._replace(name="trial-copy", control=control, candidate=candidate), self)

"""Plays streams on pairs of append caches: planted faults for the self-test, sound ones beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from reports.record.words import Cause
from validator.config import ValidationConfig
from validator.proof.appends.caches import FixedCache, GrowingCache, Windows
from validator.proof.appends.faults import WHOLE, WINDOWS, PlantedAppend
from validator.proof.appends.stream import AppendPlayer, calls
from validator.proof.stream import Player, Step
from validator.proof.trial import Trial
from validator.shapes.append import AppendShape

_SLICE = 20  # calls between two looks at what was noticed
_ROOM = 64  # tokens that fit into a fixed cache


class AppendTrial(Trial):
    """Runs one pair of append caches in memory; see ``Trial``.

    Args:
        control: Trusted cache.
        candidate: New cache.
        primary: Whose answers the player receives.
        windows: The window of each layer; None for what the control declares.
        config: Settings.
    """

    def __init__(
        self,
        control: Any,
        candidate: Any,
        primary: str = "control",
        windows: Windows | None = None,
        config: ValidationConfig | None = None,
    ) -> None:
        super().__init__(control, candidate, primary, config, shape=AppendShape(windows))

    def play(self, stream: Iterable[Step], player: type[Player] = AppendPlayer) -> None:
        """Play a stream, which goes on from the last one, through both sides."""
        super().play(stream, player)

    def play_until(self, stream: Iterator[Step], operations: int, causes: tuple[Cause, ...]) -> None:
        """Play so many calls, or until one of these causes was named; then look at everything."""
        while self.operations < operations and not any(each.cause in causes for each in self.divergences):
            self.play(islice(stream, min(_SLICE, operations - self.operations)))
        self.finish()


def planted_trial(planted: PlantedAppend, where: str, primary: str) -> AppendTrial:
    """Put a broken cache beside a sound one, or two broken ones beside each other."""
    control, candidate = GrowingCache(planted.windows), GrowingCache(planted.windows)
    control = planted.make(control) if where in ("control", "both") else control
    candidate = planted.make(candidate) if where in ("candidate", "both") else candidate
    return AppendTrial(control, candidate, primary, planted.windows)


def sound_trials(operations: int, seed: int) -> Iterator[AppendTrial]:
    """Play pairs that are sound: a growing cache beside another, and beside one of fixed room."""
    for primary in ("control", "candidate"):
        for windows in (WINDOWS, WHOLE):
            trial = AppendTrial(GrowingCache(windows), GrowingCache(windows), primary)
            trial.play(islice(calls(windows, seed), operations))
            trial.finish()
            yield trial
        trial = AppendTrial(GrowingCache(WHOLE), FixedCache(len(WHOLE), _ROOM), primary)
        trial.play(islice(calls(WHOLE, seed, _ROOM), operations))
        trial.finish()
        yield trial

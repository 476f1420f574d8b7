"""Proves on planted faults that the harness would notice: each is detected, named, and charged to the right side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

import torch

from reports.record.words import Fault
from shadow.interface import CacheCapacities
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.wrapper import process_state
from validator.proof.appends.faults import PLANTED_APPENDS, PlantedAppend
from validator.proof.appends.proof import planted_trial, sound_trials
from validator.proof.appends.stream import calls
from validator.proof.faults.planted import PLANTED, Planted
from validator.proof.mappings import CAPACITY, PLANTED_IN_MAPPINGS, MappingPlayer, Plain, mapping_steps
from validator.proof.stream import Player, Step, Terrain, steps
from validator.proof.trial import Trial

ENV_NUM = 3
CONFIG = {"num_simulations": 2, "max_cache_size": 4}
TERRAIN = Terrain(ENV_NUM, CacheCapacities.from_config(CONFIG, ENV_NUM))

EVERYTHING: tuple[Planted | PlantedAppend, ...] = (*PLANTED, *PLANTED_IN_MAPPINGS, *PLANTED_APPENDS)  # of every shape
_SLICE = 40  # operations between two looks at what was noticed


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one planted fault.

    Attributes:
        name: What was planted.
        family: Its family.
        where: ``candidate``, ``control`` or ``both``.
        primary: Whose answers the host received.
        detected: Whether anything was charged.
        cause_right: Whether the cause named most often, or first, is one that fits.
        side_right: Whether nobody was charged who is innocent.
        named: Causes and sides that were charged, most frequent first.
        operations: Cache operations played.
    """

    name: str
    family: str
    where: str
    primary: str
    detected: bool
    cause_right: bool
    side_right: bool
    named: tuple[str, ...]
    operations: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The outcome of a self-test.

    Attributes:
        results: One record per planted fault and place.
        false_alarms: Charges raised by sound pairs.
        sound_operations: Operations of sound pairs.
        harness_faults: What the harness itself raised, as text.
    """

    results: tuple[Result, ...]
    false_alarms: int
    sound_operations: int
    harness_faults: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the counts as a run's manifest keeps them."""
        return {
            "passed": self.passed,
            "planted": len(self.results),
            "detected": sum(p.detected for p in self.results),
            "cause_right": sum(p.cause_right for p in self.results),
            "side_right": sum(p.side_right for p in self.results),
            "false_alarms": self.false_alarms,
            "sound_operations": self.sound_operations,
            "harness_faults": list(self.harness_faults),
        }

    @property
    def passed(self) -> bool:
        """Whether all faults were detected and nobody innocent was charged, 95 % with the right cause."""
        results = self.results
        return (
            bool(results)
            and all(p.detected and p.side_right for p in results)
            and sum(p.cause_right for p in results) >= 0.95 * len(results)
            and not self.false_alarms
            and not self.harness_faults
        )


@torch.inference_mode(False)  # whatever its caller is in, grad mode as well: some faults show in the ordinary one alone
def selftest(
    planted: Sequence[Planted | PlantedAppend] = PLANTED,
    operations: int = 600,
    seed: int = 0,
    full: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> SelfTest:
    """Plant every fault, and play sound pairs of the same shapes beside.

    Args:
        planted: What to plant.
        operations: Cache operations per planted fault.
        seed: Seed of the streams.
        full: Plant on either side, on both, and with either primary, and play every stream to its end. Else plant in
            the candidate only, with the control as primary, and stop when the fault was named.

        on_progress: Told how many faults of how many are done.

    Returns:
        What came of it.
    """
    results = []
    problems: list[str] = []
    for number, each in enumerate(planted):
        if on_progress is not None:
            on_progress(number, len(planted))
        for where, primary in _places(full, each):
            with surroundings_kept():
                trial = _played(each, where, primary, operations, seed, full)
            problems += [f"{each.name}: {problem!r}" for problem in trial.failures[:1]]
            results.append(_judged(each, where, primary, trial))
    alarms = sound = 0
    for trial in _sound({shape_of(each) for each in planted}, operations, seed, full):
        alarms += len(trial.divergences)
        sound += trial.operations
        problems += [repr(problem) for problem in trial.failures[:1]]
    return SelfTest(tuple(results), alarms, sound, tuple(problems))


@cache
def quick_selftest(shape: str = "pools") -> SelfTest:
    """Run the quick form on the faults of one shape of cache, once a process."""
    return selftest([each for each in EVERYTHING if shape_of(each) == shape])


def shape_of(planted: Planted | PlantedAppend) -> str:
    """Return the shape of the cache that a fault is planted in."""
    return "append" if isinstance(planted, PlantedAppend) else planted.shape


def _played(
    planted: Planted | PlantedAppend, where: str, primary: str, operations: int, seed: int, full: bool
) -> Trial:
    """Play a planted fault; but in the full form only until it was noticed and named."""
    enough = () if full else planted.causes  # the full form plays on, to see whom else it charges
    if isinstance(planted, PlantedAppend):
        appending = planted_trial(planted, where, primary)
        appending.play_until(calls(planted.windows, seed), operations, enough)
        return appending
    trial = _plant(planted, where, primary)
    stream, player = _stream(planted, where, seed, operations)
    while part := list(islice(stream, _SLICE)):
        trial.play(part, player)
        if any(charge.cause in enough for charge in trial.divergences):
            break
    trial.finish()
    return trial


def _sound(shapes: set[str], operations: int, seed: int, full: bool) -> Iterator[Trial]:
    """Play sound pairs of some shapes."""
    if "pools" in shapes:
        for trial, terrain in _sound_pairs():
            trial.play(steps(seed, operations, terrain))
            trial.finish()
            yield trial
    if "mapping" in shapes:
        for primary in ("control", "candidate"):
            trial = Trial(Plain(), Plain(), primary)
            trial.play(mapping_steps(seed, operations, CAPACITY), MappingPlayer)
            trial.finish()
            yield trial
    if "append" in shapes:
        yield from sound_trials(operations if full else operations // 4, seed)


def manager() -> KVCacheManager:
    """Make a sound manager of the self-test's sizes."""
    return KVCacheManager(CONFIG, ENV_NUM)


def legacy() -> LegacyKVCache:
    """Make a sound legacy store of the self-test's sizes."""
    return LegacyKVCache(CONFIG, ENV_NUM)


def _places(full: bool, planted: Planted | PlantedAppend) -> Iterator[tuple[str, str]]:
    yield "candidate", "control"
    if full:
        yield from (("candidate", "candidate"), ("control", "control"), ("control", "candidate"))
        if not getattr(planted, "declared", False):
            yield "both", "control"


@contextmanager
def surroundings_kept() -> Iterator[None]:
    """Put back what a planted fault does to the process."""
    before = process_state.state()
    try:
        yield
    finally:
        process_state.put_back(before)


def _plant(planted: Planted, where: str, primary: str) -> Trial:
    sound: Any = manager if planted.manager_only or where == "candidate" else legacy
    if planted.shape == "mapping":
        sound = Plain
    # The sound partner is of the same kind, so that nothing but the fault can make a difference.
    control: Any = planted.make(sound()) if where in ("control", "both") else sound()
    candidate: Any = planted.make(sound()) if where in ("candidate", "both") else sound()
    return Trial(control, candidate, primary)


def _terrain(planted: Planted, where: str) -> Terrain:
    if planted.manager_only or where == "candidate":
        return TERRAIN
    return replace(TERRAIN, one_layout=True, batches=(2,))


def _stream(planted: Planted, where: str, seed: int, operations: int) -> tuple[Iterator[Step], type[Player]]:
    if planted.shape == "mapping":
        return mapping_steps(seed, operations, CAPACITY), MappingPlayer
    return steps(seed, operations, _terrain(planted, where)), Player


def _judged(planted: Planted | PlantedAppend, where: str, primary: str, trial: Trial) -> Result:
    causes = trial.causes()
    ordered = [pair for pair, _ in causes.most_common()]
    first = trial.divergences[0].cause if trial.divergences else None
    guilty = {
        "candidate": {Fault.CANDIDATE},
        "control": {Fault.CONTROL},
        "both": {Fault.BOTH, Fault.CONTROL, Fault.CANDIDATE, Fault.HOST},
    }[where]
    return Result(
        planted.name,
        planted.family,
        where,
        primary,
        detected=bool(trial.divergences),
        cause_right=bool(ordered) and (ordered[0][0] in planted.causes or first in planted.causes),
        side_right=all(side in guilty or side is Fault.UNKNOWN for _, side in causes),
        named=tuple(f"{cause.value} ({side.value}) x{causes[(cause, side)]}" for cause, side in ordered),
        operations=trial.operations,
    )


def _sound_pairs() -> Iterator[tuple[Trial, Terrain]]:
    one = replace(TERRAIN, one_layout=True)
    for primary in ("control", "candidate"):
        yield Trial(manager(), manager(), primary), TERRAIN
        yield Trial(legacy(), legacy(), primary), one

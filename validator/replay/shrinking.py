"""From a recorded divergence to the shortest program that shows it, by the stretches that a person would try first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reports.record.records import Divergence
from reports.record.trace import HAS_ENV, Verb
from reports.record.words import Cause, Fault
from validator.config import ValidationConfig
from validator.models.places import Places
from validator.proof.shrink import Setting, Shrinker, Shrunk, TimeIsUp
from validator.proof.stream import Step
from validator.proof.trial import Trial
from validator.replay.caches import CannotBuild, Sides
from validator.replay.program import Program
from validator.shapes import SHAPES

_FIRST_TAIL, _GROWTH = 16, 4
_WIDER = 512  # operations in which a fault may show on smaller caches
_LOOKS = (0.05, 1.0)  # shares of live entries that are looked at in between


class Found(NamedTuple):
    """What a divergence was shrunk to.

    Attributes:
        shrunk: The program and the caches that it fails on.
        explanation: What the charge says of it.
        look: Settings of the trial that shows it.
        began: Operations of the stretch that it was cut from.
    """

    shrunk: Shrunk
    explanation: str
    config: ValidationConfig
    began: int


def shrink_divergence(
    program: Program,
    divergence: Divergence,
    sides: Sides,
    seconds: float = 60.0,
    on_progress: Callable[[int], None] | None = None,
) -> Found | None:
    """Find the shortest program that leads to the same cause at the same side.

    Args:
        program: The trace of the pair that it was found at.
        divergence: What was found.
        sides: The two caches.
        seconds: Time that it may take.
        on_progress: Told how long the shortest program is, at each that is found.

    Returns:
        The program; None if the cause does not come again.
    """
    group = (divergence.cause, divergence.fault)
    for share in _LOOKS:
        config = ValidationConfig(overhead_budget=0.0, audit_share=share)

        def fails(steps: Sequence[Step], setting: Setting, config: ValidationConfig = config) -> bool:
            try:
                trial = played(sides, steps, setting, config, group[0] is Cause.MEDDLED)
            except CannotBuild:
                if setting == sides.setting:
                    raise
                return False  # sizes that one of them does not bear
            return group in trial.causes()

        shrinker = Shrinker(fails, seconds, on_progress)
        try:
            if not shrinker.first(stretches(program, divergence), sides.setting):
                continue
        except (TimeIsUp, KeyboardInterrupt):
            continue
        assert shrinker.best is not None
        began = len(shrinker.best.steps)
        kind = sides.kind
        shrunk = shrinker.minimise(_wider(program, divergence), kind.plainer, kind.plainer_settings(sides.setting))
        return Found(shrunk, said_of(sides, shrunk, config, group), config, began)
    return None


def played(
    sides: Sides, steps: Sequence[Step], setting: Setting, config: ValidationConfig, looks: bool = False
) -> Trial:
    """Play a program on fresh caches, and look at all they hold at its end, and at the state of the process."""
    trial = sides.trial(setting, config, looks)
    trial.play(steps, sides.kind.player)
    trial.finish()
    return trial


def said_of(sides: Sides, shrunk: Shrunk, config: ValidationConfig, group: tuple[Cause, Fault]) -> str:
    """Return what the charge says of a program that leads to it."""
    charges = played(sides, *shrunk, config, group[0] is Cause.MEDDLED).divergences
    return next((one.explanation for one in charges if (one.cause, one.fault) == group), "")


def stretches(program: Program, divergence: Divergence) -> Iterator[list[Step]]:
    """Yield stretches of a trace that end with a divergence, or after it, where an audit found later what it names.

    The last operations, and those since the last clears; of its pool and env, of its pool, of all. Of each end, the
    shortest first.
    """
    ends = [_end(program, divergence)]
    while divergence.outcome is None and ends[-1] < len(program):
        ends.append(min(len(program), ends[0] + _FIRST_TAIL * _GROWTH ** len(ends)))
    for end in ends:
        yield from _ending_at(program, divergence, end)


def _ending_at(program: Program, divergence: Divergence, end: int) -> Iterator[list[Step]]:
    relevant = _relevant(program, end, divergence)
    begins = {0}
    size = _FIRST_TAIL
    while size < end:
        begins.add(end - size)
        size *= _GROWTH
    clears = np.flatnonzero(_clears(program, end, divergence))
    begins |= {int(clears[-back]) for back in (1, 2, 4) if len(clears) >= back}
    chosen = []
    for begin in begins:
        chosen += [np.flatnonzero(mask[begin:end]) + begin for mask in relevant]
    seen: set[tuple[int, int]] = set()
    for at in sorted(chosen, key=len):
        if len(at) and (mark := (len(at), int(at[0]))) not in seen:
            seen.add(mark)
            yield list(program.steps(at))


def _wider(program: Program, divergence: Divergence) -> list[Step]:
    """Return the last operations around a divergence that have to do with its pool."""
    end = min(len(program), _end(program, divergence) + _WIDER // 2)
    at = np.flatnonzero(_relevant(program, end, divergence)[0])
    return list(program.steps(at[-_WIDER:]))


def _end(program: Program, divergence: Divergence) -> int:
    """Return how many records it takes to come past a divergence."""
    if divergence.op_index < 0:
        return len(program)
    return int(np.searchsorted(_unwrapped(program.ops), divergence.op_index, side="right"))


def _relevant(program: Program, end: int, divergence: Divergence) -> list[Any]:
    """Return masks of records: of the pool and env alone, of the pool, of all."""
    places = _places(program)
    asked = set(places.pools_of(divergence.pool))
    verbs = [program.verb(number) for number in range(program.n_verbs)]
    pools = np.array([divergence.pool == "all" or _touches(places, verb, asked) for verb in verbs], bool)
    of_pool = pools[program.field("verb")[:end]] | program.is_life[:end]
    everything = np.ones(end, bool)
    if divergence.env_id is None:
        return [of_pool, everything]
    flags, envs = program.field("flags")[:end], program.field("env")[:end]
    of_env = ((flags & HAS_ENV) == 0) | (envs == divergence.env_id)
    return [of_pool & of_env, of_pool, everything]


def _touches(places: Places, verb: Verb, asked: set[str]) -> bool:
    return verb.pool == "all" or not asked.isdisjoint(places.pools_of(verb.pool))


def _places(program: Program) -> Places:
    """Return the pools of the trace's shape."""
    name = program.about.get("shape")
    shape = next((shape for shape in SHAPES if shape.name == name), SHAPES[0])
    return getattr(shape, "places", None) or Places(())


def _clears(program: Program, end: int, divergence: Divergence) -> Any:
    verbs = [program.verb(number) for number in range(program.n_verbs)]
    asked = set(_places(program).pools_of(divergence.pool))
    clearing = [
        verb.method == "reset" or (verb.kind == "clear" and _touches(_places(program), verb, asked)) for verb in verbs
    ]
    return np.array(clearing, bool)[program.field("verb")[:end]]


def _unwrapped(ops: Any) -> Any:
    """Return ordinals beyond 32 bits, which a record has no room for."""
    return ops + (np.cumsum(np.diff(ops, prepend=ops[:1]) < -(1 << 31)) << 32)

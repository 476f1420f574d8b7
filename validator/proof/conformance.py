"""Holds two caches against their models on adversarial streams without training; finds the shortest failing one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, product
from typing import Any, NamedTuple

from reports.record.words import Cause, Fault
from shadow.interface import CacheCapacities
from validator.proof.mappings import MappingPlayer, mapping_steps
from validator.proof.shrink import shortest
from validator.proof.stream import Player, Step, Terrain, steps
from validator.proof.trial import Trial

Make = Callable[[dict[str, int], int], Any]  # (config, env_num) -> cache
Group = tuple[Cause, Fault]

QUIRKS = (Cause.SLOT_LEAK, Cause.AGE_REFRESHED, Cause.CAPACITY_EATEN, Cause.REVERSE_MAP_SURVIVED)

_CHUNK = 2000  # operations on one pair of fresh caches, so that a failing stream starts from nothing
_CONFIGS: tuple[tuple[dict[str, int], int], ...] = (
    ({"num_simulations": 2, "max_cache_size": 4}, 3),
    ({"num_simulations": 3, "max_cache_size": 2}, 2),
    ({"num_simulations": 1, "max_cache_size": 1}, 1),
    ({"num_simulations": 8, "max_cache_size": 12}, 2),
)


class Ground(NamedTuple):
    """What one shape of cache is played on.

    Attributes:
        configs: What caches are made of: a config and a number of envs.
        stream: Draws a stream, given its seed, how many operations, config, envs, and whether entries share a layout.
        player: Plays it.
    """

    configs: tuple[tuple[dict[str, int], int], ...]
    stream: Callable[[int, int, dict[str, int], int, bool], Iterable[Step]]
    player: type[Player]


def _on_pools(seed: int, count: int, config: dict[str, int], env_num: int, one_layout: bool) -> Iterable[Step]:
    return steps(seed, count, Terrain(env_num, CacheCapacities.from_config(config, env_num), one_layout=one_layout))


def _on_mappings(seed: int, count: int, config: dict[str, int], env_num: int, one_layout: bool) -> Iterable[Step]:
    return mapping_steps(seed, count, config["capacity"])


POOLS = Ground(_CONFIGS, _on_pools, Player)
MAPPINGS = Ground(tuple(({"capacity": size}, 1) for size in (4, 2, 1, 12)), _on_mappings, MappingPlayer)
GROUNDS = {"pools": POOLS, "mapping": MAPPINGS}


@dataclass(slots=True)
class Conformance:
    """What came of it.

    Attributes:
        operations: Cache operations played.
        compared: Lookups that both sides answered equally.
        charges: Charges by cause and side.
        programs: The shortest stream found for each cause and side, and the explanation of its charge.
        expected: Charges that the declared policy of a side implies (the legacy ring's L1..L4).
        not_exercised: What a side's declared slots rule out, one sentence each.
        harness_faults: What the harness itself raised, as text.
    """

    operations: int = 0
    compared: int = 0
    charges: Counter[Group] = field(default_factory=Counter)
    programs: dict[Group, tuple[tuple[Step, ...], str]] = field(default_factory=dict)
    expected: set[Group] = field(default_factory=set)
    not_exercised: list[str] = field(default_factory=list)
    harness_faults: list[str] = field(default_factory=list)

    @property
    def unexpected(self) -> list[Group]:
        """Charges that no declared policy implies."""
        return [group for group in self.charges if group not in self.expected]

    @property
    def conforms(self) -> bool:
        """Whether both sides did what they declare, values were compared, and the harness did not fail."""
        return bool(self.compared) and not self.unexpected and not self.harness_faults


def conformance(
    control: Make,
    candidate: Make,
    operations: int,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
    ground: Ground = POOLS,
) -> Conformance:
    """Play streams on both caches under both primaries, and judge every answer.

    Args:
        control: Makes a trusted cache of a config and a number of envs.
        candidate: Makes a new one.
        operations: Cache operations in all.
        seed: Same seed, same streams.
        on_progress: Told now and then how many operations are done.
        ground: What to play, by the shape of both.

    Returns:
        What was charged, with a shortest stream for each cause and side.
    """
    result = Conformance()
    for number, ((config, env_num), primary) in enumerate(cycle(product(ground.configs, ("control", "candidate")))):
        if result.operations >= operations:
            break
        fresh = partial(_fresh, control, candidate, config, env_num, primary)
        trial = fresh()
        one_layout = _expect(trial, result)
        count = min(_CHUNK, operations - result.operations)
        stream = list(ground.stream(seed * 1_000_003 + number, count, config, env_num, one_layout))
        causes = _played(trial, stream, ground.player).causes()
        result.operations += trial.operations
        result.compared += trial.compared
        result.charges.update(causes)
        result.harness_faults += [repr(fault) for fault in trial.failures[:1]]
        for group in causes:
            if group not in result.programs:
                result.programs[group] = _shortest(fresh, stream, group, ground.player)
        if on_progress is not None:
            on_progress(result.operations)
    return result


def _fresh(control: Make, candidate: Make, config: dict[str, int], env_num: int, primary: str) -> Trial:
    return Trial(control(config, env_num), candidate(config, env_num), primary)


def _played(trial: Trial, stream: Sequence[Step], player: type[Player]) -> Trial:
    trial.play(stream, player)
    trial.finish()
    return trial


def _shortest(
    fresh: Callable[[], Trial], stream: Sequence[Step], group: Group, player: type[Player]
) -> tuple[tuple[Step, ...], str]:
    """Return the shortest program found that leads to a charge, and what the charge says."""
    program = shortest(stream, lambda part: group in _played(fresh(), part, player).causes())
    charges = _played(fresh(), program, player).divergences
    return tuple(program), next((c.explanation for c in charges if (c.cause, c.fault) == group), "")


def _expect(trial: Trial, result: Conformance) -> bool:
    """Note what the sides declare, and tell whether all entries must be of one layout."""
    sides = trial.pair.case.sides
    fixed = [side.name for side in sides if side.model.policy.fixed_slots]
    for side in sides:
        if side.model.policy.kind == "legacy_ring":
            result.expected |= {(cause, Fault(side.name)) for cause in QUIRKS}
    note = f"mixed dtypes and batch sizes: slots of {' and '.join(fixed)} keep those of their first entry, as declared"
    if fixed and note not in result.not_exercised:
        result.not_exercised.append(note)
    return bool(fixed)

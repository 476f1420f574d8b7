"""What the gate demands of the evidence it judges: tables of a policy file, with the default policy as defaults.

What no policy can switch off is not a setting: a run must be complete, readable and unsampled, must not lie in the
future, and must have compared at least one hit. A gate that could do without would pass a run that looked at nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reports.record.words import COVERAGE
from validator.errors import ConfigError
from validator.toml import read_toml

_POOLS = ("init", "recur", "wm", "hierarchical")


@dataclass(frozen=True, slots=True)
class _NothingNegative:
    def __post_init__(self) -> None:
        for demand in fields(self):
            value = getattr(self, demand.name)
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise ValueError(f"{demand.name} must be at least 0, got {value}")


@dataclass(frozen=True, slots=True)
class CoveragePolicy(_NothingNegative):
    """What each run must have exercised at least; 0 demands nothing of that kind.

    Attributes:
        lookups: Lookups.
        both_hits: Lookups that both sides answered with equal entries: the only ones in which values were compared.
        overwrites: Sets of a key that was already alive.
        evictions: Entries pushed out by newer ones.
        ring_wraps: Times a pool's write position came round.
        clears: Clears of any kind.
        clears_all: Clears of everything.
        clears_init: Clears of all init pools.
        clears_init_env: Clears of one env's init pool.
        clears_recur: Clears of the recurrent pool.
        weight_updates: Weight updates that the host told of.
        episodes: Episode ends that the host told of.
        searches: Searches that the host told of.
        recomputations: Recomputations without a cache that agreed with what the host stored; none may have raised.
        others: What else must have been exercised, each at least once; names as in the report's list.
        every_env: Whether every env of every shadowed pair must have been looked up.
        every_layer: Whether every set must have had as many layers, with something in each, as the model has.
        every_rank: Whether both sides must have answered on every rank.
        every_pair: Whether both sides must have answered in every shadowed pair.
        weights_in_step: Whether all ranks of a process group must have heard of as many weight updates.
        asked: Those that the policy file itself names. Of the others a run is spared what its shape of cache does not
            have, or only a training has.
    """

    lookups: int = 1
    both_hits: int = 1
    overwrites: int = 1
    evictions: int = 1
    ring_wraps: int = 0
    clears: int = 1
    clears_all: int = 0
    clears_init: int = 0
    clears_init_env: int = 0
    clears_recur: int = 0
    weight_updates: int = 1
    episodes: int = 0
    searches: int = 0
    recomputations: int = 0
    others: tuple[str, ...] = ()
    every_env: bool = True
    every_layer: bool = False
    every_rank: bool = True
    every_pair: bool = False
    weights_in_step: bool = True
    asked: frozenset[str] = field(default=frozenset(), init=False, compare=False)

    def __post_init__(self) -> None:
        _NothingNegative.__post_init__(self)
        for name in self.others:
            if name not in COVERAGE:
                raise ValueError(f"nothing counts {name!r}; known are {', '.join(sorted(COVERAGE))}")
        if not (self.lookups and self.both_hits):
            raise ValueError(
                "lookups and both_hits must be at least 1: a policy that demands no comparison would pass a run "
                "that looked at nothing"
            )

    def requiring(self, names: Iterable[str]) -> CoveragePolicy:
        """Return the same with each of these demanded at least once.

        Args:
            names: Counts of this policy, or what else is counted; spaces may stand for underscores, as in reports.

        Raises:
            ValueError: If nothing counts what is named; the text lists what is counted.
        """
        counts = {one.name: getattr(self, one.name) for one in fields(self) if one.type == "int"}
        known = {name.replace("_", " "): name for name in (*counts, *COVERAGE)}
        wanted = {each: known.get(each.replace("_", " ")) for each in names}
        if unknown := sorted(each for each, name in wanted.items() if name is None):
            named = ", ".join(map(repr, unknown))
            raise ValueError(f"nothing counts {named}; known are {', '.join(sorted(known))}")
        found = {name for name in wanted.values() if name is not None}
        least = {name: max(1, counts[name]) for name in found & counts.keys()}
        made = replace(self, **least, others=(*self.others, *sorted(found - counts.keys())))
        object.__setattr__(made, "asked", self.asked | found)  # no shape of cache is spared them
        return made


@dataclass(frozen=True, slots=True)
class RunsPolicy(_NothingNegative):
    """Which runs there must be, and of what; what is 0, empty or false demands nothing.

    Attributes:
        shadow: Sound runs in which the model received the control's answers.
        canary: Sound runs in which it received the candidate's.
        seeds: Distinct seeds among the sound runs of each stage that is demanded, at most as many as runs of it.
        max_age_days: Age beyond which a run, or a conformance result, is no evidence any more.
        candidate: Full class name that the candidate must have, such as ``shadow.manager.KVCacheManager``.
        same_candidate: Whether all runs must be of one class, built from one source, on every rank.
        two_caches: Whether candidate and control must be of different classes: one class against itself shows nothing.
        clean_commit: Whether every rank must have run from a recorded commit without uncommitted changes.
        exact: Whether bits must have been compared, without a tolerance.
    """

    shadow: int = 0
    canary: int = 0
    seeds: int = 0
    max_age_days: float = 0.0
    candidate: str = ""
    same_candidate: bool = True
    two_caches: bool = False
    clean_commit: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How often the candidate may diverge at most, shown at 95 %, pool by pool over all runs; 0 demands nothing.

    Attributes:
        per_lookup: Divergences per lookup.
        per_episode: Episodes with a divergence, per episode: the unit where lookups are not independent.
        pools: Pools that must have been looked up, beside those that were: ``init``, ``recur``, ``wm``,
            ``hierarchical``.
    """

    per_lookup: float = 0.0
    per_episode: float = 0.0
    pools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("per_lookup", "per_episode"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for pool in self.pools:
            if pool not in _POOLS:
                raise ValueError(f"pools: unknown pool {pool!r}; known are {', '.join(_POOLS)}")
        if self.pools and not (self.per_lookup or self.per_episode):
            raise ValueError("pools demands nothing without per_lookup or per_episode")


@dataclass(frozen=True, slots=True)
class ConformancePolicy(_NothingNegative):
    """What ``kv-lockstep conformance --out DIR`` must have shown of the same candidate.

    Attributes:
        operations: Operations that conformed, over streams of different seeds; 0 demands none.
    """

    operations: int = 0


@dataclass(frozen=True, slots=True)
class DrillPolicy(_NothingNegative):
    """What ``kv-lockstep drill`` must have shown of the same host, candidate and commit.

    Attributes:
        faults: Different planted faults that such drills found and named, with none missed; 0 demands none.
    """

    faults: int = 0


@dataclass(frozen=True, slots=True)
class PerformancePolicy(_NothingNegative):
    """How the candidate must fare against the control in the same runs; margins are shares of the control's figure.

    Attributes:
        latency: Whether its time in operations must be shown not to be longer by more than the margin.
        memory: Whether the most bytes it held must not be more by more than the margin, in each run.
        hit_rate: Whether its hit rate must be shown not to be lower by more than the margin.
        latency_margin: Margin of latency.
        memory_margin: Margin of memory.
        hit_rate_margin: Margin of the hit rate.
        overhead: Share of a run's wall time that validating may take at most; 0 demands nothing.
    """

    latency: bool = False
    memory: bool = False
    hit_rate: bool = False
    latency_margin: float = 0.05
    memory_margin: float = 0.05
    hit_rate_margin: float = 0.05
    overhead: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingPolicy:
    """What ``kv-lockstep ab`` must have shown. Margins are shares of the control's mean: 0.05 allows 5 % worse.

    A margin of ``inf`` demands nothing of that kind.

    Attributes:
        seeds: Seeds with which both sides must have trained to the end.
        trajectories: Whether both sides must have done the same to the last bit, on a host that repeats itself. Of one
            that does not (LightZero seeds its tree search from the clock) it is not demanded.
        returns: Margin of the mean return of the last episodes.
        loss: Margin of the mean loss of the last updates.
        time: Margin of the time per env step.
        memory: Margin of the peak memory of the process.
        hit_rate: Margin of the share of lookups that were answered.
    """

    seeds: int = 3
    trajectories: bool = True
    returns: float = 0.05
    loss: float = 0.05
    time: float = 0.05
    memory: float = 0.05
    hit_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, got {self.seeds}: one pair gives no interval")
        margins = {field.name: getattr(self, field.name) for field in fields(self) if field.type == "float"}
        for name, margin in margins.items():
            if not margin >= 0:
                raise ValueError(f"{name} must be a margin of at least 0, such as 0.05 for 5 %, got {margin}")
        if not self.trajectories and all(map(math.isinf, margins.values())):
            raise ValueError("it demands nothing: give at least one margin below inf, or trajectories = true")


@dataclass(frozen=True, slots=True)
class GatePolicy(_NothingNegative):
    """One gate policy; the defaults are the default policy.

    Attributes:
        name: What to call it in reports.
        max_divergences: Divergences, beyond waived ones, that all runs together may show.
        selftest: Whether each run's harness must have noticed planted faults before the run began, on every rank.
        coverage: What each run must have exercised.
        runs: Which runs there must be, and of what.
        rate: How often the candidate may diverge at most.
        conformance: What adversarial streams must have shown.
        drill: Which planted faults the host must have shown.
        performance: How the candidate must fare against the control.
        training: What trainings with one cache alone must have shown; None demands none.
    """

    name: str = "default"
    max_divergences: int = 0
    selftest: bool = True
    coverage: CoveragePolicy = field(default_factory=CoveragePolicy)
    runs: RunsPolicy = field(default_factory=RunsPolicy)
    rate: RatePolicy = field(default_factory=RatePolicy)
    conformance: ConformancePolicy = field(default_factory=ConformancePolicy)
    drill: DrillPolicy = field(default_factory=DrillPolicy)
    performance: PerformancePolicy = field(default_factory=PerformancePolicy)
    training: TrainingPolicy | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "policy") -> GatePolicy:
        """Build a policy from a mapping a person wrote.

        Args:
            mapping: Tables and keys as in the attributes; what is left out keeps its default.
            where: What to call it in messages.

        Returns:
            The policy.

        Raises:
            ConfigError: If a key is unknown (the nearest known one is named), a value impossible, or nothing demanded.
        """
        # Imported here because the package above it imports torch, which judging with the default policy never needs.
        from shadow.settings import SettingsError, from_mapping

        if not any(key != "name" and value != {} for key, value in mapping.items()):
            raise ConfigError(
                f"{where}: demands nothing; expected at least one demand, such as max_divergences = 0 or a table "
                "[coverage]. Leave the policy away to judge by the default one"
            )
        try:
            policy = from_mapping(cls, mapping, where)
        except SettingsError as problem:
            raise ConfigError(str(problem)) from None
        object.__setattr__(policy.coverage, "asked", frozenset(mapping.get("coverage", ())))
        return policy

    @classmethod
    def load(cls, path: Path) -> GatePolicy:
        """Read a policy file.

        Args:
            path: TOML file.

        Returns:
            The policy, called as the file if it gives itself no name.

        Raises:
            ConfigError: If the file can't be read, is no TOML, or holds no valid policy.
        """
        return cls.from_mapping({"name": path.stem, **read_toml(path, "a gate policy")}, str(path))

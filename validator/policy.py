"""What the gate demands of the runs it judges: tables of a policy file, with the default policy as defaults.

What no policy can switch off is not a setting: a run must be complete, readable and unsampled, and must have compared
at least one hit. A gate that could do without would say PASS to a run that looked at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from validator.errors import ConfigError
from validator.toml import read_toml
from validator.training_policy import TrainingPolicy


@dataclass(frozen=True, slots=True)
class CoveragePolicy:
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
        every_env: Whether every env of every shadowed pair must have been looked up.
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
    every_env: bool = True

    def __post_init__(self) -> None:
        for demand in fields(self):
            if getattr(self, demand.name) < 0:
                raise ValueError(f"{demand.name} must be at least 0, got {getattr(self, demand.name)}")
        if not (self.lookups and self.both_hits):
            raise ValueError(
                "lookups and both_hits must be at least 1: a policy that demands no comparison would pass a run "
                "that looked at nothing"
            )


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """One gate policy; the defaults are the default policy.

    Attributes:
        name: What to call it in reports.
        max_divergences: Divergences that all runs together may show.
        selftest: Whether each run's harness must have noticed planted faults before the run began.
        coverage: What each run must have exercised.
        training: What trainings with one cache alone must have shown; None demands none.
    """

    name: str = "default"
    max_divergences: int = 0
    selftest: bool = True
    coverage: CoveragePolicy = field(default_factory=CoveragePolicy)
    training: TrainingPolicy | None = None

    def __post_init__(self) -> None:
        if self.max_divergences < 0:
            raise ValueError(f"max_divergences must be at least 0, got {self.max_divergences}")

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
            return from_mapping(cls, mapping, where)
        except SettingsError as problem:
            raise ConfigError(str(problem)) from None

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

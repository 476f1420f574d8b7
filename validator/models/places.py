"""Where the entries of a cache may lie: its pools, which lookups search several of them, and which a clear empties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shadow.operation import Pool

Spot = tuple[Pool, int | None]  # one pool, with its env if each env has its own


@dataclass(frozen=True, slots=True)
class Places:
    """The pools of one shape of cache.

    Attributes:
        single: Pools of which there is one.
        per_env: Pools of which each environment has its own; what such a one holds may not outlive an episode.
        of_search: Pools that must be empty when a search begins.
        searched: What a lookup may ask for that searches several pools: its name, and these, first to last.
    """

    single: tuple[Pool, ...]
    per_env: tuple[Pool, ...] = ()
    of_search: tuple[Pool, ...] = ()
    searched: Mapping[Pool, tuple[Pool, ...]] = field(default_factory=dict)

    def pools_of(self, asked: Pool) -> Sequence[Pool]:
        """List the pools that a lookup looks in, first to last."""
        return self.searched.get(asked, (asked,))

    def asked(self, asked: Pool, env_id: int | None) -> list[Spot]:
        """List the spots that a lookup looks in, first to last; ``env_id`` is the env that it asks for, if any."""
        return [(pool, env_id if pool in self.per_env else None) for pool in self.pools_of(asked)]


def covers(cleared: Pool, cleared_env: int | None, pool: Pool, env_id: int | None) -> bool:
    """Tell whether a clear of one pool (of one env, or of all for None) empties another."""
    return cleared == "all" or (cleared == pool and (cleared_env is None or cleared_env == env_id))


def where(pool: Pool, env_id: int | None) -> str:
    """Name a pool, with its env if it has one."""
    return pool if env_id is None else f"{pool}[{env_id}]"

"""How pools are named, which of them a lookup looks in, and which a clear empties."""

from __future__ import annotations

from shadow.operation import Pool


def pools_of(asked: Pool) -> tuple[Pool, ...]:
    """List the pools that a lookup looks in, first to last."""
    return ("init", "recur") if asked == "hierarchical" else (asked,)


def covers(cleared: Pool, cleared_env: int | None, pool: Pool, env_id: int | None) -> bool:
    """Tell whether a clear of one pool (of one env, or of all for None) empties another."""
    return cleared == "all" or (cleared == pool and (cleared_env is None or cleared_env == env_id))


def where(pool: Pool, env_id: int | None) -> str:
    """Name a pool, with its env if it has one."""
    return pool if env_id is None else f"{pool}[{env_id}]"

"""The manager object that newer LightZero builds carry, as one side of a pair."""

from __future__ import annotations

from typing import Any

from shadow.hosts.lightzero.errors import LightZeroMismatch
from shadow.interface import CacheCapacities, CachePolicy, PolicyKind

_POOLS = ("init_pools", "recur_pool", "wm_pool")
METHODS = (
    *("get_init_cache", "set_init_cache", "get_recur_cache", "set_recur_cache", "get_wm_cache", "set_wm_cache"),
    *("hierarchical_get", "clear_all", "clear_init_caches", "clear_recur_cache", "get_stats_summary", "reset_stats"),
)


class PackageStore:
    """The package's own manager object as one side; every operation is done by it.

    Args:
        manager: LightZero's ``KVCacheManager``.

    Raises:
        LightZeroMismatch: If it does not look as expected.
    """

    def __init__(self, manager: Any) -> None:
        where = f"{type(manager).__module__}.{type(manager).__qualname__}"
        problems = [name for name in (*_POOLS, *METHODS) if not hasattr(manager, name)]
        # A manager of ours may have been dropped in where LightZero builds its own; it needs no looking through.
        self._tells = all(hasattr(manager, name) for name in ("policy", "live_keys", "peek"))
        if not problems and not self._tells:
            pools = [*manager.init_pools, manager.recur_pool, manager.wm_pool]
            problems = [name for name in ("_key_to_index", "_pool", "pool_size", "clear", "eviction_strategy")
                        if not all(hasattr(pool, name) for pool in pools)]  # fmt: skip
        if problems:
            raise LightZeroMismatch(
                f"kv-lockstep does not know this LightZero: {where} should have {', '.join(problems)}; known is the "
                "main branch of 2026-08"
            )
        self.manager = manager
        self.env_num = len(manager.init_pools)

    def __getattr__(self, name: str) -> Any:
        if name == "manager":  # while a copy of this is under construction
            raise AttributeError(name)
        return getattr(self.manager, name)

    def clear_init_cache(self, env_id: int) -> None:
        """Clear the pool of one env, as LightZero's policy does."""
        self.manager.init_pools[env_id].clear()

    def policy(self) -> CachePolicy:
        """Declare the eviction and the sizes of its pools; it hands out its live slots."""
        manager = self.manager
        if self._tells:
            own: CachePolicy = manager.policy()
            return own
        kind: PolicyKind = manager.recur_pool.eviction_strategy.value
        sizes = CacheCapacities(
            manager.init_pools[0].pool_size, manager.recur_pool.pool_size, manager.wm_pool.pool_size
        )
        return CachePolicy(kind, sizes, live_results=True)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        """List the keys that a pool holds."""
        if self._tells:
            return list(self.manager.live_keys(pool, env_id))
        return list(self._pool(pool, env_id)._key_to_index)

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        """Return a stored entry itself without counting a lookup, or None."""
        if self._tells:
            return self.manager.peek(pool, env_id, cache_key)
        found = self._pool(pool, env_id)
        index = found._key_to_index.get(cache_key)
        return None if index is None else found._pool[index]

    def _pool(self, pool: str, env_id: int | None) -> Any:
        if pool == "init":
            return self.manager.init_pools[-1 if env_id is None else env_id]
        return self.manager.recur_pool if pool == "recur" else self.manager.wm_pool

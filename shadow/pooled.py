"""What every cache made of pools does alike, the old one and the new."""

from __future__ import annotations

from typing import Any


class PooledCache:
    """An init pool for each env, a recurrent pool that all envs share, and a ring of batch copies.

    What a lookup hands out (a copy, or the slot itself) is up to the pools.

    Attributes:
        enable_stats: Whether ``get_stats_summary`` reports counts.
        init_pools: Root entries, one pool an env.
        recur_pool: Nodes of the running search.
        wm_pool: Batch copies.
        keys_values_wm_list: Scratch list of the world model's batch assembly; it may assign its own.
        keys_values_wm_size_list: The same for lengths.
    """

    def __init__(self, enable_stats: bool, init_pools: list[Any], recur_pool: Any, wm_pool: Any) -> None:
        self.enable_stats = enable_stats
        self.init_pools = init_pools
        self.recur_pool = recur_pool
        self.wm_pool = wm_pool
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        """Return a root entry of one env, or None."""
        return self._init_pool(env_id).get(cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        """Return a search node's entry, or None."""
        return self.recur_pool.get(cache_key)

    def get_wm_cache(self, cache_key: int) -> Any:
        """Return a batch copy, or None."""
        return self.wm_pool.get(cache_key)

    def clear_all(self) -> None:
        """Clear every pool, and the scratch lists."""
        self.clear_init_caches()
        self.recur_pool.clear()
        self.wm_pool.clear()
        self.keys_values_wm_list.clear()
        self.keys_values_wm_size_list.clear()

    def clear_init_caches(self) -> None:
        """Clear the init pools of all envs."""
        for pool in self.init_pools:
            pool.clear()

    def clear_init_cache(self, env_id: int) -> None:
        """Clear the init pool of one env."""
        self._init_pool(env_id).clear()

    def clear_recur_cache(self) -> None:
        """Clear the recurrent pool."""
        self.recur_pool.clear()

    def get_stats_summary(self) -> dict[str, Any]:
        """Return counts and rates as numbers: ``stats_enabled``, then one mapping per pool."""
        if not self.enable_stats:
            return {"stats_enabled": False}
        return {
            "stats_enabled": True,
            "init_pools": {f"env_{env_id}": pool.summary() for env_id, pool in enumerate(self.init_pools)},
            "recur_pool": self.recur_pool.summary(),
            "wm_pool": self.wm_pool.summary(),
        }

    def reset_stats(self) -> None:
        """Start counting anew."""
        for pool in self._pools():
            if pool.stats is not None:
                pool.stats.reset()

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        """List the keys that a pool (``init`` of one env, ``recur`` or ``wm``) holds."""
        found: list[int] = self._pool(pool, env_id).live_keys()
        return found

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        """Return a stored entry itself without counting a lookup: read it, never write it."""
        return self._pool(pool, env_id).peek(cache_key)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        return sum(pool.nbytes for pool in self._pools())

    def _pools(self) -> list[Any]:
        return [*self.init_pools, self.recur_pool, self.wm_pool]

    def _pool(self, pool: str, env_id: int | None) -> Any:
        if pool == "init":
            return self._init_pool(-1 if env_id is None else env_id)
        return self.recur_pool if pool == "recur" else self.wm_pool

    def _init_pool(self, env_id: int) -> Any:
        return self.init_pools[env_id]

"""The new cache, the usual candidate: ``KVCacheManager``."""

from __future__ import annotations

import logging
from typing import Any

from shadow.entry import KeysValues
from shadow.interface import CacheCapacities, CachePolicy, positive, read_field
from shadow.pool import EvictionStrategy, KVCachePool

logger = logging.getLogger(__name__)


class KVCacheManager:
    """All KV caches of a world model behind one interface.

    A drop-in where LightZero builds its own manager (``use_new_cache_manager``).

    Args:
        config: World model config, mapping or object; see ``CacheCapacities.from_config`` for the fields read.
            ``cache_eviction_strategy`` (``"fifo"`` where absent) applies to every pool.
        env_num: Number of environments.
        enable_stats: Whether lookups are counted.
        clear_recur_log_freq: Log every n-th ``clear_recur_cache``; 0 for never.
        clear_all_log_freq: Log every n-th ``clear_all``; 0 for never.

    Raises:
        ValueError: If a size in the config is impossible or the strategy unknown.
    """

    def __init__(
        self,
        config: Any,
        env_num: int,
        enable_stats: bool = True,
        clear_recur_log_freq: int = 1000,
        clear_all_log_freq: int = 100,
    ) -> None:
        self.config = config
        self.env_num = positive("env_num", env_num)
        self.enable_stats = enable_stats
        self.clear_recur_log_freq = clear_recur_log_freq
        self.clear_all_log_freq = clear_all_log_freq
        self._clears = {"recur": 0, "all": 0}
        strategy = EvictionStrategy(read_field(config, "cache_eviction_strategy", "fifo"))
        sizes = CacheCapacities.from_config(config, env_num)
        self.init_pools = [
            KVCachePool(sizes.init, strategy, enable_stats, f"init_env{env_id}") for env_id in range(env_num)
        ]
        self.recur_pool = KVCachePool(sizes.recur, strategy, enable_stats, "recurrent")
        self.wm_pool = KVCachePool(sizes.wm, strategy, enable_stats, "world_model")
        # Scratch lists of the world model's batch assembly; it may assign new ones, ours are then simply unused.
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def get_init_cache(self, env_id: int, cache_key: int) -> KeysValues | None:
        """Return a copy of a root entry of one env, or None. ValueError for an env outside ``[0, env_num)``."""
        return self._init_pool(env_id).get(cache_key)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy of a root entry of one env and return its slot; see ``KVCachePool.set``."""
        return self._init_pool(env_id).set(cache_key, kv_cache, priority)

    def get_recur_cache(self, cache_key: int) -> KeysValues | None:
        """Return a copy of a search node's entry, or None."""
        return self.recur_pool.get(cache_key)

    def set_recur_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy of a search node's entry and return its slot; see ``KVCachePool.set``."""
        return self.recur_pool.set(cache_key, kv_cache, priority)

    def get_wm_cache(self, cache_key: int) -> KeysValues | None:
        """Return a copy of a batch copy, or None."""
        return self.wm_pool.get(cache_key)

    def set_wm_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy handed to the batch and return its slot; see ``KVCachePool.set``."""
        return self.wm_pool.set(cache_key, kv_cache, priority)

    def hierarchical_get(self, env_id: int, cache_key: int) -> KeysValues | None:
        """Look in the init pool of an env, then in the recurrent pool: one lookup, counted once.

        Args:
            env_id: Environment in ``[0, env_num)``.
            cache_key: 64-bit key.

        Returns:
            A copy of the entry found first, or None.

        Raises:
            ValueError: If ``env_id`` is out of range.
        """
        pool = self._init_pool(env_id)
        return (pool if cache_key in pool._key_to_index else self.recur_pool).get(cache_key)

    def clear_all(self) -> None:
        """Forget every entry of every pool, and the scratch lists."""
        self.clear_init_caches()
        self.recur_pool.clear()
        self.wm_pool.clear()
        self.keys_values_wm_list.clear()
        self.keys_values_wm_size_list.clear()
        self._log_clear("all", self.clear_all_log_freq)

    def clear_init_caches(self) -> None:
        """Forget the root entries of all envs."""
        for pool in self.init_pools:
            pool.clear()

    def clear_init_cache(self, env_id: int) -> None:
        """Forget the root entries of one env. ValueError for an env outside ``[0, env_num)``."""
        self._init_pool(env_id).clear()

    def clear_recur_cache(self) -> None:
        """Forget the nodes of the running search."""
        self.recur_pool.clear()
        self._log_clear("recur", self.clear_recur_log_freq)

    def get_stats_summary(self) -> dict[str, Any]:
        """Return counts and rates as numbers: ``stats_enabled``, then one mapping per pool."""
        if not self.enable_stats:
            return {"stats_enabled": False}
        return {
            "stats_enabled": True,
            "init_pools": {f"env_{env_id}": _summary(pool) for env_id, pool in enumerate(self.init_pools)},
            "recur_pool": _summary(self.recur_pool),
            "wm_pool": _summary(self.wm_pool),
        }

    def reset_stats(self) -> None:
        """Start counting anew."""
        for pool in self._pools():
            if pool.stats is not None:
                pool.stats.reset()

    def policy(self) -> CachePolicy:
        """Declare what is promised about live entries."""
        capacities = CacheCapacities(self.init_pools[0].pool_size, self.recur_pool.pool_size, self.wm_pool.pool_size)
        return CachePolicy(self.recur_pool.eviction_strategy.value, capacities)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        """List the keys that a pool (``init`` of one env, ``recur`` or ``wm``) holds."""
        return self._pool(pool, env_id).live_keys()

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> KeysValues | None:
        """Return a stored entry itself without counting a lookup: read it, never write it."""
        return self._pool(pool, env_id).peek(cache_key)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        return sum(pool.nbytes for pool in self._pools())

    def __repr__(self) -> str:
        return f"KVCacheManager(env_num={self.env_num}, {', '.join(repr(pool) for pool in self._pools())})"

    def _pools(self) -> list[KVCachePool]:
        return [*self.init_pools, self.recur_pool, self.wm_pool]

    def _pool(self, pool: str, env_id: int | None) -> KVCachePool:
        if pool == "init":
            return self._init_pool(-1 if env_id is None else env_id)
        return self.recur_pool if pool == "recur" else self.wm_pool

    def _init_pool(self, env_id: int) -> KVCachePool:
        if type(env_id) is int and 0 <= env_id < self.env_num:
            return self.init_pools[env_id]
        if not hasattr(env_id, "__index__") or not 0 <= env_id < self.env_num:
            raise ValueError(f"env_id must be in [0, {self.env_num}), got {env_id!r}")
        return self.init_pools[env_id]

    def _log_clear(self, what: str, every: int) -> None:
        self._clears[what] += 1
        if every > 0 and self._clears[what] % every == 0:
            logger.info("Cleared %s KV caches %d times (said every %d times)", what, self._clears[what], every)


def _summary(pool: KVCachePool) -> dict[str, float]:
    assert pool.stats is not None
    return {**pool.stats.summary(), "entries": len(pool), "pool_size": pool.pool_size}

"""The new cache, the usual candidate: ``KVCacheManager``."""

from __future__ import annotations

import logging
from typing import Any

from shadow.entry import KeysValues
from shadow.interface import CacheCapacities, CachePolicy, positive, read_field
from shadow.pool import EvictionStrategy, KVCachePool
from shadow.pooled import PooledCache

logger = logging.getLogger(__name__)


class KVCacheManager(PooledCache):
    """All KV caches of a world model behind one interface.

    A drop-in where LightZero builds its own manager (``use_new_cache_manager``). What is looked up is a copy. An env
    outside ``[0, env_num)`` is a ValueError.

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

    init_pools: list[KVCachePool]
    recur_pool: KVCachePool
    wm_pool: KVCachePool

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
        self.clear_recur_log_freq = clear_recur_log_freq
        self.clear_all_log_freq = clear_all_log_freq
        self._clears = {"recur": 0, "all": 0}
        strategy = EvictionStrategy(read_field(config, "cache_eviction_strategy", "fifo"))
        sizes = CacheCapacities.from_config(config, env_num)
        init_pools = [KVCachePool(sizes.init, strategy, enable_stats, f"init_env{env_id}") for env_id in range(env_num)]
        recur_pool = KVCachePool(sizes.recur, strategy, enable_stats, "recurrent")
        super().__init__(
            enable_stats, init_pools, recur_pool, KVCachePool(sizes.wm, strategy, enable_stats, "world_model")
        )

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy of a root entry of one env and return its slot; see ``KVCachePool.set``."""
        return self._init_pool(env_id).set(cache_key, kv_cache, priority)

    def set_recur_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy of a search node's entry and return its slot; see ``KVCachePool.set``."""
        return self.recur_pool.set(cache_key, kv_cache, priority)

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
        super().clear_all()
        self._log_clear("all", self.clear_all_log_freq)

    def clear_recur_cache(self) -> None:
        """Forget the nodes of the running search."""
        super().clear_recur_cache()
        self._log_clear("recur", self.clear_recur_log_freq)

    def policy(self) -> CachePolicy:
        """Declare what is promised about live entries."""
        capacities = CacheCapacities(self.init_pools[0].pool_size, self.recur_pool.pool_size, self.wm_pool.pool_size)
        return CachePolicy(self.recur_pool.eviction_strategy.value, capacities)

    def __repr__(self) -> str:
        return f"KVCacheManager(env_num={self.env_num}, {', '.join(repr(pool) for pool in self._pools())})"

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

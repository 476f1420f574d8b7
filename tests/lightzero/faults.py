"""Candidates with one planted fault each, and a sound one."""

from __future__ import annotations

from typing import Any

from shadow import KVCacheManager
from shadow.pool import KVCachePool


class StoredByReference(KVCacheManager):
    """Keeps what it was given, as the first published manager did."""

    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        self._kept: dict[Any, Any] = {}

    def set_recur_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        self._kept[cache_key] = kv_cache
        return super().set_recur_cache(cache_key, kv_cache, priority)

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        answer = super().hierarchical_get(env_id, cache_key)
        return answer if answer is None else self._kept.get(cache_key, answer)

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        kept = self._kept.get(cache_key) if pool == "recur" else None
        return super().peek(pool, env_id, cache_key) if kept is None else kept

    def clear_recur_cache(self) -> None:
        self._kept.clear()
        super().clear_recur_cache()


class ValuesFromKeys(KVCacheManager):
    """Copies layer 1's values from its keys."""

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        layer = kv_cache._keys_values[1]
        kept = layer._v_cache._cache
        layer._v_cache._cache = layer._k_cache._cache
        try:
            return super().set_init_cache(env_id, cache_key, kv_cache, priority)
        finally:
            layer._v_cache._cache = kept


class EvictsOneEarly(KVCacheManager):
    """Has one slot less than it should."""

    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        size = self.recur_pool.pool_size
        self.recur_pool = KVCachePool(size - 1, name="recurrent")
        self.init_pools = [KVCachePool(1, name=f"init_env{env_id}") for env_id in range(env_num)]

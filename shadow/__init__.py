"""What stands in the path of an operation: the entry type, both caches, the lockstep wrapper, the hosts."""

from shadow.entry import Cache, KeysValues, KVCache
from shadow.interface import CacheCapacities, CachePolicy, CacheStore
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.pool import CacheStats, EvictionStrategy, KVCachePool

__all__ = [
    "Cache",
    "CacheCapacities",
    "CachePolicy",
    "CacheStats",
    "CacheStore",
    "EvictionStrategy",
    "KVCache",
    "KVCacheManager",
    "KVCachePool",
    "KeysValues",
    "LegacyKVCache",
]

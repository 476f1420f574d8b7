"""What stands in the path of an operation: the entry type, both caches, the lockstep wrapper, the hosts.

Names are loaded when first used: reading settings, as the gate does, needs no torch.
PYTEST_DONT_REWRITE: else who imports this and then calls pytest is warned of it, since it brings a plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shadow.entries import register_entry
    from shadow.entry import Cache, KeysValues, KVCache
    from shadow.interface import CacheCapacities, CachePolicy, CacheStore
    from shadow.legacy import LegacyKVCache
    from shadow.manager import KVCacheManager
    from shadow.pool import CacheStats, EvictionStrategy, KVCachePool

_WHERE = {
    "entries": ("register_entry",),
    "entry": ("Cache", "KVCache", "KeysValues"),
    "interface": ("CacheCapacities", "CachePolicy", "CacheStore"),
    "legacy": ("LegacyKVCache",),
    "manager": ("KVCacheManager",),
    "pool": ("CacheStats", "EvictionStrategy", "KVCachePool"),
}

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
    "register_entry",
]


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"shadow.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

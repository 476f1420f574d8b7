"""The old cache, the usual control: LightZero's dicts and ring pools, behaviour kept to the last quirk.

A ring of slots per pool, a dict from key to slot, and a reverse map from slot to key. A set always takes the next
slot of the ring, also for a key that is there already, and first deletes whatever key the reverse map names for that
slot. A clear empties the dict only. From this follow four quirks about which keys are alive (never a wrong value):

| id | sequence (capacity, sets, ``|`` is a clear) | this store | a bounded map |
|---|---|---|---|
| L1 | c2 ``A A B`` get A | miss: the old slot's reverse entry deletes the live key | hit |
| L2 | c2 ``A B A C`` get A / B | hit / miss: a re-set refreshes the age | miss / hit |
| L3 | c3 ``A B B C`` get A | miss: a re-set eats capacity | hit |
| L4 | c2 ``A | A B`` get A | miss: the reverse map survived the clear | hit |
"""

from __future__ import annotations

from typing import Any

import torch

from shadow.entry import KeysValues, leaves
from shadow.interface import CacheCapacities, CachePolicy, positive
from shadow.lent import readable
from shadow.pool import CacheStats


class RingPool:
    """One ring of slots with its dict and reverse map.

    Args:
        capacity: Slots of the ring.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = positive("capacity", capacity)
        self.stats = CacheStats()
        self.key_to_slot: dict[int, int] = {}
        self.slot_to_key: list[int | None] = [None] * capacity
        self.slots: list[KeysValues | None] = [None] * capacity
        self.write_index = 0

    def get(self, cache_key: int) -> KeysValues | None:
        """Return the live slot object itself, or None; the caller must copy it before changing it."""
        index = self.key_to_slot.get(cache_key)
        if index is None:
            self.stats.misses += 1
            return None
        self.stats.hits += 1
        return self.slots[index]

    def set(self, cache_key: int, kv_cache: Any) -> int:
        """Copy an entry into the next slot of the ring and return the slot number.

        Whole buffers are copied, valid or not. A slot keeps the default dtype and the batch size of its first entry.
        """
        index = self.write_index
        overwritten = self.slot_to_key[index]
        if overwritten is not None and overwritten in self.key_to_slot:
            del self.key_to_slot[overwritten]
            self.stats.evictions += 1
        source = leaves(readable(kv_cache))
        slot = self.slots[index]
        if slot is None:
            batch, heads, tokens, head_dim = source[0].tensor.shape
            device = source[0].tensor.device
            slot = KeysValues(batch, heads, tokens, heads * head_dim, len(source) // 2, device)
            self.slots[index] = slot
        with torch.no_grad():
            for layer, k, v in zip(slot, source[::2], source[1::2], strict=True):
                for cache, leaf in ((layer._k_cache, k), (layer._v_cache, v)):
                    cache._cache.copy_(leaf.tensor)
                    cache._size = leaf.size
        self.key_to_slot[cache_key] = index
        self.slot_to_key[index] = cache_key
        self.write_index = (index + 1) % self.capacity
        return index

    def clear(self) -> None:
        """Empty the dict. Reverse map, write index and slots survive, as they always did."""
        self.key_to_slot.clear()

    def peek(self, cache_key: int) -> KeysValues | None:
        """Return the live slot object without counting a lookup, or None."""
        index = self.key_to_slot.get(cache_key)
        return None if index is None else self.slots[index]

    def live_keys(self) -> list[int]:
        """List the keys that are held."""
        return list(self.key_to_slot)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        return sum(slot.nbytes for slot in self.slots if slot is not None)

    def __len__(self) -> int:
        return len(self.key_to_slot)


class LegacyKVCache:
    """The legacy store behind the manager's interface.

    Args:
        config: World model config, mapping or object; see ``CacheCapacities.from_config`` for the fields read.
        env_num: Number of environments.
        enable_stats: Whether ``get_stats_summary`` reports counts.

    Raises:
        ValueError: If a size in the config is impossible.
    """

    def __init__(self, config: Any, env_num: int, enable_stats: bool = True) -> None:
        self.config = config
        self.env_num = env_num
        self.enable_stats = enable_stats
        self.capacities = CacheCapacities.from_config(config, env_num)
        self.init_pools = [RingPool(self.capacities.init) for _ in range(env_num)]
        self.recur_pool = RingPool(self.capacities.recur)
        self.wm_pool = RingPool(self.capacities.wm)
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def get_init_cache(self, env_id: int, cache_key: int) -> KeysValues | None:
        """Return the live slot of a root entry, or None. Env -1 silently means the last env, as it always did."""
        return self.init_pools[env_id].get(cache_key)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        """Copy a root entry of one env into the ring and return its slot number."""
        return self.init_pools[env_id].set(cache_key, kv_cache)

    def get_recur_cache(self, cache_key: int) -> KeysValues | None:
        """Return the live slot of a search node's entry, or None."""
        return self.recur_pool.get(cache_key)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Copy a search node's entry into the ring and return its slot number."""
        return self.recur_pool.set(cache_key, kv_cache)

    def get_wm_cache(self, cache_key: int) -> KeysValues | None:
        """Return the live slot of a batch copy, or None."""
        return self.wm_pool.get(cache_key)

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Copy an entry for the batch into the ring and return its slot number."""
        return self.wm_pool.set(cache_key, kv_cache)

    def hierarchical_get(self, env_id: int, cache_key: int) -> KeysValues | None:
        """Look in the init pool of an env, then in the recurrent pool; one lookup, counted where it ended."""
        pool = self.init_pools[env_id]
        return (pool if cache_key in pool.key_to_slot else self.recur_pool).get(cache_key)

    def clear_all(self) -> None:
        """Empty the dicts of all pools, and the scratch lists."""
        self.clear_init_caches()
        self.recur_pool.clear()
        self.wm_pool.clear()
        self.keys_values_wm_list.clear()
        self.keys_values_wm_size_list.clear()

    def clear_init_caches(self) -> None:
        """Empty the dicts of all init pools."""
        for pool in self.init_pools:
            pool.clear()

    def clear_init_cache(self, env_id: int) -> None:
        """Empty the dict of one env's init pool."""
        self.init_pools[env_id].clear()

    def clear_recur_cache(self) -> None:
        """Empty the dict of the recurrent pool."""
        self.recur_pool.clear()

    def get_stats_summary(self) -> dict[str, Any]:
        """Return counts and rates as numbers, laid out as the manager's."""
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
        for pool in (*self.init_pools, self.recur_pool, self.wm_pool):
            pool.stats.reset()

    def policy(self) -> CachePolicy:
        """Declare what is promised about live entries: nothing better than the ring."""
        return CachePolicy("legacy_ring", self.capacities, live_results=True, fixed_slots=True)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        """List the keys that a pool (``init`` of one env, ``recur`` or ``wm``) holds."""
        return self._pool(pool, env_id).live_keys()

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> KeysValues | None:
        """Return a stored entry itself without counting a lookup: read it, never write it."""
        return self._pool(pool, env_id).peek(cache_key)

    def _pool(self, pool: str, env_id: int | None) -> RingPool:
        if pool == "init":
            return self.init_pools[-1 if env_id is None else env_id]
        return self.recur_pool if pool == "recur" else self.wm_pool

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        return sum(pool.nbytes for pool in (*self.init_pools, self.recur_pool, self.wm_pool))


def _summary(pool: RingPool) -> dict[str, float]:
    return {**pool.stats.summary(), "entries": len(pool), "pool_size": pool.capacity}

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
from shadow.pooled import PooledCache


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

    def summary(self) -> dict[str, float]:
        """Return all counts and rates as numbers, with how full the ring is."""
        return {**self.stats.summary(), "entries": len(self), "pool_size": self.capacity}


class LegacyKVCache(PooledCache):
    """The legacy store behind the manager's interface; it hands out live slots.

    Env -1 silently means the last env, as it always did.

    Args:
        config: World model config, mapping or object; see ``CacheCapacities.from_config`` for the fields read.
        env_num: Number of environments.
        enable_stats: Whether ``get_stats_summary`` reports counts.

    Raises:
        ValueError: If a size in the config is impossible.
    """

    init_pools: list[RingPool]
    recur_pool: RingPool
    wm_pool: RingPool

    def __init__(self, config: Any, env_num: int, enable_stats: bool = True) -> None:
        self.config = config
        self.env_num = env_num
        self.capacities = sizes = CacheCapacities.from_config(config, env_num)
        init_pools = [RingPool(sizes.init) for _ in range(env_num)]
        super().__init__(enable_stats, init_pools, RingPool(sizes.recur), RingPool(sizes.wm))

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        """Copy a root entry of one env into the ring and return its slot number."""
        return self.init_pools[env_id].set(cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Copy a search node's entry into the ring and return its slot number."""
        return self.recur_pool.set(cache_key, kv_cache)

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Copy an entry for the batch into the ring and return its slot number."""
        return self.wm_pool.set(cache_key, kv_cache)

    def hierarchical_get(self, env_id: int, cache_key: int) -> KeysValues | None:
        """Look in the init pool of an env, then in the recurrent pool; one lookup, counted where it ended."""
        pool = self.init_pools[env_id]
        return (pool if cache_key in pool.key_to_slot else self.recur_pool).get(cache_key)

    def policy(self) -> CachePolicy:
        """Declare what is promised about live entries: nothing better than the ring."""
        return CachePolicy("legacy_ring", self.capacities, live_results=True, fixed_slots=True)

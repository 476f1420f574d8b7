"""One bounded store of entries: slots allocated once, copies on set, a declared eviction order."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from sys import getrefcount
from typing import Any, NoReturn

from shadow.entry import KeysValues
from shadow.interface import positive
from shadow.lent import Lent, checked_leaves, lend
from shadow.located import overwrite, region
from shadow.memory.buffers import Leaf
from shadow.memory.regions import Region


class EvictionStrategy(Enum):
    """Which entry gives way when a full pool takes a new key."""

    FIFO = "fifo"  # the one inserted first; an update in place keeps its age
    LRU = "lru"  # the one neither read nor written for longest
    PRIORITY = "priority"  # the one of least priority, the oldest of these

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        known = ", ".join(repr(strategy.value) for strategy in cls)
        raise ValueError(f"eviction strategy must be one of {known}, got {value!r}")


@dataclass(slots=True)
class CacheStats:
    """Counts of one pool.

    Attributes:
        hits: Lookups answered.
        misses: Lookups not answered.
        evictions: Entries that gave way to another key; clears are not evictions.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0

    @property
    def total_queries(self) -> int:
        """Lookups."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float:
        """Share of lookups answered, 0 without lookups."""
        return self.hits / self.total_queries if self.total_queries else 0.0

    @property
    def miss_rate(self) -> float:
        """Share of lookups not answered, 0 without lookups."""
        return self.misses / self.total_queries if self.total_queries else 0.0

    def reset(self) -> None:
        """Start counting anew."""
        self.hits = self.misses = self.evictions = 0

    def summary(self) -> dict[str, float]:
        """Return all counts and rates as numbers."""
        return {
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self.evictions,
            "total_queries": self.total_queries,
            "hit_rate": self.hit_rate,
            "miss_rate": self.miss_rate,
        }


def _references_of_one_local() -> int:
    held = [object()]
    item = held[0]
    return getrefcount(item)


_ALONE = _references_of_one_local()  # of what one container and one local name refer to; depends on the interpreter


class KVCachePool:
    """A bounded map from 64-bit keys to entries.

    Neither the object a caller stored nor the one it was given can change what is held, and what it was given never
    changes under its hands. A set copies in. A get lends: what it returns copies itself when it is touched (see
    ``Lent``), and a slot that is still lent out is not written again but replaced. Slots are allocated when first
    needed and kept for good otherwise, also across ``clear``.

    Args:
        pool_size: Entries it may hold.
        eviction_strategy: Which entry gives way when it is full.
        enable_stats: Whether lookups and evictions are counted.
        name: Label in messages.

    Raises:
        ValueError: If ``pool_size`` is not a positive whole number.
    """

    def __init__(
        self,
        pool_size: int,
        eviction_strategy: EvictionStrategy = EvictionStrategy.FIFO,
        enable_stats: bool = True,
        name: str = "default",
    ) -> None:
        self.pool_size = positive("pool_size", pool_size)
        self.eviction_strategy = EvictionStrategy(eviction_strategy)
        self.enable_stats = enable_stats
        self.name = name
        self.stats = CacheStats() if enable_stats else None
        self._slots: list[KeysValues | None] = [None] * pool_size
        self._lent: dict[int, KeysValues] = {}  # by key: what may be handed out again; never used under LRU
        self._free = list(range(pool_size - 1, -1, -1))
        # In eviction order for FIFO and LRU: the next to give way comes first.
        self._key_to_index: OrderedDict[int, int] = OrderedDict()
        self._priorities: dict[int, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, int]] = []  # (priority, age, key), outdated ones skipped when met
        self._age = 0

    def get(self, cache_key: int) -> KeysValues | None:
        """Return the entry under a key, or None.

        Args:
            cache_key: 64-bit key.

        Returns:
            A ``KeysValues`` of the dtype and device that was stored, independent of the cache and of all that was
            returned before, or None. Its values are copied when they are first touched.
        """
        # What was handed out before is handed out again if nobody has it any more and nobody touched it. The local name
        # comes first: of two threads that count, at least one then sees the other.
        lent = self._lent.get(cache_key)
        if getrefcount(lent) == _ALONE and type(lent) is Lent:
            if self.stats is not None:
                self.stats.hits += 1
            return lent
        index = self._key_to_index.get(cache_key)
        if index is None:
            if self.stats is not None:
                self.stats.misses += 1
            return None
        if self.stats is not None:
            self.stats.hits += 1
        slot = self._slots[index]
        assert slot is not None  # a key never points to a slot that was not written
        lent = lend(slot)
        if self.eviction_strategy is EvictionStrategy.LRU:
            self._key_to_index.move_to_end(cache_key)
        else:
            self._lent[cache_key] = lent
        return lent

    def set(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        """Store a copy of an entry under a key.

        Args:
            cache_key: 64-bit key.
            kv_cache: Entry; only its valid region is read. Dtype and device are kept.
            priority: With PRIORITY, greater ones stay longer; 0 where not given, and an update without one keeps the
                one it had. Refused by the other strategies.

        Returns:
            The slot number.

        Raises:
            TypeError: If ``kv_cache`` is no entry.
            ValueError: If it is malformed, or the priority is NaN or not used by this pool. Nothing has changed then.
        """
        source = region(kv_cache) or checked_leaves(kv_cache)
        if priority is not None and (self.eviction_strategy is not EvictionStrategy.PRIORITY or math.isnan(priority)):
            raise ValueError(f"priority {priority} given to pool {self.name!r}; only PRIORITY pools take a number here")
        index = self._key_to_index.get(cache_key)
        if index is not None:
            self._write(index, source, cache_key)
            if self.eviction_strategy is EvictionStrategy.LRU:
                self._key_to_index.move_to_end(cache_key)
            elif priority is not None:
                self._rank(cache_key, priority)
            return index
        victim = None if self._free else self._next_victim()
        index = self._free[-1] if victim is None else self._key_to_index[victim]
        # Before anything is forgotten: a set that fails must leave no trace.
        lent = self._write(index, source, victim)
        if victim is None:
            self._free.pop()
        else:
            del self._key_to_index[victim]
            self._priorities.pop(victim, None)
            self._lent.pop(victim, None)
            if lent is not None:
                self._lent[cache_key] = lent
            if self.stats is not None:
                self.stats.evictions += 1
        self._key_to_index[cache_key] = index
        if self.eviction_strategy is EvictionStrategy.PRIORITY:
            self._rank(cache_key, 0.0 if priority is None else priority)
        return index

    def clear(self) -> None:
        """Forget all entries; slots and counts stay."""
        self._key_to_index.clear()
        self._lent.clear()
        self._free = list(range(self.pool_size - 1, -1, -1))
        self._priorities.clear()
        self._heap.clear()

    def peek(self, cache_key: int) -> KeysValues | None:
        """Return the stored entry itself without counting a lookup or touching an age: read it, never write it."""
        index = self._key_to_index.get(cache_key)
        return None if index is None else self._slots[index]

    def live_keys(self) -> list[int]:
        """List the keys that are held; under FIFO and LRU the next to give way comes first."""
        return list(self._key_to_index)

    def summary(self) -> dict[str, float]:
        """Return all counts and rates as numbers, with how full the pool is."""
        assert self.stats is not None
        return {**self.stats.summary(), "entries": len(self), "pool_size": self.pool_size}

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        return sum(slot.nbytes for slot in self._slots if slot is not None)

    def __len__(self) -> int:
        return len(self._key_to_index)

    def __contains__(self, cache_key: object) -> bool:
        return cache_key in self._key_to_index

    def __repr__(self) -> str:
        return f"KVCachePool({self.name!r}, {len(self)}/{self.pool_size}, {self.eviction_strategy.value})"

    def _write(self, index: int, source: list[Leaf] | Region, key: int | None) -> KeysValues | None:
        """Fill a slot that holds a key, or is free for None; return what may be handed out of it again, if anything."""
        lent = None if key is None else self._lent.get(key)
        if lent is not None and (getrefcount(lent) != _ALONE or type(lent) is not Lent):
            lent = None
        slot = self._slots[index]
        if slot is not None and getrefcount(slot) == (_ALONE if lent is None else _ALONE + 1):
            if isinstance(source, Region):
                if overwrite(slot, source):
                    return lent
            elif slot.fits(source):
                slot.copy_from(source)
                return lent
        # A first entry, one of another structure, or somebody still reads from what was stored here.
        if isinstance(source, Region):
            fresh = KeysValues.blank(source.layout)
            overwrite(fresh, source)
        else:
            fresh = KeysValues.empty_like(source)
            fresh.copy_from(source)
        self._slots[index] = fresh
        if key is not None:
            self._lent.pop(key, None)
        return None

    def __getstate__(self) -> dict[str, Any]:
        # What was handed out belongs to whom it was given: a copy of the pool has handed out nothing.
        return {**self.__dict__, "_lent": {}}

    def _rank(self, cache_key: int, priority: float) -> None:
        age = self._priorities[cache_key][1] if cache_key in self._priorities else self._age
        self._age += 1
        self._priorities[cache_key] = (priority, age)
        heapq.heappush(self._heap, (priority, age, cache_key))
        if len(self._heap) > 4 * self.pool_size:  # updates leave outdated items behind; drop them now and then
            self._heap = [(p, a, key) for key, (p, a) in self._priorities.items()]
            heapq.heapify(self._heap)

    def _next_victim(self) -> int:
        if self.eviction_strategy is not EvictionStrategy.PRIORITY:
            return next(iter(self._key_to_index))
        while True:
            priority, age, key = self._heap[0]
            if self._priorities.get(key) == (priority, age):
                return key
            heapq.heappop(self._heap)

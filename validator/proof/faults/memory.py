"""Caches whose entries lie in memory that somebody else writes to."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from shadow.entry import KeysValues, leaves
from validator.proof.faults.acts import acted
from validator.proof.faults.wrapped import Place, Wrapped, copy_of, pool_of


class ByReference(Wrapped):
    """Stores the object it is given, as the first published manager did."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.held: dict[Any, OrderedDict[int, Any]] = {}

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        pool = self.held.setdefault(place, OrderedDict())
        if key not in pool and len(pool) >= getattr(self.inner.policy().capacities, place[0]):
            pool.popitem(last=False)
        pool[key] = self.keep(kv_cache)
        acted()
        return 0

    def of(self, place: Place) -> OrderedDict[int, Any]:
        """Return the entries of one pool."""
        return self.held.get(place, OrderedDict())

    def keep(self, kv_cache: Any) -> Any:
        """Return what is kept of an entry."""
        return kv_cache

    def answer(self, place: Place, method: str, key: int) -> Any:
        if place[0] == "hierarchical":
            found = self.of(("init", place[1])).get(key)
            return self.of(("recur",)).get(key) if found is None else found
        return self.of(place).get(key)

    def clear_all(self) -> None:
        self.held.clear()

    def clear_init_caches(self) -> None:
        for place in [p for p in self.held if p[0] == "init"]:
            del self.held[place]

    def clear_init_cache(self, env_id: int) -> None:
        self.held.pop(("init", env_id), None)

    def clear_recur_cache(self) -> None:
        self.held.pop(("recur",), None)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        return list(self.of((pool,) if env_id is None else (pool, env_id)))

    def peek(self, pool: str, env_id: int | None, key: int) -> Any:
        return self.of((pool,) if env_id is None else (pool, env_id)).get(key)


class ShallowCopy(ByReference):
    """Copies the containers and the lengths, but shares the tensors."""

    def keep(self, kv_cache: Any) -> Any:
        own = copy.copy(kv_cache)
        own._keys_values = tuple(copy.copy(layer) for layer in kv_cache._keys_values)
        for layer in own._keys_values:
            layer._k_cache, layer._v_cache = copy.copy(layer._k_cache), copy.copy(layer._v_cache)
        return own


class KeysShared(ShallowCopy):
    """Copies the values but shares the keys."""

    def keep(self, kv_cache: Any) -> Any:
        own = super().keep(kv_cache)
        for layer in own._keys_values:
            layer._v_cache._cache = layer._v_cache._cache.clone()
        return own


class InputEdited(Wrapped):
    """Zeroes its input after it was stored."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        for leaf in leaves(kv_cache):
            leaf.tensor.data.fill_(3)
        acted()
        return slot


class ScratchAnswered(Wrapped):
    """Every get of one layout answers the same object, filled anew."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.scratch: dict[Any, KeysValues] = {}

    def answer(self, place: Place, method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        if found is None:
            return None
        source = leaves(found)
        layout = tuple((leaf.tensor.shape, leaf.tensor.dtype) for leaf in source)
        own = self.scratch.setdefault(layout, KeysValues.empty_like(source))
        own.copy_from(source)
        acted()
        return own


class LiveSlotAnswered(Wrapped):
    """A get hands out the slot itself, and slots are reused."""

    def answer(self, place: Place, method: str, key: int) -> Any:
        if super().answer(place, method, key) is None:
            return None
        acted()
        if place[0] == "hierarchical":
            found = self.inner.peek("init", place[1], key)
            return self.inner.peek("recur", None, key) if found is None else found
        return self.inner.peek(*pool_of(place), key)


class Leak(Wrapped):
    """Keeps a copy of every entry that it was ever given."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.kept: list[Any] = []

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        self.kept.append(copy_of(kv_cache))
        acted()
        return super().store(place, method, key, kv_cache)


class Decay(Wrapped):
    """Every eleventh set damages the oldest entry of another pool, which may never be read again."""

    asks = ("live_keys", "peek")

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        self.count += 1
        if self.count % 11 == 0:
            pool: tuple[str, int | None] = ("recur", None) if place[0] == "init" else ("init", 0)
            live = self.inner.live_keys(*pool)
            acted(live)
            if live:
                for leaf in leaves(self.inner.peek(*pool, live[0])):
                    leaf.tensor.data[..., : max(1, leaf.size), :] += 0.5
        return slot


class SlotsCollide(Wrapped):
    """Two keys share a slot: a set also overwrites the entry of the oldest key."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        self.count += 1
        live = [k for k in self.inner.live_keys(*pool_of(place)) if k != key]
        if live and self.count % 5 == 0:
            acted()
            super().store(place, method, live[0], kv_cache)
        return slot

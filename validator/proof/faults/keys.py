"""Caches that are wrong about which entry a key has, or whether it has one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from shadow.entry import leaves
from validator.proof.faults.wrapped import Make, Place, Wrapped, copy_of, pool_of


class SetIgnored(Wrapped):
    """Every seventh set of a new key is dropped."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        self.count += 1
        if self.count % 7 == 0 and key not in self.inner.live_keys(*pool_of(place)):
            return 0
        return super().store(place, method, key, kv_cache)


class ResetIgnored(Wrapped):
    """A set of a key that is there already is dropped."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        if key in self.inner.live_keys(*pool_of(place)):
            return 0
        return super().store(place, method, key, kv_cache)


class TransientMiss(Wrapped):
    """Every ninth get misses although the entry is there."""

    def answer(self, place: Place, method: str, key: int) -> Any:
        self.count += 1
        found = super().answer(place, method, key)
        return None if self.count % 9 == 0 else found


class Phantom(Wrapped):
    """A miss is answered with the last entry that was a hit, blanked."""

    last: Any = None

    def answer(self, place: Place, method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        if found is not None:
            self.last = copy_of(found)
            for leaf in leaves(self.last):
                leaf.tensor.fill_(7)
            return found
        return self.last


class KeyTruncated(Wrapped):
    """Only the low 32 bits of a key count."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        return super().store(place, method, key & 0xFFFFFFFF, kv_cache)

    def answer(self, place: Place, method: str, key: int) -> Any:
        return super().answer(place, method, key & 0xFFFFFFFF)


class NeighbourAnswered(Wrapped):
    """Every fifth hit answers the entry of another key of the same pool."""

    def answer(self, place: Place, method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        self.count += 1
        if found is None or self.count % 5 or place[0] == "hierarchical":
            return found
        others = [k for k in self.inner.live_keys(*pool_of(place)) if k != key]
        return super().answer(place, method, others[0]) if others else found


class StaleVersion(Wrapped):
    """A key that comes back after it was gone is answered with its first entry."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.first: dict[Any, Any] = {}

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        back = (place, key) in self.first and key not in self.inner.live_keys(*pool_of(place))
        old = self.first.get((place, key))
        self.first[(place, key)] = copy_of(kv_cache)
        return super().store(place, method, key, old if back else kv_cache)


class EnvMixed(Wrapped):
    """Lookups of the last env go to env 0."""

    def answer(self, place: Place, method: str, key: int) -> Any:
        if place[0] == "init" and place[1] == self.inner.env_num - 1:
            place = ("init", 0)
        return super().answer(place, method, key)


class EnvsShared(Wrapped):
    """All envs share the pool of env 0."""

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        return super().store(("init", 0) if place[0] == "init" else place, method, key, kv_cache)

    def answer(self, place: Place, method: str, key: int) -> Any:
        return super().answer((place[0], 0) if len(place) > 1 else place, method, key)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        found: list[int] = self.inner.live_keys(pool, 0 if pool == "init" else None)
        return found

    def peek(self, pool: str, env_id: int | None, key: int) -> Any:
        return self.inner.peek(pool, 0 if pool == "init" else None, key)


class Unlisted(Wrapped):
    """Doesn't say which keys it holds, nor shows what it holds; faults stand in its pools."""

    peek = live_keys = None


def never_evicting(inner: Any) -> Any:
    """Make a manager grow where an entry should give way, and not list its keys."""
    for pool in [*inner.init_pools, inner.recur_pool]:
        pool._next_victim = lambda pool=pool: _grown(pool)
    return Unlisted(inner)


def _grown(pool: Any) -> None:
    pool._free.append(len(pool._slots))
    pool._slots.append(None)


class ClearsUnheard(Unlisted):
    """Ignores the clear of one env, and doesn't list its keys."""

    def clear_init_cache(self, env_id: int) -> None:
        return


def resized(by: int) -> Make:
    """A manager whose init and recurrent pools are larger or smaller than asked for."""

    def make(inner: Any) -> Any:
        pools = [*inner.init_pools, inner.recur_pool]
        for pool in pools:
            pool.pool_size += by
            pool._slots = [None] * pool.pool_size
            pool._free = list(range(pool.pool_size - 1, -1, -1))
        return inner

    return make


def evicting(choose: Callable[[list[int], random.Random], int]) -> Make:
    """A manager whose pools choose another victim."""

    def make(inner: Any) -> Any:
        draw = random.Random(0)
        for pool in [*inner.init_pools, inner.recur_pool]:
            pool._next_victim = lambda pool=pool: choose(list(pool._key_to_index), draw)
        return inner

    return make


def recency(inner: Any) -> Any:
    """Make a manager evict by recency although it declares FIFO."""
    for pool in [*inner.init_pools, inner.recur_pool]:
        get = pool.get

        def touched(key: int, pool: Any = pool, get: Any = get) -> Any:
            if key in pool._key_to_index:
                pool._key_to_index.move_to_end(key)
            return get(key)

        pool.get = touched
    return inner

"""Caches that are wrong about which entry a key has, or whether it has one."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import MethodType
from typing import Any

from shadow.entry import leaves
from validator.proof.faults.acts import acted, contents
from validator.proof.faults.wrapped import Make, Place, Wrapped, copy_of, pool_of


class SetIgnored(Wrapped):
    """Every seventh set of a new key is dropped."""

    asks = ("live_keys",)

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        self.count += 1
        if self.count % 7 == 0 and key not in self.inner.live_keys(*pool_of(place)):
            acted()
            return 0
        return super().store(place, method, key, kv_cache)


class ResetIgnored(Wrapped):
    """A set of a key that is there already is dropped."""

    asks = ("live_keys",)

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        if key in self.inner.live_keys(*pool_of(place)):
            acted()
            return 0
        return super().store(place, method, key, kv_cache)


class TransientMiss(Wrapped):
    """Every ninth get misses although the entry is there."""

    def answer(self, place: Place, method: str, key: int) -> Any:
        self.count += 1
        found = super().answer(place, method, key)
        acted(self.count % 9 == 0 and found is not None)
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
        acted(self.last is not None)
        return self.last


class KeyTruncated(Wrapped):
    """Only the low 32 bits of a key count."""

    asks = ("live_keys",)

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        acted(key & 0xFFFFFFFF in self.inner.live_keys(*pool_of(place)))
        return super().store(place, method, key & 0xFFFFFFFF, kv_cache)

    def answer(self, place: Place, method: str, key: int) -> Any:
        return super().answer(place, method, key & 0xFFFFFFFF)


class NeighbourAnswered(Wrapped):
    """Every fifth hit answers the entry of another key of the same pool."""

    asks = ("live_keys",)

    def answer(self, place: Place, method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        self.count += 1
        if found is None or self.count % 5 or place[0] == "hierarchical":
            return found
        others = [k for k in self.inner.live_keys(*pool_of(place)) if k != key]
        acted(others)
        return super().answer(place, method, others[0]) if others else found


class StaleVersion(Wrapped):
    """A key that comes back after it was gone is answered with its first entry."""

    asks = ("live_keys",)

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.first: dict[Any, Any] = {}

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        back = (place, key) in self.first and key not in self.inner.live_keys(*pool_of(place))
        old = self.first.get((place, key))
        self.first[(place, key)] = copy_of(kv_cache)
        acted(back and contents(old) != contents(kv_cache))
        return super().store(place, method, key, old if back else kv_cache)


class EnvMixed(Wrapped):
    """Lookups of the last env go to env 0."""

    asks = ("env_num",)

    def answer(self, place: Place, method: str, key: int) -> Any:
        if place[0] == "init" and place[1] == self.inner.env_num - 1:
            acted(place[1])
            place = ("init", 0)
        return super().answer(place, method, key)


class EnvsShared(Wrapped):
    """All envs share the pool of env 0."""

    asks = ("live_keys", "peek")

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        acted(place[-1] if len(place) > 1 else 0)
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
    return Unlisted(_choosing(inner, _grown))


def _choosing(inner: Any, choose: Callable[[Any], Any]) -> Any:
    """Let a manager's init and recurrent pools choose otherwise who gives way; deep copies do so too."""
    for pool in [*inner.init_pools, inner.recur_pool]:
        pool._next_victim = MethodType(choose, pool)
    return inner


def _grown(pool: Any) -> None:
    acted()
    pool._free.append(len(pool._slots))
    pool._slots.append(None)


class ClearsUnheard(Unlisted):
    """Ignores the clear of one env, and doesn't list its keys."""

    def clear_init_cache(self, env_id: int) -> None:
        acted()


def _first(pool: Any) -> Any:
    acted()
    return next(iter(pool._key_to_index))


def resized(by: int) -> Make:
    """A manager whose init and recurrent pools are larger or smaller than asked for."""

    def make(inner: Any) -> Any:
        for pool in [*inner.init_pools, inner.recur_pool]:
            pool.pool_size += by
            pool._slots = [None] * pool.pool_size
            pool._free = list(range(pool.pool_size - 1, -1, -1))
        return _choosing(inner, _first)

    return make


def evicting(choose: Callable[[list[int], random.Random], int]) -> Make:
    """A manager whose pools choose another victim."""

    def make(inner: Any) -> Any:
        draw = random.Random(0)

        def chosen(pool: Any) -> int:
            live = list(pool._key_to_index)
            victim = choose(live, draw)
            acted(victim != live[0])
            return victim

        return _choosing(inner, chosen)

    return make


def recency(inner: Any) -> Any:
    """Make a manager evict by recency although it declares FIFO."""
    for pool in [*inner.init_pools, inner.recur_pool]:
        pool.get = MethodType(_touching, pool)
        pool._ages = {}
    return _choosing(inner, _least_recent)


def _touching(pool: Any, key: int) -> Any:
    _aged(pool)
    if key in pool._key_to_index:
        pool._key_to_index.move_to_end(key)
    return type(pool).get(pool, key)


def _least_recent(pool: Any) -> Any:
    victim = next(iter(pool._key_to_index))
    acted(victim != next(iter(_aged(pool))))
    return victim


def _aged(pool: Any) -> dict[int, None]:
    """Keep the keys of a pool in the order in which they came, which being used does not change."""
    live = pool._key_to_index
    pool._ages = dict.fromkeys((*(key for key in pool._ages if key in live), *live))
    ages: dict[int, None] = pool._ages
    return ages

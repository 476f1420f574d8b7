"""Planted faults: sound caches broken in one way each, with the cause and the side that must be named for it.

Most wrap any cache behind the public interface; a few reach into ``KVCacheManager``. A fault is only listed if the
harness has to tell it from its neighbours.
"""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reports.record.words import Cause
from shadow.entry import KeysValues, leaves

Make = Callable[[Any], Any]


class Wrapped:
    """A cache that passes everything on; faults override what they break.

    Every set goes through ``store``, every get through ``answer``, every clear through its own method.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        """Store under a key; ``place`` is ``("init", env_id)``, ``("recur",)`` or ``("wm",)``."""
        return getattr(self.inner, method)(*place[1:], key, kv_cache)

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        """Look a key up; ``place`` may also be ``("hierarchical", env_id)``."""
        return getattr(self.inner, method)(*place[1:], key)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("init", env_id), "set_init_cache", cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("recur",), "set_recur_cache", cache_key, kv_cache)

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("wm",), "set_wm_cache", cache_key, kv_cache)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        return self.answer(("init", env_id), "get_init_cache", cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self.answer(("recur",), "get_recur_cache", cache_key)

    def get_wm_cache(self, cache_key: int) -> Any:
        return self.answer(("wm",), "get_wm_cache", cache_key)

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return self.answer(("hierarchical", env_id), "hierarchical_get", cache_key)


def storing(change: Callable[[KeysValues], Any]) -> Make:
    """Break what is stored: the entry is copied, changed, and then set."""

    class Storing(Wrapped):
        def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
            own = _copy(kv_cache)
            return super().store(place, method, key, change(own) or own)

    return Storing


def answering(change: Callable[[Any], Any]) -> Make:
    """Break what is answered: every hit is copied and changed."""

    class Answering(Wrapped):
        def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
            found = super().answer(place, method, key)
            if found is None:
                return None
            own = _copy(found)
            changed = change(own)
            return own if changed is None else changed

    return Answering


def _copy(entry: Any) -> KeysValues:
    found = leaves(entry)
    own = KeysValues.empty_like(found)
    own.copy_from(found)
    return own


class SetIgnored(Wrapped):
    """Every seventh set of a new key is dropped."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        self.count += 1
        if self.count % 7 == 0 and key not in self.inner.live_keys(*_pool(place)):
            return 0
        return super().store(place, method, key, kv_cache)


class ResetIgnored(Wrapped):
    """A set of a key that is there already is dropped."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        if key in self.inner.live_keys(*_pool(place)):
            return 0
        return super().store(place, method, key, kv_cache)


class TransientMiss(Wrapped):
    """Every ninth get misses although the entry is there."""

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        self.count += 1
        found = super().answer(place, method, key)
        return None if self.count % 9 == 0 else found


class Phantom(Wrapped):
    """A miss is answered with the last entry that was a hit, blanked."""

    last: Any = None

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        if found is not None:
            self.last = _copy(found)
            for leaf in leaves(self.last):
                leaf.tensor.fill_(7)
            return found
        return self.last


class KeyTruncated(Wrapped):
    """Only the low 32 bits of a key count."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        return super().store(place, method, key & 0xFFFFFFFF, kv_cache)

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        return super().answer(place, method, key & 0xFFFFFFFF)


class NeighbourAnswered(Wrapped):
    """Every fifth hit answers the entry of another key of the same pool."""

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        self.count += 1
        if found is None or self.count % 5 or place[0] == "hierarchical":
            return found
        others = [k for k in self.inner.live_keys(*_pool(place)) if k != key]
        return super().answer(place, method, others[0]) if others else found


class StaleVersion(Wrapped):
    """A key that comes back after it was gone is answered with its first entry."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.first: dict[Any, Any] = {}

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        back = (place, key) in self.first and key not in self.inner.live_keys(*_pool(place))
        old = self.first.get((place, key))
        self.first[(place, key)] = _copy(kv_cache)
        return super().store(place, method, key, old if back else kv_cache)


class EnvMixed(Wrapped):
    """Lookups of the last env go to env 0."""

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        if place[0] == "init" and place[1] == self.inner.env_num - 1:
            place = ("init", 0)
        return super().answer(place, method, key)


class EnvsShared(Wrapped):
    """All envs share the pool of env 0."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        return super().store(("init", 0) if place[0] == "init" else place, method, key, kv_cache)

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        return super().answer((place[0], 0) if len(place) > 1 else place, method, key)

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        found: list[int] = self.inner.live_keys(pool, 0 if pool == "init" else None)
        return found

    def peek(self, pool: str, env_id: int | None, key: int) -> Any:
        return self.inner.peek(pool, 0 if pool == "init" else None, key)


class RecurFirst(Wrapped):
    """The hierarchical lookup asks the recurrent pool first."""

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        found = self.inner.get_recur_cache(cache_key)
        return self.inner.get_init_cache(env_id, cache_key) if found is None else found


class RecurNever(Wrapped):
    """The hierarchical lookup never asks the recurrent pool."""

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return self.inner.get_init_cache(env_id, cache_key)


class InitNever(Wrapped):
    """The hierarchical lookup never asks the init pool."""

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return self.inner.get_recur_cache(cache_key)


class RecurKept(Wrapped):
    """The recurrent pool is never cleared by its own clear."""

    def clear_recur_cache(self) -> None:
        return


class EnvKept(Wrapped):
    """The clear of one env does nothing."""

    def clear_init_cache(self, env_id: int) -> None:
        return


class AllKeepsRecur(Wrapped):
    """``clear_all`` forgets the recurrent pool."""

    def clear_all(self) -> None:
        self.inner.clear_init_caches()


class AllKeepsInit(Wrapped):
    """``clear_all`` forgets the init pools."""

    def clear_all(self) -> None:
        self.inner.clear_recur_cache()


class EnvClearTooWide(Wrapped):
    """The clear of one env clears all of them."""

    def clear_init_cache(self, env_id: int) -> None:
        self.inner.clear_init_caches()


class RecurClearTooWide(Wrapped):
    """The clear of the recurrent pool clears the init pools too."""

    def clear_recur_cache(self) -> None:
        self.inner.clear_recur_cache()
        self.inner.clear_init_caches()


class ByReference(Wrapped):
    """Stores the object it is given, as the first published manager did."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.held: dict[Any, OrderedDict[int, Any]] = {}

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        pool = self.held.setdefault(place, OrderedDict())
        if key not in pool and len(pool) >= getattr(self.inner.policy().capacities, place[0]):
            pool.popitem(last=False)
        pool[key] = self.keep(kv_cache)
        return 0

    def of(self, place: tuple[Any, ...]) -> OrderedDict[int, Any]:
        """Return the entries of one pool."""
        return self.held.get(place, OrderedDict())

    def keep(self, kv_cache: Any) -> Any:
        """Return what is kept of an entry."""
        return kv_cache

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
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

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        for leaf in leaves(kv_cache):
            leaf.tensor.data.fill_(3)
        return slot


class ScratchAnswered(Wrapped):
    """Every get of one layout answers the same object, filled anew."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.scratch: dict[Any, KeysValues] = {}

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        found = super().answer(place, method, key)
        if found is None:
            return None
        source = leaves(found)
        layout = tuple((leaf.tensor.shape, leaf.tensor.dtype) for leaf in source)
        own = self.scratch.setdefault(layout, KeysValues.empty_like(source))
        own.copy_from(source)
        return own


class LiveSlotAnswered(Wrapped):
    """A get hands out the slot itself, and slots are reused."""

    def answer(self, place: tuple[Any, ...], method: str, key: int) -> Any:
        if super().answer(place, method, key) is None:
            return None
        if place[0] == "hierarchical":
            found = self.inner.peek("init", place[1], key)
            return self.inner.peek("recur", None, key) if found is None else found
        return self.inner.peek(*_pool(place), key)


class Decay(Wrapped):
    """Every eleventh set damages the oldest entry of another pool, which may never be read again."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        self.count += 1
        if self.count % 11 == 0:
            pool: tuple[Any, ...] = ("recur", None) if place[0] == "init" else ("init", 0)
            live = self.inner.live_keys(*pool)
            if live:
                for leaf in leaves(self.inner.peek(*pool, live[0])):
                    leaf.tensor.data[..., : max(1, leaf.size), :] += 0.5
        return slot


class SlotsCollide(Wrapped):
    """Two keys share a slot: a set also overwrites the entry of the oldest key."""

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        slot = super().store(place, method, key, kv_cache)
        self.count += 1
        live = [k for k in self.inner.live_keys(*_pool(place)) if k != key]
        if live and self.count % 5 == 0:
            super().store(place, method, live[0], kv_cache)
        return slot


def raising(verb: str, every: int = 1) -> Make:
    """Raise on a kind of call: ``store``, ``answer`` or a clear's name; on every n-th one."""

    class Raising(Wrapped):
        pass

    def fail(self: Any, *args: Any) -> Any:
        self.count += 1
        if self.count % every == 0:
            raise RuntimeError(f"planted in {verb}")
        return getattr(Wrapped, verb)(self, *args) if hasattr(Wrapped, verb) else getattr(self.inner, verb)(*args)

    setattr(Raising, verb, fail)
    return Raising


def meddling(change: Callable[[], Any]) -> Make:
    """Change process-wide state on every set."""

    class Meddling(Wrapped):
        def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
            change()
            return super().store(place, method, key, kv_cache)

    return Meddling


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


def _pool(place: tuple[Any, ...]) -> tuple[str, int | None]:
    return place[0], place[1] if len(place) > 1 else None


def _each(entry: KeysValues, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            region = cache._cache[:, :, : cache._size]
            region.copy_(change(region.clone()))


def _swap_kv(entry: KeysValues) -> None:
    for layer in entry:
        layer._k_cache, layer._v_cache = layer._v_cache, layer._k_cache


def _v_from_k(entry: KeysValues) -> None:
    entry[1]._v_cache._cache.copy_(entry[1]._k_cache._cache)
    entry[1]._v_cache._size = entry[1]._k_cache._size


def _reverse_layers(entry: KeysValues) -> None:
    entry._keys_values = tuple(reversed(entry._keys_values))


def _lengths(by: int, parts: str = "kv") -> Callable[[KeysValues], None]:
    def change(entry: KeysValues) -> None:
        for layer in entry:
            for name, cache in (("k", layer._k_cache), ("v", layer._v_cache)):
                if name in parts:
                    cache._size = min(max(0, cache._size + by), cache._max_tokens)

    return change


def _through(dtype: torch.dtype) -> Callable[[KeysValues], None]:
    return lambda entry: _each(entry, lambda region: region.to(dtype).to(region.dtype))


def _as_double(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache.to(torch.float64 if cache._cache.dtype != torch.float64 else torch.float32)


def _flip_one_bit(entry: KeysValues) -> None:
    cache = entry[0]._k_cache
    if cache._size:
        width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[cache._cache.element_size()]
        cache._cache[0, 0, 0].view(width)[0] ^= 1


def _last_token_lost(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            if cache._size:
                cache._cache[:, :, cache._size - 1].fill_(0.125)


def _trim(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache[:, :, : cache._size].clone()


def _drop_layer(entry: KeysValues) -> None:
    entry._keys_values = entry._keys_values[:1]


class FirstLayerOnly(Wrapped):
    """Only the first layer is copied; the others keep what the set before left there."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.before: dict[Any, Any] = {}

    def store(self, place: tuple[Any, ...], method: str, key: int, kv_cache: Any) -> Any:
        own = _copy(kv_cache)
        layout = tuple((leaf.tensor.shape, leaf.tensor.dtype, leaf.size) for leaf in leaves(own))
        old = self.before.get(layout)
        self.before[layout] = _copy(kv_cache)
        if old is not None:
            own._keys_values = (own[0], *old._keys_values[1:])
        return super().store(place, method, key, own)


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault.

    Attributes:
        name: What it does.
        family: ``presence``, ``value``, ``structure``, ``isolation`` or ``error``.
        make: Breaks a sound cache.
        causes: What may be named; the first is the name that fits best.
        manager_only: Whether it needs a ``KVCacheManager``.
        declared: Whether it also changes what the cache declares, so that nobody can tell if both sides have it.
    """

    name: str
    family: str
    make: Make
    causes: tuple[Cause, ...]
    manager_only: bool = False
    declared: bool = False


FAULTS = (
    Fault("every seventh new key is not stored", "presence", SetIgnored, (Cause.SET_IGNORED,)),
    Fault("a re-set is ignored", "presence", ResetIgnored, (Cause.RESET_IGNORED,)),
    Fault("every ninth get misses", "presence", TransientMiss, (Cause.MISSED,)),
    Fault("a miss is answered with something", "presence", Phantom, (Cause.PHANTOM,)),
    Fault("pools hold one entry less", "presence", resized(-1), (Cause.CAPACITY_OFF,), True, True),
    Fault("pools hold one entry more", "presence", resized(1), (Cause.CAPACITY_OFF,), True, True),
    Fault("the youngest is evicted", "presence", evicting(lambda keys, _: keys[-1]), (Cause.WRONG_EVICTION,), True),
    Fault("the second oldest is evicted", "presence", evicting(lambda keys, _: keys[1]), (Cause.WRONG_EVICTION,), True),
    Fault(
        "a random one is evicted",
        "presence",
        evicting(lambda keys, draw: draw.choice(keys)),
        (Cause.WRONG_EVICTION,),
        True,
    ),
    Fault("the least recently used is evicted", "presence", recency, (Cause.WRONG_EVICTION,), True),
    Fault("hierarchical asks recur first", "presence", RecurFirst, (Cause.WRONG_POOL_ORDER,)),
    Fault("hierarchical never asks recur", "presence", RecurNever, (Cause.WRONG_POOL_ORDER,)),
    Fault("hierarchical never asks init", "presence", InitNever, (Cause.WRONG_POOL_ORDER,)),
    Fault("the recurrent clear does nothing", "presence", RecurKept, (Cause.CLEAR_FORGOTTEN,)),
    Fault("the clear of one env does nothing", "presence", EnvKept, (Cause.CLEAR_FORGOTTEN,)),
    Fault("clear_all forgets recur", "presence", AllKeepsRecur, (Cause.CLEAR_FORGOTTEN,)),
    Fault("clear_all forgets init", "presence", AllKeepsInit, (Cause.CLEAR_FORGOTTEN,)),
    Fault("the clear of one env clears all", "presence", EnvClearTooWide, (Cause.CLEAR_TOO_WIDE,)),
    Fault("the recurrent clear clears init too", "presence", RecurClearTooWide, (Cause.CLEAR_TOO_WIDE,)),
    Fault("only 32 bits of a key count", "value", KeyTruncated, (Cause.OTHER_KEY,)),
    Fault("another key's entry is answered", "value", NeighbourAnswered, (Cause.OTHER_KEY,)),
    Fault("a set overwrites another key too", "value", SlotsCollide, (Cause.OTHER_KEY,), True),
    Fault("a key that comes back holds its old entry", "value", StaleVersion, (Cause.STALE_VERSION,)),
    Fault("lookups of the last env go to env 0", "value", EnvMixed, (Cause.OTHER_ENV, Cause.MISSED)),
    Fault("all envs share one pool", "value", EnvsShared, (Cause.OTHER_ENV,)),
    Fault("keys and values swapped", "value", storing(_swap_kv), (Cause.LAYER_MIXED,)),
    Fault("V of one layer stored from K", "value", storing(_v_from_k), (Cause.LAYER_MIXED,)),
    Fault("layers reversed", "value", answering(_reverse_layers), (Cause.LAYER_MIXED,)),
    Fault("tokens reversed", "value", storing(lambda e: _each(e, lambda r: r.flip(2))), (Cause.TOKENS_PERMUTED,)),
    Fault("heads swapped", "value", storing(lambda e: _each(e, lambda r: r.flip(1))), (Cause.TOKENS_PERMUTED,)),
    Fault("samples swapped", "value", answering(lambda e: _each(e, lambda r: r.flip(0))), (Cause.TOKENS_PERMUTED,)),
    Fault("rounded through bfloat16", "value", storing(_through(torch.bfloat16)), (Cause.ROUNDING,)),
    Fault("rounded through float16", "value", answering(_through(torch.float16)), (Cause.ROUNDING,)),
    Fault("one bit flipped", "value", storing(_flip_one_bit), (Cause.CORRUPTED,)),
    Fault("the last token is not copied", "value", storing(_last_token_lost), (Cause.PARTIAL_COPY,)),
    Fault("only the first layer is copied", "value", FirstLayerOnly, (Cause.PARTIAL_COPY,)),
    Fault("NaN becomes 0", "value", storing(lambda e: _each(e, lambda r: r.nan_to_num(0.0))), (Cause.CORRUPTED,)),
    Fault(
        "negative zero becomes zero",
        "value",
        storing(lambda e: _each(e, lambda r: r + 0.0)),
        (Cause.CORRUPTED,),
    ),
    Fault("values scaled", "value", answering(lambda e: _each(e, lambda r: r * 1.5)), (Cause.CORRUPTED,)),
    Fault("one token cut off", "structure", storing(_lengths(-1)), (Cause.LENGTH_OFF,)),
    Fault("one token added", "structure", answering(_lengths(1)), (Cause.LENGTH_OFF,)),
    Fault("V one token short", "structure", storing(_lengths(-1, "v")), (Cause.LENGTH_OFF,)),
    Fault("dtype changed", "structure", answering(_as_double), (Cause.DTYPE_DRIFT,)),
    Fault("buffers trimmed to what is valid", "structure", answering(_trim), (Cause.SHAPE_OFF,)),
    Fault("a layer dropped", "structure", answering(_drop_layer), (Cause.SHAPE_OFF,)),
    Fault("answers text", "structure", answering(lambda e: "entry"), (Cause.SHAPE_OFF,)),
    Fault("stores a reference", "isolation", ByReference, (Cause.ALIASED_ON_SET,), True),
    Fault("copies containers, shares tensors", "isolation", ShallowCopy, (Cause.ALIASED_ON_SET,), True),
    Fault("copies V, shares K", "isolation", KeysShared, (Cause.ALIASED_ON_SET,), True),
    Fault("edits its input", "isolation", InputEdited, (Cause.INPUT_EDITED,)),
    Fault("answers one scratch object", "isolation", ScratchAnswered, (Cause.ALIASED_ON_GET,), True),
    Fault("hands out slots that it reuses", "isolation", LiveSlotAnswered, (Cause.ALIASED_ON_GET,), True),
    Fault("an entry nobody reads decays", "isolation", Decay, (Cause.CORRUPTED,)),
    Fault("draws from torch's generator", "isolation", meddling(lambda: torch.rand(1)), (Cause.MEDDLED,)),
    Fault("draws from python's generator", "isolation", meddling(random.random), (Cause.MEDDLED,)),
    Fault("draws from numpy's generator", "isolation", meddling(np.random.random), (Cause.MEDDLED,)),
    Fault("switches grad mode off", "isolation", meddling(lambda: torch.set_grad_enabled(False)), (Cause.MEDDLED,)),
    Fault("raises on every set", "error", raising("store"), (Cause.RAISED,)),
    Fault("raises on every get", "error", raising("answer"), (Cause.RAISED,)),
    Fault("raises on a recurrent clear", "error", raising("clear_recur_cache"), (Cause.RAISED,)),
    Fault("raises now and then on set", "error", raising("store", 13), (Cause.RAISED,)),
)

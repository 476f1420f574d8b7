"""Caches with faults that the self-test does not plant, and the causes that name them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from reports.record.words import Cause
from shadow.entry import KeysValues, leaves
from shadow.legacy import LegacyKVCache, RingPool
from shadow.manager import KVCacheManager
from shadow.pool import KVCachePool
from tests.validator.trials import CONFIG, ENVS, DictCache, declared, manager
from validator.proof.stream import Terrain

TERRAIN = Terrain(ENVS, declared().capacities)
ONE_LAYOUT = Terrain(ENVS, declared().capacities, one_layout=True)


class Dict(DictCache):
    """A dict cache that declares what it promises."""

    def policy(self) -> Any:
        return declared()


# Which keys are alive


class EvictsByKey(Dict):
    def _evict(self, pool: dict[int, Any]) -> None:
        del pool[max(pool)]


class ResetRefreshesAge(Dict):
    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        self._pool(*place).pop(key, None)
        return super()._set(place, key, kv_cache)


class EvictsOnUpdate(Dict):
    """Makes room before it looks whether the key is there already."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        pool = self._pool(*place)
        if len(pool) >= self.sizes[place[0]]:
            self._evict(pool)
        pool[key] = self._store(kv_cache)
        return 0


class EvictsTwo(Dict):
    def _evict(self, pool: dict[int, Any]) -> None:
        for key in list(pool)[:2]:
            del pool[key]


class ClearsWhenFull(Dict):
    def _evict(self, pool: dict[int, Any]) -> None:
        pool.clear()


class NeverEvicts(Dict):
    def _evict(self, pool: dict[int, Any]) -> None:
        return


class RefusesWhenFull(Dict):
    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        pool = self._pool(*place)
        if key not in pool and len(pool) >= self.sizes[place[0]]:
            return -1
        return super()._set(place, key, kv_cache)


class PopsOnGet(Dict):
    """A get takes the entry out."""

    def _get(self, place: Any, key: int) -> Any:
        return self._pool(*place).pop(key, None)


class OneInitPool(Dict):
    """Capacity is counted over all envs."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        if place[0] == "init":
            others = [p for p in self.pools if p[0] == "init"]
            if sum(len(self.pools[p]) for p in others) >= self.sizes["init"]:
                for p in others:
                    if self.pools[p]:
                        self._evict(self.pools[p])
                        break
        return super()._set(place, key, kv_cache)


class SetsBoth(Dict):
    """A root is written through to the recurrent pool."""

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        super().set_recur_cache(cache_key, kv_cache)
        return super().set_init_cache(env_id, cache_key, kv_cache)


class PromotesOnHit(Dict):
    """A hierarchical hit in recur is moved to init."""

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        found = super().hierarchical_get(env_id, cache_key)
        if found is not None and cache_key in self._pool("recur"):
            self._set(("init", env_id), cache_key, found)
        return found


class WmNeverCleared(Dict):
    def clear_all(self) -> None:
        self.clear_init_caches()
        self.clear_recur_cache()


class ClearsFirstEnvOnly(Dict):
    def clear_init_caches(self) -> None:
        self.clear_init_cache(0)


class ClearsWrongEnv(Dict):
    def clear_init_cache(self, env_id: int) -> None:
        super().clear_init_cache((env_id + 1) % ENVS)


class ClearsLazily(Dict):
    """A clear takes effect at the next set."""

    pending = False

    def clear_recur_cache(self) -> None:
        self.pending = True

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        if self.pending:
            self.pending = False
            super().clear_recur_cache()
        return super().set_recur_cache(cache_key, kv_cache)


class KeysAsFloats(Dict):
    """Keys lose their low bits in a float."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        return super()._set(place, hash(float(key >> 41)), kv_cache)

    def _get(self, place: Any, key: int) -> Any:
        return super()._get(place, hash(float(key >> 41)))


class KeysModulo(Dict):
    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        return super()._set(place, key % 3, kv_cache)

    def _get(self, place: Any, key: int) -> Any:
        return super()._get(place, key % 3)


class RecurPerEnvZero(Dict):
    """Recurrent entries share the pool of env 0's roots."""

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        return self._set(("init", 0), cache_key, kv_cache)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self._get(("init", 0), cache_key)


class ExpiresByCount(Dict):
    """An entry is answered three times at most."""

    def __init__(self) -> None:
        super().__init__()
        self.served: dict[Any, int] = {}

    def _get(self, place: Any, key: int) -> Any:
        found = super()._get(place, key)
        if found is not None:
            self.served[(place, key)] = self.served.get((place, key), 0) + 1
            if self.served[(place, key)] > 3:
                return None
        return found


class LeavesZeros(Dict):
    """A clear zeroes the entries and keeps them."""

    def clear_recur_cache(self) -> None:
        for own in self._pool("recur").values():
            for leaf in leaves(own):
                leaf.tensor.zero_()


class DropsAfterAnswer(Dict):
    """Every twelfth answer is the last of its entry."""

    answers = 0

    def _get(self, place: Any, key: int) -> Any:
        found = super()._get(place, key)
        self.answers += found is not None
        if found is not None and self.answers % 12 == 0:
            del self._pool(*place)[key]
        return found


class ClearsTheNextEnvToo(Dict):
    def clear_init_cache(self, env_id: int) -> None:
        for each in (env_id, (env_id + 1) % ENVS):
            super().clear_init_cache(each)


class RecurIsWm(Dict):
    """One dict behind two pools."""

    def _pool(self, *place: Any) -> dict[int, KeysValues]:
        return super()._pool("recur") if place == ("wm",) else super()._pool(*place)


# Which value a key answers


def alike(one: Any, other: Any) -> bool:
    """Tell whether two entries are of one structure and long enough to be mixed."""
    pairs = list(zip(leaves(one), leaves(other), strict=True))
    return all(a.tensor.shape == b.tensor.shape and a.size == b.size > 3 for a, b in pairs)


class HalfOfAnother(Dict):
    """The first tokens are those of another entry of the pool."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        slot = super()._set(place, key, kv_cache)
        pool = self._pool(*place)
        for each, other in pool.items():
            if each != key and alike(pool[key], other):
                for own, theirs in zip(leaves(pool[key]), leaves(other), strict=True):
                    own.tensor[:, :, : own.size // 2] = theirs.tensor[:, :, : own.size // 2]
                break
        return slot


class LayerOfBefore(Dict):
    """A re-set copies the first layer only."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        before = self._pool(*place).get(key)
        slot = super()._set(place, key, kv_cache)
        own = self._pool(*place)[key]
        if before is not None and alike(own, before):
            own._keys_values = (own[0], before[1])
        return slot


class HeadSwapsKV(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for layer in own:
            k, v = layer._k_cache, layer._v_cache
            if k._size == v._size:
                swapped = v._cache[:, 0].clone()
                v._cache[:, 0] = k._cache[:, 0]
                k._cache[:, 0] = swapped
        return own


class LayerNeverCopied(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for cache in (own[1]._k_cache, own[1]._v_cache):
            cache._cache.zero_()
        return own


class FirstWriteWins(Dict):
    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        return 0 if key in self._pool(*place) else super()._set(place, key, kv_cache)


class MemoByShape(Dict):
    """Entries of one length are stored once."""

    def __init__(self) -> None:
        super().__init__()
        self.memo: dict[Any, Any] = {}

    def _store(self, kv_cache: Any) -> Any:
        shape = tuple((leaf.tensor.shape, leaf.tensor.dtype, leaf.size) for leaf in leaves(kv_cache))
        return self.memo.setdefault(shape, kv_cache.clone())


class OneBehind(Dict):
    """A set stores what the set before was given."""

    last: Any = None

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        before, self.last = self.last, own
        return own if before is None else before.clone()


class Averages(Dict):
    """A re-set stores the mean of old and new."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        old = self._pool(*place).get(key)
        super()._set(place, key, kv_cache)
        new = self._pool(*place)[key]
        if old is not None and new.fits(leaves(old)):
            for mine, theirs in zip(leaves(new), leaves(old), strict=True):
                n = min(mine.size, theirs.size)
                mine.tensor[:, :, :n] = (mine.tensor[:, :, :n] + theirs.tensor[:, :, :n]) / 2
        return 0


class LayersShareKeys(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        own[1]._k_cache._cache.copy_(own[0]._k_cache._cache)
        return own


class BatchRowLost(Dict):
    """Only the first sample of a batch is kept, and shown for all."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for leaf in leaves(own):
            leaf.tensor[1:] = leaf.tensor[:1]
        return own


class HeadZeroed(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        own[0]._k_cache._cache[:, 1] = 0
        return own


class LastChannelLost(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for leaf in leaves(own):
            leaf.tensor[..., -1] = 0
        return own


class TokensRolled(Dict):
    """Stores as a ring whose start is forgotten."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for tensor, size in leaves(own):
            tensor[:, :, :size] = tensor[:, :, :size].roll(1, dims=2)
        return own


class MeanRemoved(Dict):
    def _answer(self, held: Any) -> Any:
        own = held.clone()
        for tensor, size in leaves(own):
            if size:
                tensor[:, :, :size] -= tensor[:, :, :size].mean()
        return own


class Int8Quantised(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for tensor, size in leaves(own):
            region = tensor[:, :, :size]
            if region.numel():
                scale = region.abs().max() / 127 + 1e-30
                region.copy_((region / scale).round() * scale)
        return own


class StoresHalf(Dict):
    """Stores and answers float16."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for layer in own:
            for cache in (layer._k_cache, layer._v_cache):
                cache._cache = cache._cache.half()
        return own


class BatchFirstOnly(Dict):
    def _answer(self, held: Any) -> Any:
        own = held.clone()
        for layer in own:
            for cache in (layer._k_cache, layer._v_cache):
                cache._cache = cache._cache[:1]
        return own


class LengthsOfLayerZero(Dict):
    """Trusts the container's size for every tensor."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for layer in own:
            for cache in (layer._k_cache, layer._v_cache):
                cache._size = own.size
        return own


class PaddedLength(Dict):
    """Answers whole buffers as if all of it were valid."""

    def _answer(self, held: Any) -> Any:
        own = held.clone()
        for layer in own:
            for cache in (layer._k_cache, layer._v_cache):
                cache._size = cache._max_tokens
        return own


class TwoLayersOnly(Dict):
    def _answer(self, held: Any) -> Any:
        return KeysValues.from_layers([*held.clone(), held.clone()[0]])


class AnswersTuple(Dict):
    def _answer(self, held: Any) -> Any:
        return [(layer._k_cache.get(), layer._v_cache.get()) for layer in held]


class Flaky(Dict):
    """Raises now and then, by a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = random.Random(1)

    def _get(self, place: Any, key: int) -> Any:
        if self.draw.random() < 0.05:
            raise TimeoutError("no answer")
        return super()._get(place, key)


# Whose memory it is


class AnswersLive(Dict):
    """Answers what it stores, and stores in place: what was handed out changes with the next set of the key."""

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        old = self._pool(*place).get(key)
        if old is not None and old.fits(leaves(kv_cache)):
            old.copy_from(leaves(kv_cache))
            return 0
        return super()._set(place, key, kv_cache)

    def _answer(self, held: Any) -> Any:
        return held


class ViewOfInput(Dict):
    """Keeps detached views of the input."""

    def _store(self, kv_cache: Any) -> Any:
        own = copy.copy(kv_cache)
        own._keys_values = tuple(copy.copy(layer) for layer in kv_cache._keys_values)
        for layer in own._keys_values:
            layer._k_cache, layer._v_cache = copy.copy(layer._k_cache), copy.copy(layer._v_cache)
            for cache in (layer._k_cache, layer._v_cache):
                cache._cache = cache._cache.detach()[:]
        return own

    def _answer(self, held: Any) -> Any:
        return held


class TakesInputAway(Dict):
    """Moves the tensors out of the entry it is given."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        for layer in kv_cache:
            layer._k_cache._cache = torch.zeros_like(layer._k_cache._cache)
        return own


class ResetsInput(Dict):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        kv_cache.reset()
        return own


class SeedsTorch(Dict):
    def _store(self, kv_cache: Any) -> Any:
        torch.manual_seed(0)
        return super()._store(kv_cache)


class EntersInference(Dict):
    def _get(self, place: Any, key: int) -> Any:
        torch.set_grad_enabled(not torch.is_grad_enabled())
        return super()._get(place, key)


# Variants of the shipped caches


class IndexReused(KVCacheManager):
    """A pool whose free list hands one slot out twice."""

    def clear_recur_cache(self) -> None:
        super().clear_recur_cache()
        self.recur_pool._free = [0] * self.recur_pool.pool_size


def pools_of(cache: Any) -> list[Any]:
    return [*cache.init_pools, cache.recur_pool]


def with_pools(change: Callable[[KVCachePool], None]) -> Callable[[], KVCacheManager]:
    def make() -> KVCacheManager:
        made = manager()
        for pool in pools_of(made):
            change(pool)
        return made

    return make


def write_ignored(pool: KVCachePool) -> None:
    """A re-set updates lengths only."""
    store = pool.set

    def partial(key: int, kv_cache: Any, priority: float | None = None) -> int:
        held = pool.peek(key)
        source = leaves(kv_cache)
        if held is None or not held.fits(source):
            return store(key, kv_cache, priority)
        for layer, k, v in zip(held, source[::2], source[1::2], strict=True):
            layer._k_cache._size, layer._v_cache._size = k.size, v.size
        return 0

    pool.set = partial  # type: ignore[method-assign]


def peek_as_get(pool: KVCachePool) -> None:
    pool.get = pool.peek  # type: ignore[method-assign]


def misses_falsy_key(pool: KVCachePool) -> None:
    """A slot number 0 is taken for a miss."""
    get = pool.get
    pool.get = lambda key: get(key) if pool._key_to_index.get(key) else None  # type: ignore[method-assign]


def lifo(pool: KVCachePool) -> None:
    pool._next_victim = lambda: next(reversed(pool._key_to_index))  # type: ignore[method-assign]


class SharedPools(KVCacheManager):
    """The init pools of all envs are one object."""

    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        self.init_pools = [self.init_pools[0]] * env_num


class ReverseMapCleared(LegacyKVCache):
    """The legacy store, mended in one place: not what a legacy ring declares."""

    def clear_recur_cache(self) -> None:
        self.recur_pool.clear()
        self.recur_pool.slot_to_key = [None] * self.recur_pool.capacity

    def clear_init_cache(self, env_id: int) -> None:
        self.init_pools[env_id].clear()
        self.init_pools[env_id].slot_to_key = [None] * self.init_pools[env_id].capacity

    def clear_all(self) -> None:
        super().clear_all()
        for pool in pools_of(self):
            pool.slot_to_key = [None] * pool.capacity


class NoReverseMap(LegacyKVCache):
    """LightZero 0.2.0: the dict outlives the ring."""

    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        for pool in pools_of(self):
            pool.slot_to_key = Forgetful(pool.capacity)


class Forgetful(list[Any]):
    def __init__(self, capacity: int) -> None:
        super().__init__([None] * capacity)

    def __setitem__(self, index: Any, value: Any) -> None:
        return


class ResetsWriteIndex(LegacyKVCache):
    """A ring whose clear also starts over at slot 0."""

    def clear_recur_cache(self) -> None:
        super().clear_recur_cache()
        self.recur_pool.write_index = 0


class SetInPlaceRing(RingPool):
    """A ring that updates a key in its slot."""

    def set(self, cache_key: int, kv_cache: Any) -> int:
        at = self.key_to_slot.get(cache_key)
        if at is None:
            return super().set(cache_key, kv_cache)
        keep, self.write_index = self.write_index, at
        super().set(cache_key, kv_cache)
        self.write_index = keep
        return at


class HalfMendedLegacy(LegacyKVCache):
    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        self.recur_pool = SetInPlaceRing(self.capacities.recur)


@dataclass(frozen=True)
class Case:
    """A faulty cache, the causes that fit, and whether it can stand against a manager or needs a legacy store."""

    make: Callable[[], Any]
    causes: tuple[Cause, ...]
    name: str = ""
    legacy: bool = False
    terrain: Terrain = field(default=TERRAIN)


ALIVE = (Cause.WRONG_EVICTION, Cause.CAPACITY_OFF)
SMALL = (CONFIG, ENVS)
CASES = {
    "evicts the greatest key": Case(EvictsByKey, ALIVE),
    "a re-set refreshes the age": Case(ResetRefreshesAge, ALIVE),
    "evicts before it looks": Case(EvictsOnUpdate, ALIVE),
    "evicts two at a time": Case(EvictsTwo, ALIVE),
    "clears itself when full": Case(ClearsWhenFull, ALIVE),
    "never evicts": Case(NeverEvicts, ALIVE),
    "refuses new keys when full": Case(RefusesWhenFull, (Cause.SET_IGNORED,)),
    "a get takes the entry out": Case(PopsOnGet, (Cause.SET_IGNORED, Cause.MISSED, *ALIVE)),
    "capacity is counted over all envs": Case(OneInitPool, (*ALIVE, Cause.SET_IGNORED)),
    "a root is written through": Case(SetsBoth, (Cause.WRONG_POOL_ORDER, Cause.OTHER_ENV, *ALIVE)),
    "a hit is promoted": Case(PromotesOnHit, (Cause.WRONG_POOL_ORDER, Cause.PHANTOM, *ALIVE)),
    "a clear leaves zeros": Case(LeavesZeros, (Cause.CLEAR_FORGOTTEN,)),
    "an answer is the last one": Case(DropsAfterAnswer, (Cause.WRONG_EVICTION,)),
    "the next env is cleared too": Case(ClearsTheNextEnvToo, (Cause.CLEAR_TOO_WIDE,)),
    "recur and wm are one dict": Case(RecurIsWm, (Cause.ONE_STORE,)),
    "wm is never cleared": Case(WmNeverCleared, (Cause.CLEAR_FORGOTTEN,)),
    "only the first env is cleared": Case(ClearsFirstEnvOnly, (Cause.CLEAR_FORGOTTEN,)),
    "another env is cleared": Case(ClearsWrongEnv, (Cause.CLEAR_FORGOTTEN, Cause.CLEAR_TOO_WIDE)),
    "a clear comes late": Case(ClearsLazily, (Cause.CLEAR_FORGOTTEN,)),
    "keys as floats": Case(KeysAsFloats, (Cause.OTHER_KEY,)),
    "keys modulo": Case(KeysModulo, (Cause.OTHER_KEY,)),
    "recur shares env 0's pool": Case(RecurPerEnvZero, (Cause.ONE_STORE,)),
    "an entry expires": Case(ExpiresByCount, (Cause.MISSED, Cause.WRONG_EVICTION)),
    "the first write wins": Case(FirstWriteWins, (Cause.RESET_IGNORED,)),
    "equal shapes are equal entries": Case(MemoByShape, (Cause.OTHER_KEY, Cause.STALE_VERSION, Cause.RESET_IGNORED)),
    "one behind": Case(OneBehind, (Cause.OTHER_KEY, Cause.RESET_IGNORED, Cause.STALE_VERSION)),
    "a re-set averages": Case(Averages, (Cause.CORRUPTED,)),
    "half of another entry": Case(HalfOfAnother, (Cause.OTHER_KEY,), terrain=ONE_LAYOUT),
    "a layer of the version before": Case(LayerOfBefore, (Cause.PARTIAL_COPY,), terrain=ONE_LAYOUT),
    "one head swaps K and V": Case(HeadSwapsKV, (Cause.LAYER_MIXED,)),
    "a layer is never copied": Case(LayerNeverCopied, (Cause.PARTIAL_COPY,)),
    "layers share keys": Case(LayersShareKeys, (Cause.LAYER_MIXED,)),
    "one sample for all": Case(BatchRowLost, (Cause.TOKENS_PERMUTED,)),
    "a head is zeroed": Case(HeadZeroed, (Cause.CORRUPTED, Cause.PARTIAL_COPY)),
    "the last channel is lost": Case(LastChannelLost, (Cause.CORRUPTED, Cause.PARTIAL_COPY)),
    "tokens are rolled": Case(TokensRolled, (Cause.TOKENS_PERMUTED,)),
    "the mean is removed": Case(MeanRemoved, (Cause.CORRUPTED,)),
    "quantised to int8": Case(Int8Quantised, (Cause.ROUNDING, Cause.CORRUPTED)),
    "stores float16": Case(StoresHalf, (Cause.DTYPE_DRIFT,)),
    "only the first sample is answered": Case(BatchFirstOnly, (Cause.SHAPE_OFF,)),
    "lengths of layer 0": Case(LengthsOfLayerZero, (Cause.LENGTH_OFF,)),
    "whole buffers are valid": Case(PaddedLength, (Cause.LENGTH_OFF,)),
    "a layer more": Case(TwoLayersOnly, (Cause.SHAPE_OFF,)),
    "answers a list": Case(AnswersTuple, (Cause.SHAPE_OFF,)),
    "flaky": Case(Flaky, (Cause.RAISED,)),
    "answers live, stores in place": Case(AnswersLive, (Cause.ALIASED_ON_GET,), terrain=ONE_LAYOUT),
    "keeps views of its input": Case(ViewOfInput, (Cause.ALIASED_ON_SET,)),
    "takes its input away": Case(TakesInputAway, (Cause.INPUT_EDITED,)),
    "resets its input": Case(ResetsInput, (Cause.INPUT_EDITED,)),
    "seeds torch": Case(SeedsTorch, (Cause.MEDDLED,)),
    "flips grad mode": Case(EntersInference, (Cause.MEDDLED,)),
    "one slot is handed out twice": Case(lambda: IndexReused(*SMALL), (Cause.OTHER_KEY, Cause.SHARED_SLOT)),
    "a re-set updates lengths only": Case(
        with_pools(write_ignored),
        (Cause.RESET_IGNORED, Cause.CORRUPTED, Cause.LENGTH_OFF, Cause.PARTIAL_COPY, Cause.OTHER_KEY),
    ),
    "get answers the slot": Case(with_pools(peek_as_get), (Cause.ALIASED_ON_GET,), terrain=ONE_LAYOUT),
    "slot 0 is a miss": Case(with_pools(misses_falsy_key), (Cause.MISSED, Cause.WRONG_POOL_ORDER)),
    "last in, first out": Case(with_pools(lifo), (Cause.WRONG_EVICTION,)),
    "env pools are one object": Case(lambda: SharedPools(*SMALL), (Cause.ONE_STORE, Cause.OTHER_ENV)),
    "the reverse map is cleared": Case(
        lambda: ReverseMapCleared(*SMALL), (Cause.PHANTOM, Cause.WRONG_EVICTION, Cause.CAPACITY_OFF), legacy=True
    ),
    "no reverse map": Case(
        lambda: NoReverseMap(*SMALL), (Cause.OTHER_KEY, Cause.CAPACITY_OFF, Cause.WRONG_EVICTION), legacy=True
    ),
    "a clear starts the ring over": Case(
        lambda: ResetsWriteIndex(*SMALL), (Cause.WRONG_EVICTION, Cause.OTHER_KEY), legacy=True
    ),
    "a ring that updates in place": Case(
        lambda: HalfMendedLegacy(*SMALL), (Cause.WRONG_EVICTION, Cause.CAPACITY_OFF), legacy=True
    ),
}

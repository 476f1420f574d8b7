"""Short trials for tests: small caches, entries by number, and what was charged."""

from __future__ import annotations

from typing import Any

from reports.record.words import Cause, Fault
from shadow.entry import KeysValues, leaves
from shadow.interface import CacheCapacities, CachePolicy
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from tests.shadow.entries import make_entry
from validator.config import ValidationConfig
from validator.judge.ledger import Charge
from validator.proof.trial import Trial

ENVS = 2
CONFIG = {"num_simulations": 2, "max_cache_size": 4}  # init 4 per env, recur 4, wm 2


def config(capacity: int, **more: Any) -> dict[str, Any]:
    """A config whose init pools hold so many entries."""
    return {"num_simulations": 4, "max_cache_size": capacity, **more}


def manager(cfg: dict[str, Any] | None = None, envs: int = ENVS) -> KVCacheManager:
    return KVCacheManager(cfg or CONFIG, envs)


def legacy(cfg: dict[str, Any] | None = None, envs: int = ENVS) -> LegacyKVCache:
    return LegacyKVCache(cfg or CONFIG, envs)


def trial(control: Any, candidate: Any, primary: str = "control", **settings: Any) -> Trial:
    return Trial(control, candidate, primary, ValidationConfig(**{"overhead_budget": 0.0, **settings}))


def entry(number: float, **shape: Any) -> KeysValues:
    return make_entry(number, **shape)


def charged(run: Trial) -> list[tuple[Cause, Fault]]:
    """Cause and side of every charge; the harness itself must not have failed."""
    assert run.failures == [], run.failures
    return [(charge.cause, charge.fault) for charge in run.divergences]


def only(run: Trial) -> Charge:
    """The one charge there is."""
    assert run.failures == [], run.failures
    assert len(run.divergences) == 1, [charge.explanation for charge in run.divergences]
    return run.divergences[0]


def counted(run: Trial) -> int:
    """Divergences counted, repeats included."""
    return sum(run.pair.case.counters.divergences.values())


class DictCache:
    """A sound cache written by somebody else: dicts of clones, FIFO, no peek, no live_keys, no config."""

    def __init__(self, init: int = 4, recur: int = 4, wm: int = 2, envs: int = ENVS) -> None:
        self.envs = envs
        self.sizes = {"init": init, "recur": recur, "wm": wm}
        self.pools: dict[tuple[Any, ...], dict[int, KeysValues]] = {}

    def _pool(self, *place: Any) -> dict[int, KeysValues]:
        return self.pools.setdefault(place, {})

    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        pool = self._pool(*place)
        if key not in pool and len(pool) >= self.sizes[place[0]]:
            self._evict(pool)
        pool[key] = self._store(kv_cache)
        return 0

    def _evict(self, pool: dict[int, KeysValues]) -> None:
        del pool[next(iter(pool))]

    def _store(self, kv_cache: Any) -> Any:
        return kv_cache.clone()

    def _answer(self, held: Any) -> Any:
        return held.clone()

    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        held = self._pool(*place).get(key)
        return None if held is None else self._answer(held)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        if not 0 <= env_id < self.envs:
            raise IndexError(env_id)
        return self._set(("init", env_id), cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        return self._set(("recur",), cache_key, kv_cache)

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> int:
        return self._set(("wm",), cache_key, kv_cache)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        if not 0 <= env_id < self.envs:
            raise IndexError(env_id)
        return self._get(("init", env_id), cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self._get(("recur",), cache_key)

    def get_wm_cache(self, cache_key: int) -> Any:
        return self._get(("wm",), cache_key)

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        found = self.get_init_cache(env_id, cache_key)
        return self.get_recur_cache(cache_key) if found is None else found

    def clear_all(self) -> None:
        self.pools.clear()

    def clear_init_caches(self) -> None:
        for place in [place for place in self.pools if place[0] == "init"]:
            del self.pools[place]

    def clear_init_cache(self, env_id: int) -> None:
        self.pools.pop(("init", env_id), None)

    def clear_recur_cache(self) -> None:
        self.pools.pop(("recur",), None)

    def get_stats_summary(self) -> dict[str, Any]:
        return {}

    def reset_stats(self) -> None:
        return

    def policy(self) -> Any:
        return declared(**self.sizes)


class Undeclared(DictCache):
    """The same, of which nobody is told whom it evicts, and how much it may hold."""

    policy: Any = None


def declared(kind: Any = "fifo", init: int = 4, recur: int = 4, wm: int = 2, **more: Any) -> CachePolicy:
    return CachePolicy(kind, CacheCapacities(init, recur, wm), **more)


class Open(DictCache):
    """A dict cache that lets itself be looked into."""

    def policy(self) -> Any:
        return declared()

    def live_keys(self, pool: str, env_id: int | None = None) -> list[int]:
        return list(self._pool(*((pool,) if env_id is None else (pool, env_id))))

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        return self._pool(*((pool,) if env_id is None else (pool, env_id))).get(cache_key)


def damage(held: Any) -> None:
    for leaf in leaves(held):
        leaf.tensor.add_(0.5)

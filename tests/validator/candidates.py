"""Candidates by name, as ``--candidate module:Class`` takes them: each behaves badly in its own way."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import torch

from shadow.entry import leaves
from shadow.manager import KVCacheManager

METHODS = (
    *("get_init_cache", "get_recur_cache", "get_wm_cache", "hierarchical_get"),
    *("set_init_cache", "set_recur_cache", "set_wm_cache"),
    *("clear_all", "clear_init_caches", "clear_init_cache", "clear_recur_cache"),
)


class Raises(KVCacheManager):
    """Raises on every call."""


class Exits(KVCacheManager):
    """Ends the process on every call."""


class Garbage(KVCacheManager):
    """Answers something else on every call."""


class Draws(KVCacheManager):
    """Draws from every global generator on every call."""


class Switches(KVCacheManager):
    """Switches grad mode and default dtype on every call."""


def _fail(self: Any, *args: Any) -> Any:
    raise RuntimeError("planted")


def _exit(self: Any, *args: Any) -> Any:
    sys.exit(7)


def _garbage(self: Any, *args: Any) -> Any:
    return {"not": ["an", torch.zeros(3), object()]}


def _through(before: Any, method: str) -> Any:
    def call(self: Any, *args: Any) -> Any:
        before()
        return getattr(KVCacheManager, method)(self, *args)

    return call


def _draw() -> None:
    torch.rand(2)
    random.random()
    np.random.rand(2)


def _switch() -> None:
    torch.set_grad_enabled(not torch.is_grad_enabled())
    torch.set_default_dtype(torch.float64)


for _method in METHODS:
    setattr(Raises, _method, _fail)
    setattr(Exits, _method, _exit)
    setattr(Garbage, _method, _garbage)
    setattr(Draws, _method, _through(_draw, _method))
    setattr(Switches, _method, _through(_switch, _method))


class EditsInput(KVCacheManager):
    """Fills what it was given to store, and what it answered before."""

    answered: Any = None

    def _spoil(self, entry: Any) -> None:
        for leaf in leaves(entry):
            leaf.tensor.data.fill_(float("nan"))

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        slot = super().set_init_cache(env_id, cache_key, kv_cache)
        self._spoil(kv_cache)
        return slot

    def set_recur_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        slot = super().set_recur_cache(cache_key, kv_cache)
        self._spoil(kv_cache)
        return slot


class WrongAtFifty(KVCacheManager):
    """Answers one wrong value at its fiftieth hit."""

    hits = 0

    def get_recur_cache(self, cache_key: int) -> Any:
        return self._once(super().get_recur_cache(cache_key))

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return self._once(super().hierarchical_get(env_id, cache_key))

    def _once(self, found: Any) -> Any:
        if found is not None:
            self.hits += 1
            if self.hits == 50:
                leaves(found)[0].tensor[0, 0, 0, 0] += 1
        return found


class Forgets(KVCacheManager):
    """Holds no node of a search, so that each is stepped from its latent alone."""

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        """Answer nothing."""
        return None

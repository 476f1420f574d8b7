"""The new store against the old one, and the comparison against what the machine can read, at production sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from shadow.entry import KeysValues, leaves
from shadow.legacy import LegacyKVCache
from shadow.located import region
from shadow.manager import KVCacheManager
from validator.bench.clock import Spread, interleaved, ratio
from validator.entries.compare import agreement, differences

# Layers, heads, embed_dim and context of LightZero's own configurations.
SIZES = {
    "CartPole": (2, 2, 64, 8),
    "Atari": (2, 8, 768, 8),
    "Atari multi-task": (4, 24, 768, 8),
    "Memory": (4, 4, 256, 162),
}
_CACHES: dict[str, Callable[..., Any]] = {"legacy": LegacyKVCache, "new": KVCacheManager}
_ENVS, _SIMULATIONS = 4, 12
_VERBS = ("set", "get", "get and copy", "hierarchical", "clear")


def entry(size: str, share: float) -> KeysValues:
    """Make an entry of a production size, filled to a share of its context with random values."""
    layers, heads, embed, context = SIZES[size]
    made = KeysValues(1, heads, context, embed, layers)
    generator = torch.Generator().manual_seed(0)
    for layer in made:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache.normal_(generator=generator)
            cache._size = max(1, round(share * context))
    return made


def bench_caches(rounds: int) -> list[dict[str, Any]]:
    """Play a production-shaped stream on both stores, one kind of call at a time.

    Per env step: a root set and got, then per simulation a hierarchical lookup (of which the first finds the root) and
    a recurrent set; a clear of the recurrent pool between. Entries are views into a batch, as a world model hands them.

    Returns:
        One record per size, fill and verb: spread of both, ratio, bytes held, hit rates.
    """
    found = []
    for size in SIZES:
        for share in (0.5, 1.0):
            source = entry(size, share)
            config = {"num_simulations": _SIMULATIONS, "max_cache_size": 64}
            caches = {name: make(config, _ENVS) for name, make in _CACHES.items()}
            times: dict[str, dict[str, list[float]]] = {}
            for verb in _VERBS:
                work = {name: partial(_play, cache, source, verb) for name, cache in caches.items()}
                times[verb] = interleaved(work, rounds)
            held = {name: cache.nbytes for name, cache in caches.items()}
            hits = {name: cache.get_stats_summary()["recur_pool"]["hit_rate"] for name, cache in caches.items()}
            for verb in _VERBS:
                spreads = {name: Spread.of(times[verb][name])._asdict() for name in caches}
                found.append(
                    {"size": size, "fill": share, "verb": verb, **spreads, "ratio": ratio(times[verb], "new", "legacy"),
                     "bytes_held": held, "hit_rate": hits}
                )  # fmt: skip
    return found


def _play(cache: Any, source: KeysValues, verb: str) -> int:
    count = _ENVS * _SIMULATIONS
    if verb == "set":
        for key in range(count):
            cache.set_recur_cache(key, source)
    elif verb == "get":
        for key in range(count):
            cache.get_recur_cache(key)
    elif verb == "get and copy":  # what a caller of the legacy store must do before it changes what it got
        for key in range(count):
            cache.get_recur_cache(key).clone()
    elif verb == "hierarchical":
        for key in range(count):
            cache.hierarchical_get(key % _ENVS, key)
    else:
        cache.clear_recur_cache()
        for key in range(count):  # so that every round clears as much
            cache.recur_pool.set(key, source)
        cache.clear_recur_cache()
        return count
    return count


def bench_comparison(rounds: int) -> list[dict[str, Any]]:
    """Compare two entries of each size by ``memcmp``, harness and ``torch.allclose``; then two that differ all over."""
    found = []
    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    for size in SIZES:
        one = entry(size, 1.0)
        other, unlike = one.clone(), one.clone()
        for leaf in leaves(unlike):
            leaf.tensor.add_(torch.rand_like(leaf.tensor) + 1)
        a, b = region(one), region(other)
        assert a is not None
        assert b is not None
        work = {
            "memcmp": partial(_times, 20, partial(memcmp, a.addresses[0], b.addresses[0], a.layout.nbytes)),
            "equal": partial(_times, 20, partial(_equal, one, other)),
            "allclose": partial(_times, 2, partial(_allclose, one, other)),
            "differing": partial(_times, 1, partial(differences, leaves(one), leaves(unlike))),
        }
        times = interleaved(work, rounds)
        found.append(
            {"size": size, "nbytes": one.nbytes, **{name: Spread.of(times[name])._asdict() for name in work},
             "equal_per_memcmp": ratio(times, "equal", "memcmp"),
             "allclose_per_equal": ratio(times, "allclose", "equal"),
             "differing_per_memcmp": ratio(times, "differing", "memcmp")}
        )  # fmt: skip
    return found


def _times(count: int, call: Callable[[], Any]) -> int:
    for _ in range(count):
        call()
    return count


def _equal(one: KeysValues, other: KeysValues) -> None:
    if agreement(one, other, hashed=False) is None:
        raise AssertionError("equal entries were not found equal; no figure of this benchmark counts")


def _allclose(one: KeysValues, other: KeysValues) -> bool:
    return all(torch.allclose(x.tensor, y.tensor) for x, y in zip(leaves(one), leaves(other), strict=True))

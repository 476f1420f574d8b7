"""Changes of what an entry holds: its values, lengths, layout and layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from shadow.entry import KeysValues, leaves
from validator.proof.faults.acts import acted, contents
from validator.proof.faults.wrapped import Place, Wrapped, copy_of

Change = Callable[[KeysValues], None]


class FirstLayerOnly(Wrapped):
    """Only the first layer is copied; the others keep what the set before left there."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.before: dict[Any, Any] = {}

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        own = copy_of(kv_cache)
        layout = tuple((leaf.tensor.shape, leaf.tensor.dtype, leaf.size) for leaf in leaves(own))
        old = self.before.get(layout)
        self.before[layout] = copy_of(kv_cache)
        if old is not None:
            own._keys_values = (own[0], *old._keys_values[1:])
            acted(contents(own) != contents(kv_cache))
        return super().store(place, method, key, own)


def each(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Change what is valid of every key and value tensor, in place."""

    def changed(entry: KeysValues) -> None:
        for layer in entry:
            for cache in (layer._k_cache, layer._v_cache):
                region = cache._cache[:, :, : cache._size]
                region.copy_(change(region.clone()))

    return changed


def swap_kv(entry: KeysValues) -> None:
    for layer in entry:
        layer._k_cache, layer._v_cache = layer._v_cache, layer._k_cache


def v_from_k(entry: KeysValues) -> None:
    for layer in entry._keys_values[1:2]:
        layer._v_cache._cache.copy_(layer._k_cache._cache)
        layer._v_cache._size = layer._k_cache._size


def reverse_layers(entry: KeysValues) -> None:
    entry._keys_values = tuple(reversed(entry._keys_values))


def lengths(by: int, parts: str = "kv") -> Change:
    def change(entry: KeysValues) -> None:
        for layer in entry:
            for name, cache in (("k", layer._k_cache), ("v", layer._v_cache)):
                if name in parts:
                    cache._size = min(max(0, cache._size + by), cache._max_tokens)

    return change


def through(dtype: torch.dtype) -> Change:
    return each(lambda region: region.to(dtype).to(region.dtype))


def as_double(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache.to(torch.float64 if cache._cache.dtype != torch.float64 else torch.float32)


def flip_one_bit(entry: KeysValues) -> None:
    cache = entry[0]._k_cache
    if cache._size:
        width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[cache._cache.element_size()]
        cache._cache[0, 0, 0].view(width)[0] ^= 1


def last_token_lost(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            if cache._size:
                cache._cache[:, :, cache._size - 1].fill_(0.125)


def trim(entry: KeysValues) -> None:
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache[:, :, : cache._size].clone()


def drop_layer(entry: KeysValues) -> None:
    entry._keys_values = entry._keys_values[:1]

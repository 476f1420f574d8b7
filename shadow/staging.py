"""Copies of what a host stores, so that the second side never touches the host's own tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch

from shadow.entry import Leaf, leaves


class Staging:
    """Hands out private copies of entries, one reused object per layout.

    The copy is of the host's own class and of the same shapes, dtypes, devices and strides, so that a cache finds in
    it what it would find in the original. Reuse is on purpose: like a host that keeps one scratch entry, it lets a
    cache that stores references instead of copies give itself away, and it allocates nothing after the first entry.
    """

    _MOST_LAYOUTS = 16

    def __init__(self) -> None:
        self._copies: dict[Any, tuple[Any, tuple[Any, ...], list[tuple[Any, torch.Tensor]]]] = {}

    def stage(self, entry: Any) -> Any:
        """Return a private copy of an entry; only valid regions are filled.

        Args:
            entry: What the host stores. Not an entry at all: a deep copy, or the object itself if it has none.

        Returns:
            The copy, good until the next entry of this layout is staged.
        """
        try:
            source = leaves(entry)
            layout = (type(entry), *((t.shape, t.stride(), t.dtype, t.device) for t, _ in source))
        except (AttributeError, TypeError):
            try:
                return copy.deepcopy(entry)
            except Exception:
                return entry
        found = self._copies.get(layout)
        if found is None:
            if len(self._copies) >= self._MOST_LAYOUTS:  # a host of many batch sizes must not pile up copies
                self._copies.pop(next(iter(self._copies)))
            found = self._copies[layout] = _shell(entry, source)
        staged, layers, parts = found
        # A cache may have changed the objects it was given, not only the values in them.
        staged._keys_values = layers
        for layer, (k, _), (v, _) in zip(layers, parts[::2], parts[1::2], strict=True):
            layer._k_cache, layer._v_cache = k, v
        for (tensor, size), (cache, buffer) in zip(source, parts, strict=True):
            cache._cache, cache._size = buffer, size
            if tensor.ndim == 4 and size < tensor.shape[2]:
                buffer[:, :, :size].copy_(tensor.detach()[:, :, :size])
            else:
                buffer.copy_(tensor.detach())
        return staged


def _shell(entry: Any, source: list[Leaf]) -> tuple[Any, tuple[Any, ...], list[tuple[Any, torch.Tensor]]]:
    """Make a copy's objects; return it, its layers, and per leaf the cache object and its buffer."""
    staged = copy.copy(entry)
    layers = tuple(copy.copy(layer) for layer in entry._keys_values)
    buffers = []
    with torch.inference_mode(False):
        for tensor, _ in source:
            # Overlapping strides (an expanded tensor) can't be written through; such a copy is plainly contiguous.
            strides = tensor.stride() if 0 not in tensor.stride() else torch.empty(tensor.shape).stride()
            buffers.append(torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device))
    caches = [copy.copy(cache) for layer in layers for cache in (layer._k_cache, layer._v_cache)]
    return staged, layers, list(zip(caches, buffers, strict=True))

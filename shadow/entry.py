"""The entry type: what a cache key maps to.

``KeysValues`` holds one ``KVCache`` per layer, a ``KVCache`` one ``Cache`` for keys and one for values, a ``Cache`` a
buffer ``(B, num_heads, max_tokens, head_dim)`` and how many of its tokens are valid. The same verbs at each level.
Names and behaviour follow IRIS (``kv_caching.py``, Micheli et al. 2023), as LightZero uses them.

Only the first ``size`` tokens of a buffer are defined. Buffers start uninitialised, so whatever lies beyond is never
compared, hashed or written to disk. Batch size, dtype and device are always the tensor's own; nothing here remembers
them beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shadow.interface import positive
from shadow.memory.buffers import Leaf, alike, as_length, empty_buffers, empty_like, fill, in_one_block, match, ordinary
from shadow.memory.regions import Layout, find
from shadow.operation import make

_MOST_LAYERS = 1 << 10  # beyond, it is an endless generator and no entry


def leaves(entry: Any) -> list[Leaf]:
    """List the buffers of any entry of this shape, ours or LightZero's: K then V, layer by layer.

    Args:
        entry: Object with ``_keys_values``, a sequence of layers with ``_k_cache`` and ``_v_cache``, each with
            ``_cache`` and ``_size``.

    Returns:
        ``2 * num_layers`` leaves; leaf ``2 * layer`` holds the keys of a layer and the next one its values. Lengths are
        ints, also where the entry has NumPy's or a tensor's number.

    Raises:
        AttributeError: If the object has another shape.
    """
    found: list[Leaf] = []
    for layer in islice(entry._keys_values, _MOST_LAYERS):
        for cache in (layer._k_cache, layer._v_cache):
            size = cache._size
            found.append(make(Leaf, (cache._cache, size if type(size) is int else as_length(size))))
    if len(found) == 2 * _MOST_LAYERS:
        raise AttributeError(f"{type(entry).__name__!r} object has {_MOST_LAYERS} layers or more")
    return found


class Cache:
    """Keys or values of one layer: a buffer ``(B, num_heads, max_tokens, head_dim)`` and a valid length.

    Args:
        num_samples: Batch size B.
        num_heads: Attention heads.
        max_tokens: Tokens the buffer can hold.
        embed_dim: ``num_heads * head_dim``.
        device: Where the buffer lives.
        dtype: Element type; None for torch's default.

    Raises:
        ValueError: If a size is not positive or ``embed_dim`` is no multiple of ``num_heads``.
    """

    __slots__ = ("_cache", "_size")

    def __init__(
        self,
        num_samples: int,
        num_heads: int,
        max_tokens: int,
        embed_dim: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self._cache = empty_buffers((), num_samples, num_heads, max_tokens, embed_dim, device, dtype)
        self._size = 0

    @classmethod
    def over(cls, buffer: Tensor, size: int = 0) -> Cache:
        """Make a cache of a buffer that exists already; nothing is copied."""
        cache = cls.__new__(cls)
        cache._cache = buffer
        cache._size = size
        return cache

    @property
    def _num_samples(self) -> int:
        return int(self._cache.shape[0])

    @property
    def _max_tokens(self) -> int:
        return int(self._cache.shape[2])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Valid shape ``(B, num_heads, size, head_dim)``."""
        batch, heads, _, head_dim = self._cache.shape
        return batch, heads, self._size, head_dim

    def reset(self) -> None:
        """Forget all tokens. The buffer is replaced, so that views handed out before stay as they were."""
        self._cache = empty_like(self._cache)
        self._size = 0

    def prune(self, mask: np.ndarray[Any, Any] | Tensor) -> None:
        """Keep the samples where ``mask`` is true.

        Args:
            mask: Boolean mask ``(B,)``.

        Raises:
            ValueError: If the mask has another shape or is not boolean (numbers would be taken for row indices).
        """
        if mask.ndim != 1 or mask.shape[0] != self._cache.shape[0]:
            raise ValueError(f"mask must have shape ({self._cache.shape[0]},), got {tuple(mask.shape)}")
        kept = torch.as_tensor(mask, device=self._cache.device)
        if kept.dtype is not torch.bool:
            raise ValueError(f"mask must be boolean, got {mask.dtype}")
        with ordinary():
            self._cache = self._cache.detach()[kept]

    def get(self) -> Tensor:
        """Return the valid region, a view ``(B, num_heads, size, head_dim)``."""
        return self._cache[:, :, : self._size]

    def update(self, x: Tensor, tokens: int | None = None) -> None:
        """Append tokens. A full cache first drops its oldest ones, always an even number.

        Tokens come in (observation, action) pairs; dropping half a pair would turn every later position around. If
        fewer tokens are held than would be dropped, all are.

        Args:
            x: New keys or values ``(B, num_heads, n, head_dim)``; detached and cast to the buffer's dtype.
            tokens: ``n``, where the caller names it as IRIS does.

        Raises:
            ValueError: If the shape does not fit, or ``n`` exceeds ``max_tokens``.
        """
        batch, heads, capacity, head_dim = self._cache.shape
        n = (x.shape[2] if x.ndim == 4 else -1) if tokens is None else tokens
        if x.shape != (batch, heads, n, head_dim) or n > capacity:
            raise ValueError(
                f"new tokens must have shape ({batch}, {heads}, {n if tokens else 'n'} <= {capacity}, {head_dim}), "
                f"got {tuple(x.shape)}"
            )
        # Writes go through .data: the buffer may be needed unchanged by autograd's book-keeping, not by its maths.
        buffer = self._cache.data
        excess = self._size + n - capacity
        if excess > 0:
            kept = max(0, self._size - (excess + excess % 2))
            if kept:
                buffer[:, :, :kept] = buffer[:, :, self._size - kept : self._size].clone()
            self._size = kept
        buffer[:, :, self._size : self._size + n] = x.detach()
        self._size += n


class KVCache:
    """Keys and values of one layer; arguments as for ``Cache``."""

    __slots__ = ("_k_cache", "_v_cache")

    def __init__(self, *sizes: Any, **more: Any) -> None:
        self._k_cache = Cache(*sizes, **more)
        self._v_cache = Cache(*sizes, **more)

    @classmethod
    def over(cls, k_buffer: Tensor, v_buffer: Tensor) -> KVCache:
        """Make a layer of two buffers that exist already; nothing is copied."""
        layer = cls.__new__(cls)
        layer._k_cache = Cache.over(k_buffer)
        layer._v_cache = Cache.over(v_buffer)
        return layer

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Valid shape of the keys ``(B, num_heads, size, head_dim)``; the values' can differ in a broken entry."""
        return self._k_cache.shape

    def reset(self) -> None:
        """Forget all tokens."""
        self._k_cache.reset()
        self._v_cache.reset()

    def prune(self, mask: np.ndarray[Any, Any] | Tensor) -> None:
        """Keep the samples where ``mask`` ``(B,)`` is true."""
        self._k_cache.prune(mask)
        self._v_cache.prune(mask)

    def get(self) -> tuple[Tensor, Tensor]:
        """Return the valid keys and values, each ``(B, num_heads, size, head_dim)``."""
        return self._k_cache.get(), self._v_cache.get()

    def update(self, k: Tensor, v: Tensor) -> None:
        """Append keys and values, each ``(B, num_heads, n, head_dim)``."""
        self._k_cache.update(k)
        self._v_cache.update(v)


class KeysValues:
    """Keys and values of every layer: one entry of a cache.

    Args:
        num_samples: Batch size B.
        num_heads: Attention heads.
        max_tokens: Tokens a buffer can hold.
        embed_dim: ``num_heads * head_dim``.
        num_layers: Layers.
        device: Where the buffers live.
        dtype: Element type; None for torch's default.

    Raises:
        ValueError: If a size is not positive or ``embed_dim`` is no multiple of ``num_heads``.
    """

    __slots__ = ("__weakref__", "_keys_values", "_origin")

    _keys_values: tuple[KVCache, ...]
    _origin: KeysValues  # what a lent one reads from; of no other

    def __init__(
        self,
        num_samples: int,
        num_heads: int,
        max_tokens: int,
        embed_dim: int,
        num_layers: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        leading = (positive("num_layers", num_layers), 2)
        block = empty_buffers(leading, num_samples, num_heads, max_tokens, embed_dim, device, dtype)
        self._keys_values = tuple(KVCache.over(k, v) for k, v in block)

    @classmethod
    def from_layers(cls, layers: Iterable[KVCache]) -> KeysValues:
        """Make an entry of layers that exist already."""
        entry = cls.__new__(cls)
        entry._keys_values = tuple(layers)
        return entry

    @classmethod
    def blank(cls, layout: Layout) -> KeysValues:
        """Allocate an entry of a layout, in one piece."""
        return cls._over(in_one_block(layout.n_leaves, layout.shape, layout.dtype, layout.device))

    @classmethod
    def empty_like(cls, source: list[Leaf]) -> KeysValues:
        """Allocate an entry whose buffers match the given leaves in shape, dtype and device."""
        return cls._over(alike(source))

    @classmethod
    def _over(cls, buffers: list[Tensor]) -> KeysValues:
        return cls.from_layers(KVCache.over(k, v) for k, v in zip(buffers[::2], buffers[1::2], strict=True))

    @property
    def size(self) -> int:
        """Valid tokens of the keys of layer 0. The others can differ in a broken entry, so never trust it alone."""
        return self._keys_values[0]._k_cache._size if self._keys_values else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, valid or not."""
        return sum(leaf.tensor.nbytes for leaf in leaves(self))

    def __len__(self) -> int:
        return len(self._keys_values)

    def __getitem__(self, layer: int) -> KVCache:
        return self._keys_values[layer]

    def __iter__(self) -> Iterator[KVCache]:
        return iter(self._keys_values)

    def reset(self) -> None:
        """Forget all tokens."""
        for layer in self._keys_values:
            layer.reset()

    def prune(self, mask: np.ndarray[Any, Any] | Tensor) -> None:
        """Keep the samples where ``mask`` ``(B,)`` is true."""
        for layer in self._keys_values:
            layer.prune(mask)

    def remove_register_tokens(self, register_token_num: int) -> None:
        """Make the last tokens of every buffer invisible, as LightZero does after a step with register tokens."""
        for layer in self._keys_values:
            for cache in (layer._k_cache, layer._v_cache):
                cache._size = max(0, cache._size - max(0, register_token_num))

    def copy_from(self, source: list[Leaf]) -> None:
        """Take over values and lengths of the given leaves; no invalid value is ever looked at.

        The caller has made sure that they fit (see ``fits``).
        """
        caches = [cache for layer in self._keys_values for cache in (layer._k_cache, layer._v_cache)]
        fill([cache._cache for cache in caches], source)
        for cache, leaf in zip(caches, source, strict=True):
            cache._size = leaf.size

    def fits(self, source: list[Leaf]) -> bool:
        """Tell whether the buffers match the given leaves in number, shape, dtype and device."""
        return match(leaves(self), source)

    def clone(self) -> KeysValues:
        """Return an independent copy: no storage shared, detached, dtype, device and lengths kept."""
        found = find(self._keys_values)
        copy = KeysValues.empty_like(leaves(self)) if found is None else KeysValues.blank(found.layout)
        own = None if found is None else find(copy._keys_values, any_size=True)
        if found is None or own is None or not own.fill(copy._keys_values, found):
            copy.copy_from(leaves(self))
        return copy

"""Where an entry's bytes lie: finds the plain entries of host memory, and copies and packs them as memory.

Almost every entry is 2 * num_layers contiguous buffers of one shape and dtype in host memory, all valid up to one
length. For these a tensor call per buffer (microseconds each, most of it dispatch) is not needed: a copy is a
``memcpy``, a comparison a ``memcmp``. Everything else (other devices, strided or mixed buffers, uneven lengths) has no
region, and its users fall back to tensors.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Types whose bytes are their values. Complex ones may be lazily conjugated, quantised ones carry a scale beside.
_PLAIN = {
    getattr(torch, name): size
    for name, size in {
        "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1,
        "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    }.items()
    if hasattr(torch, name)
}  # fmt: skip
_SMALL = 1 << 18  # bytes up to which an entry is copied whole sooner than by its valid rows
_DESCRIBED_MOST = 4096  # lengths of one layout whose description is kept


class Layout:
    """The structure that many entries share; one object per structure, so that ``is`` compares two of them.

    Attributes:
        shape: Of every buffer, ``(B, num_heads, T, head_dim)``.
        dtype: Of every buffer.
        n_leaves: Buffers, ``2 * num_layers``.
        rows: ``B * num_heads``, contiguous runs of tokens per buffer.
        token_nbytes: Bytes of one token of one run.
        leaf_nbytes: Bytes of one buffer.
        nbytes: Bytes of all.
        word: NumPy type by which runs are copied: the widest that divides a token.
        leaf_type: ``ctypes`` array of the bytes of one buffer.
        whole_type: The same of all.
    """

    __slots__ = (
        "_described", "dtype", "leaf_nbytes", "leaf_type", "n_leaves", "nbytes", "rows", "shape", "token_nbytes",
        "tokens", "whole_type", "word",
    )  # fmt: skip

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, n_leaves: int) -> None:
        batch, heads, self.tokens, head_dim = shape
        self.shape = shape
        self.dtype = dtype
        self.n_leaves = n_leaves
        self.rows = batch * heads
        self.token_nbytes = head_dim * _PLAIN[dtype]
        self.leaf_nbytes = math.prod(shape) * _PLAIN[dtype]
        self.nbytes = n_leaves * self.leaf_nbytes
        self.word = np.dtype(f"u{math.gcd(self.token_nbytes, 8)}")
        self.leaf_type = ctypes.c_char * self.leaf_nbytes
        self.whole_type = ctypes.c_char * self.nbytes
        self._described: dict[int, tuple[Any, ...]] = {}

    def described(self, size: int) -> tuple[Any, ...]:
        """Return ``(shape, dtype, device, size)`` once per buffer: the same object for the same size."""
        found = self._described.get(size)
        if found is None:
            if len(self._described) >= _DESCRIBED_MOST:
                self._described.clear()
            found = ((self.shape, self.dtype, torch.device("cpu"), size),) * self.n_leaves
            self._described[size] = found
        return found


_LAYOUTS: dict[tuple[Any, ...], Layout] = {}


class Region:
    """The memory of one plain entry.

    Attributes:
        layout: Its structure.
        tensors: Its buffers, K then V, layer by layer; they keep the memory alive.
        addresses: Where each begins.
        size: Valid tokens, when the region was asked for last.
        whole: All bytes, if the buffers lie one behind the other, else None.
    """

    __slots__ = ("_leaves", "_parts", "addresses", "layout", "size", "tensors", "whole")

    def __init__(self, layout: Layout, tensors: tuple[Tensor, ...], addresses: tuple[int, ...], size: int) -> None:
        self.layout = layout
        self.tensors = tensors
        self.addresses = addresses
        self.size = size
        first, step = addresses[0], layout.leaf_nbytes
        together = all(address == first + index * step for index, address in enumerate(addresses))
        self.whole: Any = layout.whole_type.from_address(first) if together else None
        self._leaves: list[Any] | None = None
        self._parts: list[Any] | None = None

    def copy(self) -> Region:
        """Return a region of the same memory whose length is its own."""
        return Region(self.layout, self.tensors, self.addresses, self.size)

    @property
    def steady(self) -> bool:
        """Whether the tensors still lie in this memory."""
        return all(t.data_ptr() == address for t, address in zip(self.tensors, self.addresses, strict=True))

    @property
    def full(self) -> bool:
        """Whether every cell is valid."""
        return self.size == self.layout.tokens

    def leaves(self) -> list[Any]:
        """Return the bytes of each buffer, valid or not."""
        if self._leaves is None:
            self._leaves = [self.layout.leaf_type.from_address(address) for address in self.addresses]
        return self._leaves

    def valid_rows(self) -> list[Any]:
        """Return the valid words, ``(runs, words)`` arrays: one if the buffers lie together, else one per buffer."""
        layout = self.layout
        if self._parts is None:
            found = self.leaves() if self.whole is None else [self.whole]
            runs = layout.rows * (1 if self.whole is None else layout.n_leaves)
            self._parts = [np.frombuffer(each, dtype=layout.word).reshape(runs, -1) for each in found]
        words = self.size * layout.token_nbytes // layout.word.itemsize
        return [part[:, :words] for part in self._parts]

    def packed(self) -> bytes:
        """Return the valid bytes in order of leaf, sample, head, token, channel."""
        if not self.size:
            return b""
        if self.full:
            return b"".join(each.raw for each in self.leaves()) if self.whole is None else bytes(self.whole.raw)
        return b"".join([np.ascontiguousarray(rows).tobytes() for rows in self.valid_rows()])

    def take(self, other: Region) -> None:
        """Copy the values of a region of the same layout here; the lengths of the entry are its caller's to set."""
        self.size = other.size
        if self.addresses == other.addresses:
            return
        if other.full or self.layout.nbytes <= _SMALL:
            if self.whole is not None and other.whole is not None:
                self.whole.raw = other.whole
                return
            for mine, theirs in zip(self.leaves(), other.leaves(), strict=True):
                mine.raw = theirs
            return
        if (self.whole is None) != (other.whole is None):
            for mine, theirs in zip(self._valid_of_each(other.size), other._valid_of_each(other.size), strict=True):
                np.copyto(mine, theirs)
            return
        for mine, theirs in zip(self.valid_rows(), other.valid_rows(), strict=True):
            np.copyto(mine, theirs)

    def _valid_of_each(self, size: int) -> list[Any]:
        layout = self.layout
        words = size * layout.token_nbytes // layout.word.itemsize
        return [np.frombuffer(each, dtype=layout.word).reshape(layout.rows, -1)[:, :words] for each in self.leaves()]


def placed(layers: Any, region: Region) -> bool:
    """Tell whether the layers of an entry still lie where a region says, whatever their lengths.

    Buffers are compared by identity and address: a host may put another tensor into a cache, or other memory under a
    tensor, at any time.
    """
    tensors, addresses = region.tensors, region.addresses
    if 2 * len(layers) != len(tensors):
        return False
    index = 0
    for layer in layers:
        one, other = layer._k_cache._cache, layer._v_cache._cache
        if (
            one is not tensors[index]
            or other is not tensors[index + 1]
            or one.data_ptr() != addresses[index]
            or other.data_ptr() != addresses[index + 1]
        ):
            return False
        index += 2
    return True


def verified(layers: Any, region: Region) -> bool:
    """Tell the same and whether all buffers are of one valid length, which the region takes over."""
    if not placed(layers, region):
        return False
    size = layers[0]._k_cache._size
    if type(size) is not int or not 0 <= size <= region.layout.tokens:
        return False
    for layer in layers:
        k_size, v_size = layer._k_cache._size, layer._v_cache._size
        if (k_size is not size or v_size is not size) and not (
            k_size == v_size == size and type(k_size) is type(v_size) is int
        ):
            return False
    region.size = size
    return True


def find(layers: Any, any_size: bool = False) -> Region | None:
    """Find the memory of an entry, given its layers; None if it is not plain, or no entry at all.

    Args:
        layers: What should be its layers.
        any_size: Whether lengths are of no interest, as in an entry that is about to be written.
    """
    try:
        size = 0 if any_size else layers[0]._k_cache._size
        first = layers[0]._k_cache._cache
        if type(size) is not int or type(first) is not Tensor or first.ndim != 4:
            return None
        shape, dtype = first.shape, first.dtype
        if dtype not in _PLAIN or not 0 <= size <= shape[2]:
            return None
        tensors = []
        addresses = []
        for layer in layers:
            for cache in (layer._k_cache, layer._v_cache):
                tensor = cache._cache
                if (
                    type(tensor) is not Tensor
                    or not (any_size or (type(cache._size) is int and cache._size == size))
                    or tensor.shape != shape
                    or tensor.dtype is not dtype
                    or not tensor.is_cpu
                    or tensor.layout is not torch.strided
                    or not tensor.is_contiguous()
                    or tensor.is_neg()
                ):
                    return None
                tensors.append(tensor)
                addresses.append(tensor.data_ptr())
    except (AttributeError, TypeError, IndexError, KeyError, RuntimeError):
        return None
    if not all(addresses):  # no memory at all
        return None
    key = (shape, dtype, len(tensors))
    layout = _LAYOUTS.get(key)
    if layout is None:
        if len(_LAYOUTS) >= 1024:  # a host of ever new shapes must not pile them up
            _LAYOUTS.clear()
        layout = _LAYOUTS[key] = Layout((*shape,), dtype, len(tensors))
    return Region(layout, tuple(tensors), tuple(addresses), size)

"""Where an entry's bytes lie: finds the dense entries, those of host memory above all.

Almost every entry is 2 * num_layers contiguous buffers of one shape and dtype in host memory, all valid up to one
length. For these a tensor call per buffer (microseconds each, most of it dispatch) is not needed: a copy is a
``memcpy``, a comparison a ``memcmp`` of the valid bytes (``shadow.memory.dense``). Everything else (other devices,
strided or mixed buffers, uneven lengths) has no region, and its users fall back to tensors. Where the buffers of an
entry on another device lie can be asked for as well: to know it again, and to copy it in one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from shadow.memory import dense
from shadow.memory.buffers import Leaf

# Types whose bytes are their values. Complex ones may be lazily conjugated, quantised ones carry a scale beside.
BYTES_ARE_VALUES = {
    getattr(torch, name): size
    for name, size in {
        "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1,
        "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    }.items()
    if hasattr(torch, name)
}  # fmt: skip
_WHOLE_NBYTES = 1 << 16  # of a buffer that is copied whole
_SIZES_MOST = 4096  # lengths of one layout that are remembered


class Layout:
    """The structure that many entries share; one object per structure, so that ``is`` compares two of them.

    Attributes:
        shape: Of every buffer, ``(B, num_heads, T, head_dim)``.
        dtype: Of every buffer.
        device: Of every buffer.
        in_host: Whether that is host memory, so that addresses may be followed.
        n_leaves: Buffers, ``2 * num_layers``.
        tokens: ``T``.
        leaf_nbytes: Bytes of one buffer.
        nbytes: Bytes of all.
        structure: What ``shadow.memory.dense.restage`` needs of it.
    """

    __slots__ = (
        "_by_size", "_rows", "_token_nbytes", "device", "dtype", "in_host", "leaf_nbytes", "n_leaves", "nbytes",
        "shape", "structure", "tokens",
    )  # fmt: skip

    def __init__(
        self, shape: tuple[int, int, int, int], dtype: torch.dtype, n_leaves: int, device: torch.device
    ) -> None:
        batch, heads, self.tokens, head_dim = shape
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.in_host = device.type == "cpu"
        self.n_leaves = n_leaves
        self._rows = batch * heads
        self._token_nbytes = head_dim * BYTES_ARE_VALUES[dtype]
        self.leaf_nbytes = math.prod(shape) * BYTES_ARE_VALUES[dtype]
        self.nbytes = n_leaves * self.leaf_nbytes
        self.structure = (shape, dtype, self._rows, self.tokens, self._token_nbytes)
        self._by_size: dict[int, tuple[tuple[int, int, int], tuple[Any, ...]]] = {}

    def is_of(self, shape: tuple[int, ...], dtype: torch.dtype, n_leaves: int, device: torch.device) -> bool:
        """Tell whether this is the layout of so many buffers of one structure."""
        return dtype is self.dtype and n_leaves == self.n_leaves and shape == self.shape and device == self.device

    def at(self, size: int) -> tuple[tuple[int, int, int], tuple[Any, ...]]:
        """Return ``runs`` at a valid length, and ``(shape, dtype, device, size)`` per buffer, one object per size."""
        return self._by_size.get(size) or self._of_size(size)

    def runs(self, size: int) -> tuple[int, int, int]:
        """Return ``(rows, step, n)``: where in every buffer the valid bytes lie; see ``shadow.memory.dense``."""
        return (self._by_size.get(size) or self._of_size(size))[0]

    def _of_size(self, size: int) -> tuple[tuple[int, int, int], tuple[Any, ...]]:
        step = self.tokens * self._token_nbytes
        runs = (1, 0, self.leaf_nbytes) if size == self.tokens else (self._rows, step, size * self._token_nbytes)
        if len(self._by_size) >= _SIZES_MOST:
            self._by_size.clear()
        found = (runs, ((self.shape, self.dtype, self.device, size),) * self.n_leaves)
        self._by_size[size] = found
        return found


_tensors = attrgetter("tensors")
_LAYOUTS: dict[tuple[Any, ...], Layout] = {}


class Region:
    """The memory of one dense entry.

    Attributes:
        layout: Its structure.
        tensors: Its buffers, K then V, layer by layer; they keep the memory alive.
        addresses: Where each begins.
        size: Valid tokens, when the region was asked for last.
        copied: What ``together`` made of it a moment ago, and nobody writes; None where nothing was made.
    """

    __slots__ = ("addresses", "copied", "layout", "size", "tensors")

    def __init__(
        self,
        layout: Layout,
        tensors: tuple[Tensor, ...],
        addresses: tuple[int, ...],
        size: int,
        copied: Tensor | None = None,
    ) -> None:
        self.layout = layout
        self.tensors = tensors
        self.addresses = addresses
        self.size = size
        self.copied = copied

    def fill(self, layers: Any, source: Region) -> bool:
        """Fill the entry of these layers with what lies there, if it lies here, and tell whether it does."""
        runs, size = source.layout.runs(source.size), source.size
        if not dense.refill(layers, self.tensors, self.addresses, source.addresses, *runs, size):
            return False
        self.size = size
        return True

    def copy(self) -> Region:
        """Return a region of the same memory whose length is its own."""
        return Region(self.layout, self.tensors, self.addresses, self.size)

    @property
    def leaves(self) -> list[Leaf]:
        """The buffers with their valid length."""
        return [Leaf(tensor, self.size) for tensor in self.tensors]

    def overlaps(self, other: Region) -> bool:
        """Tell whether buffers of both lie in one memory."""
        n, theirs = self.layout.leaf_nbytes, other.layout.leaf_nbytes
        return any(-n < begin - start < theirs for begin in self.addresses for start in other.addresses)


Regions = tuple[Region | None, Region | None]  # where an entry and its private copy lie, if they are dense
NOWHERE: Regions = (None, None)


def find(layers: Any, known: Region | None = None, any_size: bool = False, anywhere: bool = False) -> Region | None:
    """Find the memory of an entry, given its layers; None if it is not dense, or no entry at all.

    Args:
        layers: What should be its layers.
        known: Its region so far: kept, and told where the entry lies now, if it is still of that layout.
        any_size: Whether lengths are of no interest, as in an entry that is about to be written.
        anywhere: Whether it may lie on another device.
    """
    try:
        found = dense.survey(layers, Tensor, any_size, anywhere)
    except (AttributeError, TypeError, IndexError, KeyError, RuntimeError):
        return None
    if found is None:
        return None
    shape, dtype, size, tensors, addresses = found
    if (
        known is not None
        and known.layout.is_of(shape, dtype, len(tensors), tensors[0].device)
        and size <= known.layout.tokens
        and 0 not in addresses
    ):
        known.tensors, known.addresses, known.size = tensors, addresses, size
        return known
    return _region(*found)


def of_leaves(source: Sequence[tuple[Tensor, int]], anywhere: bool = False) -> Region | None:
    """Find the memory of an entry, given its buffers and the length of each; None if it is not dense.

    Args:
        source: Its leaves.
        anywhere: Whether they may lie on another device, and be strided: to copy them, and not to read them there.
    """
    if not source or not isinstance(source[0][0], Tensor):
        return None
    first, size = source[0]
    shape, dtype, device = first.shape, first.dtype, first.device
    for tensor, length in source:
        if (
            length != size
            or type(tensor) is not Tensor
            or tensor.shape != shape
            or tensor.dtype is not dtype
            or tensor.device != device
            or tensor.layout is not torch.strided
            or not (anywhere or (tensor.is_cpu and tensor.is_contiguous()))
            or tensor.is_neg()
        ):
            return None
    tensors = tuple([tensor for tensor, _ in source])
    return _region(shape, dtype, size, tensors, tuple([tensor.data_ptr() for tensor in tensors]))


def _region(
    shape: Sequence[int], dtype: torch.dtype, size: int, tensors: tuple[Tensor, ...], addresses: tuple[int, ...]
) -> Region | None:
    if len(shape) != 4 or dtype not in BYTES_ARE_VALUES or not 0 <= size <= shape[2] or 0 in addresses:  # no memory
        return None
    device = tensors[0].device
    key = (shape, dtype, len(tensors), device)
    layout = _LAYOUTS.get(key)
    if layout is None:
        if len(_LAYOUTS) >= 1024:  # a host of ever new shapes must not pile them up
            _LAYOUTS.clear()
        batch, heads, tokens, head_dim = shape
        layout = _LAYOUTS[key] = Layout((batch, heads, tokens, head_dim), dtype, len(tensors), device)
    return Region(layout, tensors, addresses, size)


def together(entries: Sequence[Region]) -> Tensor:
    """Copy entries of one layout and length next to one another, in one kernel.

    Args:
        entries: Where they lie. Small buffers are copied whole, which is quicker than to leave out what is not valid.

    Returns:
        ``(entries * leaves, B, num_heads, size or T, head_dim)``, detached.
    """
    layout, size = entries[0].layout, entries[0].size
    tensors = [*chain.from_iterable(map(_tensors, entries))]
    if size < layout.tokens and layout.leaf_nbytes > _WHOLE_NBYTES:
        tensors = [tensor.narrow(2, 0, size) for tensor in tensors]
    copy = torch.stack(tensors)
    return copy.detach() if copy.requires_grad else copy

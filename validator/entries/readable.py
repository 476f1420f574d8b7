"""What can be read of an object that may be an entry: its tensors, and the memory they lie in."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shadow.entries import leaves
from shadow.lent import readable
from shadow.memory.buffers import Leaf
from shadow.outside import from_outside


def entry_leaves(entry: Any) -> list[Leaf] | None:
    """List the leaves of what a side answered, or None if that is no entry; a lent one stays as it is."""
    if entry is None:
        return None
    try:
        found = leaves(readable(entry))
        found[:] = [Leaf(_plain(tensor), size + 0) for tensor, size in found]
    except BaseException as raised:  # whatever a foreign object raises, it is no entry
        if from_outside(raised):
            raise
        return None
    return found


def _plain(tensor: Any) -> Tensor:
    """Return a tensor that can be read as one, without what its class makes of it; TypeError for anything else."""
    if type(tensor) is not Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            tensor = tensor.as_subclass(Tensor)
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise TypeError(type(tensor).__name__)
    last = sum([(n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)])
    needed = (tensor.storage_offset() + last + 1) * tensor.element_size()
    if needed > tensor.untyped_storage().nbytes() and tensor.numel():
        raise ValueError("its memory was freed")
    return tensor


def overlap(one: Sequence[Leaf], other: Sequence[Leaf]) -> bool:
    """Tell whether buffers of two entries lie in one memory."""
    own = [_span(leaf.tensor) for leaf in one if leaf.tensor.numel()]
    theirs = [_span(leaf.tensor) for leaf in other if leaf.tensor.numel()]
    if not own or not theirs:
        return False
    if max([end for _, end in own]) <= min(theirs)[0] or max([end for _, end in theirs]) <= min(own)[0]:
        return False  # mostly they lie well apart
    return any(begin < after and start < end for begin, end in own for start, after in theirs)


def in_one_memory(one: Any, other: Any) -> bool:
    """Tell whether two objects are entries whose buffers lie in one memory."""
    own, theirs = entry_leaves(one), entry_leaves(other)
    return own is not None and theirs is not None and overlap(own, theirs)


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the address of the first byte of a tensor, and the one after its last."""
    last = sum([(n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)])
    begin = tensor.data_ptr()
    return begin, begin + (last + 1) * tensor.element_size()


@dataclass(slots=True)
class Given:
    """The memory of one entry that a side was given to store.

    Attributes:
        first: Its first buffer, held weakly: once that is gone nobody writes there as its owner, and what lies at these
            addresses may be somebody else's.
        addresses: Where its buffers begin.
        nbytes: Bytes of each, at most.
        since: Operation that gave it first.
        until: Operation that gave it last, of an unbroken row of sets.
    """

    first: weakref.ref[Tensor]
    addresses: tuple[int, ...]
    nbytes: int
    since: int
    until: int

    def holds(self, address: int, op_index: int) -> bool:
        """Tell whether an address lies in this memory, and an operation gave just that."""
        return self.since <= op_index <= self.until and self.covers(address)

    def covers(self, address: int) -> bool:
        """Tell whether an address lies in this memory, as long as it is its owner's."""
        return self.first() is not None and any(0 <= address - start < self.nbytes for start in self.addresses)


def memory_of(entry: Any, op_index: int) -> Given | None:
    """Return where the memory of an entry that is not dense lies; None for one without any."""
    buffers = [leaf.tensor for leaf in leaves(readable(entry)) if leaf.tensor.numel()]
    if not buffers:
        return None
    stores = [buffer.untyped_storage() for buffer in buffers]
    addresses = tuple(store.data_ptr() for store in stores)
    return Given(weakref.ref(buffers[0]), addresses, max(store.nbytes() for store in stores), op_index, op_index)

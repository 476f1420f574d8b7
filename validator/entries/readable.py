"""What can be read of an object that may be an entry: its tensors, and the memory they lie in."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from shadow.entry import leaves
from shadow.lent import readable
from shadow.memory.buffers import Leaf


def entry_leaves(entry: Any) -> list[Leaf] | None:
    """List the leaves of what a side answered, or None if that is no entry; a lent one stays as it is."""
    try:
        found = leaves(readable(entry))
        for tensor, size in found:
            _ = tensor.shape, tensor.dtype, tensor.device, size + 0
    except Exception:  # whatever a foreign object raises, it is no entry
        return None
    return found


def storages(entry: Sequence[Leaf]) -> set[int]:
    """Return the addresses of the storages behind an entry's buffers."""
    return {leaf.tensor.untyped_storage().data_ptr() for leaf in entry if leaf.tensor.numel()}


class Given(NamedTuple):
    """The memory of one entry that a side was given to store.

    Attributes:
        first: Its first buffer, held weakly: once that is gone nobody writes there as its owner, and what lies at these
            addresses may be somebody else's.
        addresses: Where its buffers begin.
        nbytes: Bytes of each, at most.
    """

    first: weakref.ref[Tensor]
    addresses: tuple[int, ...]
    nbytes: int


def memory_of(entry: Any) -> Given | None:
    """Return where the memory of an entry that is not dense lies; None for one without any."""
    buffers = [leaf.tensor for leaf in leaves(readable(entry)) if leaf.tensor.numel()]
    if not buffers:
        return None
    stores = [buffer.untyped_storage() for buffer in buffers]
    return Given(
        weakref.ref(buffers[0]), tuple(store.data_ptr() for store in stores), max(store.nbytes() for store in stores)
    )

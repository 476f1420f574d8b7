"""Entries that a cache lends out instead of copying them, and how any entry is read, lent or not."""

from __future__ import annotations

import threading
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from shadow.entry import KeysValues, leaves
from shadow.memory.buffers import Leaf, describe


class Lent(KeysValues):
    """An entry that a cache handed out and nobody has touched: it reads from the stored one instead of copying it.

    Touching it, that is asking for its layers in any way or assigning them, first makes it an entry of its own: a
    ``KeysValues`` with copies of all buffers. ``clone`` copies from the stored entry at once. Whoever lends must leave
    the origin as it is for as long as one of these refers to it. Made by ``lend``.
    """

    __slots__ = ()  # of the same make as its base, so that it can become one

    def __getattr__(self, name: str) -> Any:
        # Reached for what is not set yet: '_keys_values', of which everything else is made.
        if name != "_keys_values":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        touch(self)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        touch(self)
        object.__setattr__(self, name, value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        touch(self)
        return object.__reduce_ex__(self, protocol)

    def __len__(self) -> int:
        return len(self._origin)

    @property
    def size(self) -> int:
        """Valid tokens of the keys of layer 0."""
        return self._origin.size

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, valid or not."""
        return self._origin.nbytes

    def clone(self) -> KeysValues:
        """Return an independent copy, made from what is stored; this object stays as it is."""
        return self._origin.clone()


_new = object.__new__
_refer = KeysValues.__dict__["_origin"].__set__
touching = threading.RLock()  # another one in a forked child: ``shadow.wrapper.forks``


def readable(entry: Any) -> Any:
    """Return the object to read an entry from: what a lent one was lent from, else the entry itself.

    Reading a lent one directly makes it copy itself first. What this returns must only be read, and is good until the
    next operation on the cache; hold it along with its leaves to read it later.
    """
    return entry._origin if type(entry) is Lent else entry


def lend(origin: KeysValues) -> Lent:
    """Return a lent entry that reads from a stored one."""
    lent = _new(Lent)
    _refer(lent, origin)
    return lent


def touch(entry: Any) -> None:
    """Make a lent entry one of its own; nothing to do for any other."""
    with touching:  # of two threads that touch one object, both must end with the same copies
        if readable(entry) is entry:
            return
        own = entry._origin.clone()
        object.__setattr__(entry, "_keys_values", own._keys_values)
        object.__delattr__(entry, "_origin")
        object.__setattr__(entry, "__class__", KeysValues)


def checked_leaves(entry: Any) -> list[Leaf]:
    """List the leaves of an entry that is about to be stored.

    Everything that can be wrong with it is found here, before the first byte of a slot is touched.

    Args:
        entry: Entry to store.

    Returns:
        Its leaves.

    Raises:
        TypeError: If it is no entry.
        ValueError: If it has no layers, a buffer is not a dense ``(B, num_heads, T, head_dim)`` or shorter than its
            length, or a length is no whole number.
    """
    try:
        found = leaves(readable(entry))
    except AttributeError as missing:
        raise TypeError(
            f"kv_cache must be a KeysValues (layers with _k_cache and _v_cache), got {type(entry).__name__}: {missing}"
        ) from None
    if not found:
        raise ValueError("kv_cache has no layers; there is nothing to store")
    for index, (tensor, size) in enumerate(found):
        where = f"layer {index // 2} {'KV'[index % 2]}"
        if not isinstance(tensor, Tensor) or tensor.ndim != 4 or tensor.layout is not torch.strided:
            raise ValueError(f"{where}: expected a tensor (B, num_heads, T, head_dim), got {describe(tensor)}")
        if not isinstance(size, (int, np.integer)):
            raise ValueError(f"{where}: valid length must be a whole number, got {size!r}")
        if not 0 <= size <= tensor.shape[2]:
            raise ValueError(f"{where}: valid length {size} outside [0, {tensor.shape[2]}] of {describe(tensor)}")
    return found

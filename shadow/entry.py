"""The entry type: what a cache key maps to.

``KeysValues`` holds one ``KVCache`` per layer, a ``KVCache`` one ``Cache`` for keys and one for values, a ``Cache`` a
buffer ``(B, num_heads, max_tokens, head_dim)`` and how many of its tokens are valid. The same verbs at each level.
Names and behaviour follow IRIS (``kv_caching.py``, Micheli et al. 2023), as LightZero uses them.

Only the first ``size`` tokens of a buffer are defined. Buffers start uninitialised, so whatever lies beyond is never
compared, hashed or written to disk. Batch size, dtype and device are always the tensor's own; nothing here remembers
them beside it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from shadow.interface import positive
from shadow.memory import dense as plain
from shadow.memory.regions import Layout, Region, find


class Leaf(NamedTuple):
    """One key or value buffer of an entry and its valid length.

    Attributes:
        tensor: Buffer ``(B, num_heads, max_tokens, head_dim)``.
        size: Valid tokens.
    """

    tensor: Tensor
    size: int


def leaves(entry: Any) -> list[Leaf]:
    """List the buffers of any entry of this shape, ours or LightZero's: K then V, layer by layer.

    Args:
        entry: Object with ``_keys_values``, a sequence of layers with ``_k_cache`` and ``_v_cache``, each with
            ``_cache`` and ``_size``.

    Returns:
        ``2 * num_layers`` leaves; leaf ``2 * layer`` holds the keys of a layer and the next one its values.

    Raises:
        AttributeError: If the object has another shape.
    """
    found = []
    for layer in entry._keys_values:
        k, v = layer._k_cache, layer._v_cache
        found.append(Leaf(k._cache, k._size))
        found.append(Leaf(v._cache, v._size))
    return found


def readable(entry: Any) -> Any:
    """Return the object to read an entry from: what a lent one was lent from, else the entry itself.

    Reading a ``Lent`` directly makes it copy itself first. What this returns must only be read, and is good until the
    next operation on the cache; hold it along with its leaves to read it later.
    """
    return entry._origin if type(entry) is Lent else entry


def region(entry: Any) -> Region | None:
    """Return where the bytes of a plain entry lie, for reading them at once; None where that can't be said.

    Args:
        entry: Any object. A ``Lent`` stays as it is.

    Returns:
        The region with the valid length of this moment, or None.
    """
    if type(entry) is Lent:
        entry = entry._origin
    try:
        layers = entry._keys_values
        known = _known(entry)
        if known is not None:
            size = plain.placed(layers, known.tensors, known.addresses)
            if 0 <= size <= known.layout.tokens:
                known.size = size
                return known
        found = find(layers, known)
    except (AttributeError, TypeError):  # no entry
        return None
    if type(entry) is KeysValues:
        entry._region = found
    elif found is not None and found is not known:
        _note(entry, found)
    return found


def agreement(one: Any, other: Any, hashed: bool) -> tuple[Layout, int, tuple[int, ...] | None] | None:
    """Tell what two plain entries hold, if that is the same to the bit; None says nothing.

    Args:
        one: An entry. A ``Lent`` stays as it is.
        other: Another.
        hashed: Whether to hash what they hold, buffer by buffer.

    Returns:
        Their layout, their valid length, and the hashes if they were asked for.
    """
    if type(one) is Lent:
        one = one._origin
    if type(other) is Lent:
        other = other._origin
    try:
        for place in (_known, region):  # where they were found last, or where they are found now
            here, there = place(one), place(other)
            if here is not None and there is not None and here.layout is there.layout:
                one_there = (one._keys_values, here.tensors, here.addresses)
                other_there = (other._keys_values, there.tensors, there.addresses)
                found = plain.agreed(one_there, other_there, here.layout.structure, hashed)
                if found is not None:
                    return here.layout, *found
    except (AttributeError, TypeError):  # no entry
        pass
    return None


def _known(entry: Any) -> Region | None:
    """Return where an entry lay when it was last looked at; that it still does has to be made sure of."""
    if type(entry) is KeysValues:
        return entry._region
    noted = _foreign.get(id(entry))
    return noted[1] if noted is not None and noted[0]() is entry else None


def _note(entry: Any, found: Region) -> None:
    """Remember where an entry of another class lies, while it lives."""
    at = id(entry)

    def forget(gone: weakref.ref[Any]) -> None:
        if at in _foreign and _foreign[at][0] is gone:
            del _foreign[at]

    with suppress(TypeError):  # not every class can be referred to weakly
        _foreign[at] = weakref.ref(entry, forget), found


def one_view(source: Sequence[Leaf]) -> Tensor | None:
    """Return the valid regions of an entry as one view, for one kernel in place of many.

    Args:
        source: Its leaves.

    Returns:
        ``(leaves, B, num_heads, size, head_dim)``, detached; None where the buffers are not of one structure and length
        at equal distances in one allocation, as caches make them.
    """
    if not source:
        return None
    first, size = source[0]
    if first.ndim != 4 or first.layout is not torch.strided or not (first.numel() and 0 <= size <= first.shape[2]):
        return None
    shape, strides, dtype = first.shape, first.stride(), first.dtype
    at, last = first.data_ptr(), source[-1].tensor
    step_nbytes = source[1].tensor.data_ptr() - at if len(source) > 1 else 0
    # What lies at equal distances between two buffers of one allocation lies in that allocation.
    if strides[3] != 1 or step_nbytes < 0 or last.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        return None
    for tensor, length in source:
        if (
            tensor.data_ptr() != at
            or length != size
            or tensor.shape != shape
            or tensor.dtype is not dtype
            or tensor.stride() != strides
        ):
            return None
        at += step_nbytes
    batch, heads, _, head_dim = shape
    step = step_nbytes // first.element_size()
    view = (len(source), batch, heads, size, head_dim)
    return first.detach().as_strided(view, (step, *strides), first.storage_offset())


def fill(buffers: Sequence[Tensor], source: Sequence[Leaf]) -> None:
    """Copy the valid regions of an entry into buffers of its shapes, in one kernel where they lie so."""
    theirs = one_view(source)
    if theirs is not None:
        mine = one_view([Leaf(buffer, leaf.size) for buffer, leaf in zip(buffers, source, strict=True)])
        if mine is not None:
            mine.copy_(theirs)
            return
    for buffer, (tensor, size) in zip(buffers, source, strict=True):
        if tensor.ndim == 4 and size < tensor.shape[2]:
            buffer[:, :, :size].copy_(tensor.detach()[:, :, :size])
        else:
            buffer.copy_(tensor.detach())


def ordinary() -> Any:
    """Leave inference mode, if it is on: what is allocated in it could not be written outside any more."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def empty_like(tensor: Tensor) -> Tensor:
    """Allocate an ordinary tensor of the same shape, dtype and device, whatever modes the caller runs in."""
    with ordinary():
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def empty_buffers(
    leading: tuple[int, ...],
    num_samples: int,
    num_heads: int,
    max_tokens: int,
    embed_dim: int,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    """Allocate ``(*leading, B, num_heads, max_tokens, head_dim)`` after checking every size."""
    sizes = {"num_samples": num_samples, "num_heads": num_heads, "max_tokens": max_tokens, "embed_dim": embed_dim}
    for name, value in sizes.items():
        positive(name, value)
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
    with ordinary():
        return torch.empty(
            (*leading, num_samples, num_heads, max_tokens, embed_dim // num_heads), dtype=dtype, device=device
        )


def alike(source: Sequence[Leaf]) -> list[Tensor]:
    """Allocate contiguous buffers that match the given leaves; in one block where they are all of one structure."""
    first = source[0].tensor
    if all(
        leaf.tensor.shape == first.shape and leaf.tensor.dtype == first.dtype and leaf.tensor.device == first.device
        for leaf in source
    ):
        with ordinary():
            block = torch.empty((len(source), *first.shape), dtype=first.dtype, device=first.device)
        return list(block.unbind())
    return [empty_like(leaf.tensor) for leaf in source]


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

    def __init__(
        self,
        num_samples: int,
        num_heads: int,
        max_tokens: int,
        embed_dim: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self._k_cache = Cache(num_samples, num_heads, max_tokens, embed_dim, device, dtype)
        self._v_cache = Cache(num_samples, num_heads, max_tokens, embed_dim, device, dtype)

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

    __slots__ = ("__weakref__", "_keys_values", "_origin", "_region")

    _keys_values: tuple[KVCache, ...]
    _origin: KeysValues  # of a Lent only
    _region: Region | None  # where it lay when it was last looked at

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
        self._region = None

    @classmethod
    def from_layers(cls, layers: Iterable[KVCache]) -> KeysValues:
        """Make an entry of layers that exist already."""
        entry = cls.__new__(cls)
        entry._keys_values = tuple(layers)
        entry._region = None
        return entry

    @classmethod
    def blank(cls, layout: Layout) -> KeysValues:
        """Allocate an entry of a layout in host memory, in one piece."""
        with ordinary():
            block = torch.empty((layout.n_leaves, *layout.shape), dtype=layout.dtype, device="cpu")
        buffers = iter(block.unbind())
        return KeysValues.from_layers(KVCache.over(k, v) for k, v in zip(buffers, buffers, strict=True))

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {"_keys_values": self._keys_values}  # where it lies is not for the copy

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        self._keys_values = state[1]["_keys_values"]
        self._region = None

    @classmethod
    def empty_like(cls, source: list[Leaf]) -> KeysValues:
        """Allocate an entry whose buffers match the given leaves in shape, dtype and device.

        Leaves of one shape get one contiguous block, so that an entry is one allocation and lies together in memory.
        """
        buffers = alike(source)
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

    def copy_from(self, source: list[Leaf] | Region) -> None:
        """Take over values and lengths of the given leaves, or of a region; no invalid value is ever looked at.

        The caller has made sure that they fit (see ``fits``); a region fits an entry whose buffers are of its layout.
        """
        if isinstance(source, Region):
            if not self.take(source):
                raise ValueError("the buffers are not of the layout of the region that was to be copied")
            return
        caches = [cache for layer in self._keys_values for cache in (layer._k_cache, layer._v_cache)]
        fill([cache._cache for cache in caches], source)
        for cache, leaf in zip(caches, source, strict=True):
            cache._size = leaf.size

    def take(self, source: Region) -> bool:
        """Take over values and lengths of a region if the buffers are of its layout, and tell whether they are."""
        layers, layout, size = self._keys_values, source.layout, source.size
        for _ in range(2):  # where they were found last, or where they are found now
            own = self._region
            if own is not None and own.layout is layout:
                runs = layout.runs(size)
                if plain.refill(layers, own.tensors, own.addresses, source.addresses, *runs, size):
                    own.size = size
                    return True
            self._region = find(layers, own, any_size=True)
        return False

    def fits(self, source: list[Leaf]) -> bool:
        """Tell whether the buffers match the given leaves in number, shape, dtype and device."""
        own = leaves(self)
        return len(own) == len(source) and all(
            mine.tensor.shape == other.tensor.shape
            and mine.tensor.dtype == other.tensor.dtype
            and mine.tensor.device == other.tensor.device
            for mine, other in zip(own, source, strict=True)
        )

    def clone(self) -> KeysValues:
        """Return an independent copy: no storage shared, detached, dtype, device and lengths kept."""
        found = region(self)
        source = leaves(self) if found is None else found
        copy = KeysValues.empty_like(source) if isinstance(source, list) else KeysValues.blank(source.layout)
        copy.copy_from(source)
        return copy


class Lent(KeysValues):
    """An entry that a cache handed out and nobody has touched: it reads from the stored one instead of copying it.

    Touching it, that is asking for its layers in any way or assigning them, first makes it an entry of its own: a plain
    ``KeysValues`` with copies of all buffers. ``clone`` copies from the stored entry at once. Whoever lends must leave
    the origin as it is for as long as one of these refers to it. Made by ``lend``.
    """

    __slots__ = ()  # of the same make as its base, so that it can become one

    def __getattr__(self, name: str) -> Any:
        # Reached for what is not set yet: '_keys_values', of which everything else is made, and '_region'.
        if name not in ("_keys_values", "_region"):
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


# Where the entries of other classes (a host's own) were found; ours carry it themselves. By id, since a host's class
# may define equality as it likes; the reference tells whether the id is still that object's.
_foreign: dict[int, tuple[weakref.ref[Any], Region]] = {}
_new = object.__new__
_refer = KeysValues.__dict__["_origin"].__set__
_touching = threading.RLock()


def lend(origin: KeysValues) -> Lent:
    """Return a lent entry that reads from a stored one."""
    lent = _new(Lent)
    _refer(lent, origin)
    return lent


def touch(entry: Any) -> None:
    """Make a lent entry one of its own; nothing to do for any other."""
    with _touching:  # of two threads that touch one object, both must end with the same copies
        if type(entry) is not Lent:
            return
        own = entry._origin.clone()
        object.__setattr__(entry, "_keys_values", own._keys_values)
        object.__setattr__(entry, "_region", None)
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


def describe(value: Any) -> str:
    """Describe a tensor by dtype and shape, anything else by its type; never by its values."""
    if isinstance(value, Tensor):
        layout = "" if value.layout is torch.strided else f"{str(value.layout).removeprefix('torch.')} "
        return f"{layout}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    return type(value).__name__

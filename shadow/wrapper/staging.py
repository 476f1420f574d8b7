"""Copies of what a host stores, so that the second side never touches the host's own tensors."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shadow import entry as keys_values
from shadow.entries import form_of, leaf_names, leaves, rebuilt
from shadow.entry import KeysValues
from shadow.lent import readable
from shadow.memory.buffers import WHOLE, Leaf, alike, describe, empty_strided, fill, one_view, stream_of
from shadow.memory.dense import placed, restage
from shadow.memory.regions import NOWHERE, Region, Regions, find, together

AN_ENTRY = (
    "An entry is an object whose _keys_values is a sequence of layers, each with a _k_cache and a _v_cache, and these "
    "with a dense tensor _cache (B, num_heads, T, head_dim) and its valid length _size (shadow.KeysValues is one), or "
    "any nest of dense tensors in tuples, lists, dicts and dataclasses, or what shadow.register_entry was told of"
)

_HOST = torch.device("cpu")


class _Shell(NamedTuple):
    """A copy's objects.

    Attributes:
        staged: The copy.
        layers: Its layers.
        parts: Per leaf the cache object and its buffer.
        own: Where these lie; None for a copy that is not dense.
        block: All its buffers as one, where they are filled by a kernel; None of one that is filled as memory.
        device: Where it lies.
        stream: The stream that was current there.
    """

    staged: Any
    layers: tuple[Any, ...]
    parts: list[tuple[Any, Tensor]]
    own: Region | None
    block: Tensor | None
    device: torch.device
    stream: int


class Staging:
    """Hands out private copies of entries, one reused object per layout.

    The copy is of the host's own class and of the same shapes, dtypes, devices and strides, so that a cache finds in
    it what it would find in the original. Reuse is on purpose: like a host that keeps one scratch entry, it lets a
    cache that stores references instead of copies give itself away, and it allocates nothing after the first entry.
    Of a nest, the tensors' memory is reused and the containers are made anew.

    Args:
        reuses: False for a secondary that stores references, as it declares: each copy is its own.

    Attributes:
        device: A CUDA device, once an entry on one was staged.
        as_memory: Whether dense entries of host memory are copied as memory; else as those of any other device.
    """

    as_memory = True
    _MOST_LAYOUTS = 16

    def __init__(self, reuses: bool = True) -> None:
        self._reuses = reuses
        self._copies: dict[Any, _Shell] = {}
        self._memories: dict[Any, list[Tensor]] = {}  # of nests
        self._latest: _Shell | None = None  # of a dense entry; the next one is mostly of the same layout
        self.device: torch.device | None = None

    def stage(self, entry: Any) -> tuple[Any, Regions]:
        """Return a private copy of an entry; only valid regions are filled.

        Args:
            entry: What the host stores. Not an entry at all: a deep copy, or the object itself if it has none.

        Returns:
            The copy, good until the next entry of this layout is staged, and where the entry and the copy lie.
        """
        entry = readable(entry)
        if not self._reuses:
            self._latest = None
            self._copies.clear()
            self._memories.clear()
        latest = self._latest
        if (
            latest is not None
            and (latest.block is None or latest.stream == stream_of(latest.device))
            and (regions := _restaged(latest, entry))
        ):
            return latest.staged, regions
        # Looked over as it is now, whatever is known of it.
        dense = find(getattr(entry, "_keys_values", None), anywhere=True)
        source: list[Leaf] = []
        layout: Any
        if dense is not None:
            device = dense.layout.device
            layout = (type(entry), dense.layout)
        else:
            try:
                source = leaves(entry)
                layout = (type(entry), *((t.shape, t.stride(), t.dtype, t.device) for t, _ in source))
                device = next((tensor.device for tensor, _ in source if tensor.is_cuda), _HOST)
            except (AttributeError, TypeError):
                return copied(entry), NOWHERE
        if device.type == "cuda":
            self.device = device
        # The copy of one stream may still be read when another stream stages the next entry.
        layout = (stream_of(device), *layout)
        if dense is None and form_of(source) is not None:
            return self._staged_nest(entry, source, layout), NOWHERE
        shell = self._copies.get(layout)
        if shell is None or not _put_together(shell):
            shell = self._anew(layout, entry, source, dense)
        if dense is not None:
            regions = _restaged(shell, entry)
            if regions is None:  # a cache made something else of it than can be put together
                shell = self._anew(layout, entry, source, dense)
                regions = _restaged(shell, entry)
                assert regions is not None
            self._latest = shell
            return shell.staged, regions
        for (_, size), (cache, _) in zip(source, shell.parts, strict=True):
            cache._size = size
        fill([buffer for _, buffer in shell.parts], source)
        return shell.staged, NOWHERE

    def _staged_nest(self, entry: Any, source: list[Leaf], layout: Any) -> Any:
        memories = self._memories
        buffers = memories.get(layout)
        if buffers is None:
            if len(memories) >= self._MOST_LAYOUTS:
                del memories[next(iter(memories))]
            buffers = memories[layout] = [empty_strided(tensor) for tensor, _ in source]
        fill(buffers, source)
        # A cache may resize the tensors that it is given, or turn them to other memory: they are its own.
        return rebuilt(entry, [buffer.detach() for buffer in buffers])

    def _anew(self, layout: Any, entry: Any, source: list[Leaf], dense: Region | None) -> _Shell:
        """Make a copy's objects of an entry."""
        if len(self._copies) >= self._MOST_LAYOUTS:  # a host of many batch sizes must not pile up copies
            self._copies.pop(next(iter(self._copies)))
        shell = self._copies[layout] = _shell(entry, source, dense, self.as_memory)
        _restore(shell)
        return shell


def unfit(entry: Any) -> str:
    """Say why what a host stores can't be compared; empty if it can."""
    try:
        found: list[Any] = leaves(readable(entry))
        for where, (tensor, size) in zip(leaf_names(form_of(found), len(found)), found, strict=True):
            if not isinstance(tensor, Tensor):
                return f"{where} is of type {type(tensor).__name__} and no tensor"
            if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta:
                kinds = {"nested": tensor.is_nested, "quantized": tensor.is_quantized, "meta": tensor.is_meta}
                return f"{where} is a {next((name for name, is_it in kinds.items() if is_it), 'sparse')} tensor"
            if tensor.ndim < 3 and size != WHOLE:
                return f"{where} has shape {tuple(tensor.shape)}, in which no axis of tokens can be told"
            if type(size) is not int:
                return f"the valid length of {where} is {describe(size)} and no whole number"
    except Exception as error:
        return f"an object of type {type(entry).__name__} is no entry ({type(error).__name__}: {error})"[:400]
    return ""


def copied(entry: Any) -> Any:
    """Return a deep copy of any object, or the object itself if it has none."""
    try:
        return copy.deepcopy(entry)
    except Exception:
        return entry


def _put_together(shell: _Shell) -> bool:
    """Put a copy together again, as if a cache had taken it apart; False if that can't be done."""
    try:
        _restore(shell)
    except Exception:
        return False
    return True


def _restaged(shell: _Shell, entry: Any) -> Regions | None:
    """Copy a dense entry if it is of the layout of a dense copy, and that as it was made; return where both lie."""
    staged, layers, parts, own, block, *_ = shell
    assert own is not None
    layout = own.layout
    try:
        if type(entry) is not type(staged) or staged._keys_values is not layers:
            return None
        if block is not None:
            dense = find(entry._keys_values, anywhere=True)
            if dense is None or dense.layout is not layout or placed(layers, own.tensors, own.addresses) == -1:
                return None
            # What is looked at later is the first copy: the cache may write into the second.
            size, copy = dense.size, together((dense,))
            (block if copy.shape == block.shape else block.narrow(3, 0, size)).copy_(copy)
            for cache, _ in parts:
                cache._size = size
            return dense, Region(layout, own.tensors, own.addresses, size, copy)
        copied = (layers, own.tensors, own.addresses)
        found = restage(entry._keys_values, Tensor, layout.structure, copied)
    except (AttributeError, TypeError, IndexError, KeyError, RuntimeError):  # no dense entry, or taken apart
        return None
    if found is None:
        return None
    own.size, tensors, addresses = found
    return Region(layout, tensors, addresses, own.size), own


def _restore(shell: _Shell) -> None:
    """Put a copy together: a cache may have changed the objects it was given, not only the values in them."""
    staged, layers, parts, *_ = shell
    staged._keys_values = layers
    index = 0
    for layer in layers:
        for name in ("_k_cache", "_v_cache"):
            cache, buffer = parts[index]
            cache._cache = buffer
            cache._size = 0
            setattr(layer, name, cache)
            index += 1


def _shell(entry: Any, source: list[Leaf], dense: Region | None, as_memory: bool) -> _Shell:
    staged = copy.copy(entry)
    layers = tuple(copy.copy(layer) for layer in entry._keys_values)
    caches = [copy.copy(cache) for layer in layers for cache in (layer._k_cache, layer._v_cache)]
    if dense is None:
        if source and all(tensor.is_contiguous() for tensor, _ in source):
            buffers = alike(source)
        else:
            buffers = [empty_strided(tensor) for tensor, _ in source]
        return _Shell(staged, layers, list(zip(caches, buffers, strict=True)), None, None, _HOST, 0)
    blank = KeysValues.blank(dense.layout)
    own = find(blank._keys_values, any_size=True, anywhere=True)
    assert own is not None
    parts = [(cache, leaf.tensor) for cache, leaf in zip(caches, keys_values.leaves(blank), strict=True)]
    in_memory = as_memory and dense.layout.in_host
    block = None if in_memory else one_view([Leaf(tensor, dense.layout.tokens) for tensor in own.tensors])
    device = dense.layout.device
    return _Shell(staged, layers, parts, own, block, device, stream_of(device))

"""The byte work of dense entries in Python, for machines without a C compiler; ``_dense.c`` does the same, faster.

Addresses are only followed where ``shadow.memory.regions`` has just made sure that tensors lie there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from shadow.memory.buffers import bytes_of

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int


def columns_of(tensors: tuple[Any, ...], begin: int, end: int) -> tuple[bytes, ...]:
    """Return the bytes of some positions of tensors ``(rows, heads, positions, width)``, wherever and however they lie.

    Args:
        tensors: As they are; what is on an accelerator is waited for.
        begin: First position.
        end: Behind the last.

    Returns:
        Of each tensor a copy, row by row, position by position, all heads of a position together.
    """
    return tuple([bytes(bytes_of(tensor.detach()[:, :, begin:end].transpose(1, 2))) for tensor in tensors])


def survey(
    layers: Iterable[Any], tensor_type: type, any_size: bool, anywhere: bool
) -> tuple[Any, Any, int, tuple[Any, ...], tuple[int, ...]] | None:
    """Look over the buffers of an entry: are they dense, of one structure and length?

    Args:
        layers: Its layers.
        tensor_type: ``torch.Tensor``; a subclass may answer what it likes.
        any_size: Whether lengths are of no interest, and the one returned is 0.
        anywhere: Whether they may lie on another device, where nobody can read them at their addresses.

    Returns:
        ``(shape, dtype, length, tensors, addresses)``, or None.
    """
    if not isinstance(layers, (list, tuple)):  # going through anything else might never end
        raise TypeError("layers must be a list or a tuple")
    caches = [cache for layer in layers for cache in (layer._k_cache, layer._v_cache)]
    tensors = tuple([cache._cache for cache in caches])
    if not tensors or any(type(tensor) is not tensor_type for tensor in tensors):
        return None
    size = 0 if any_size else caches[0]._size
    if not any_size and any(type(cache._size) is not int or cache._size != size or size < 0 for cache in caches):
        return None
    shape, dtype, device = tensors[0].shape, tensors[0].dtype, tensors[0].device
    for tensor in tensors:
        if (
            tensor.shape != shape
            or tensor.dtype is not dtype
            or tensor.device != device
            or not (anywhere or tensor.is_cpu)
            or tensor.layout is not torch.strided
            or not tensor.is_contiguous()
            or tensor.is_neg()
        ):
            return None
    return shape, dtype, size, tensors, tuple([tensor.data_ptr() for tensor in tensors])


def placed(layers: Sequence[Any], tensors: tuple[Any, ...], addresses: tuple[int, ...]) -> int:
    """Tell whether the buffers of an entry still lie there, and how much of them is valid.

    Buffers are compared by identity and address: a host may put another tensor into a cache, other memory under a
    tensor, or turn it around in place, at any time.

    Returns:
        -1 if they lie elsewhere; -2 if they lie there but are not of one length; else that length.
    """
    if 2 * len(layers) != len(tensors) or not tensors:
        return -1
    caches = [cache for layer in layers for cache in (layer._k_cache, layer._v_cache)]
    for cache, tensor, address in zip(caches, tensors, addresses, strict=True):
        if cache._cache is not tensor or tensor.data_ptr() != address or not tensor.is_contiguous():
            return -1
    sizes = [cache._size for cache in caches]
    size = sizes[0]
    even = all(type(each) is int and each == size for each in sizes) and size >= 0
    return size if even else -2


def refill(
    layers: Sequence[Any],
    tensors: tuple[Any, ...],
    addresses: tuple[int, ...],
    source: tuple[int, ...],
    rows: int,
    step: int,
    n: int,
    size: int,
) -> bool:
    """Fill an entry that lies there with the runs at other addresses, and give it that length.

    Returns:
        False, and nothing is copied, if the entry lies elsewhere.
    """
    if placed(layers, tensors, addresses) == -1:
        return False
    for p, q in zip(addresses, source, strict=True):
        for row in range(rows):
            ctypes.memmove(p + row * step, q + row * step, n)
    for layer in layers:
        layer._k_cache._size = layer._v_cache._size = size
    return True


def restage(
    layers: Iterable[Any],
    tensor_type: type,
    structure: tuple[Any, Any, int, int, int],
    staged: tuple[Sequence[Any], tuple[Any, ...], tuple[int, ...]],
) -> tuple[int, tuple[Any, ...], tuple[int, ...]] | None:
    """Copy a dense entry of a structure to a staged entry that lies where it lay, and give that its length.

    Args:
        layers: Layers of the entry.
        tensor_type: ``torch.Tensor``.
        structure: Shape and dtype of every buffer, ``B * num_heads``, tokens, bytes of one token of one head.
        staged: Layers of the copy, its tensors, and where they begin.

    Returns:
        ``(length, tensors, addresses)`` of the entry; None, and nothing is copied, if either is not so.
    """
    shape, dtype, rows, tokens, token_nbytes = structure
    found = survey(layers, tensor_type, False, False)
    if found is None or found[:2] != (shape, dtype):
        return None
    _, _, size, tensors, source = found
    copies, own, addresses = staged
    if len(tensors) != len(own) or size > tokens or 0 in source:
        return None
    if not refill(copies, own, addresses, source, rows, tokens * token_nbytes, size * token_nbytes, size):
        return None
    return size, tensors, source


def equal(one: tuple[int, ...], other: tuple[int, ...], rows: int, step: int, n: int) -> bool:
    """Tell whether all runs of the buffers at two tuples of addresses hold the same bytes.

    Args:
        one: Where the buffers of one entry begin.
        other: Where those of the other do.
        rows: Runs of valid bytes in every buffer.
        step: From one run to the next, bytes.
        n: Length of a run, bytes.
    """
    return not any(
        _memcmp(p + row * step, q + row * step, n) for p, q in zip(one, other, strict=True) for row in range(rows)
    )


def gather(addresses: tuple[int, ...], rows: int, step: int, n: int) -> memoryview | bytes:
    """Return the runs of all buffers, one behind the other.

    Compiled, this is a view of the memory itself where the runs lie so: use it at once.
    """
    return b"".join([ctypes.string_at(p + row * step, n) for p in addresses for row in range(rows)])


def parts(contents: memoryview | bytes, count: int) -> tuple[memoryview, ...]:
    """Return so many equal parts of contiguous bytes; compiled, these are good only as long as the bytes are."""
    view, each = memoryview(contents), len(contents) // count
    return tuple([view[index * each : (index + 1) * each] for index in range(count)])


def agreed(
    one: tuple[Any, tuple[Any, ...], tuple[int, ...]],
    other: tuple[Any, tuple[Any, ...], tuple[int, ...]],
    structure: tuple[Any, Any, int, int, int],
    wanted: bool,
) -> tuple[int, memoryview | bytes | None] | None:
    """Tell what two entries of a structure hold that lie where they lay, if that is the same.

    Args:
        one: Layers of one entry, its tensors, and where they begin.
        other: The same of the other.
        structure: As for ``restage``.
        wanted: Whether what they hold is of interest.

    Returns:
        ``(length, contents)``, contents as ``gather`` returns them if they are wanted; None if either entry lies
        elsewhere or they do not agree.
    """
    _, _, rows, tokens, token_nbytes = structure
    size = placed(*one)
    if not 0 <= size <= tokens or placed(*other) != size:
        return None
    runs = (rows, tokens * token_nbytes, size * token_nbytes)
    if not equal(one[2], other[2], *runs):
        return None
    return size, gather(one[2], *runs) if wanted else None

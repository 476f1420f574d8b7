"""Hashes and comparisons of entries as kernels on their own device, whose results nobody waits for.

A fingerprint is the inner product, modulo 2 ** 64, of the bits of one buffer's valid region, read as whole numbers of
at most 32 bits, with odd pseudo-random weights by position (multilinear hashing: Carter and Wegman 1979; Lemire and
Kaser 2013). Two different regions share one with a probability of at most 2 ** -32 over the choice of weights, of about
2 ** -63 if they differ in a low bit somewhere, and never if one number differs. Weights come from arithmetic on the
device, not from a generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shadow.memory.buffers import Leaf, one_view, ordinary
from shadow.memory.regions import BYTES_ARE_VALUES

_WORD = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}  # 64 bits are read as two words
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SEED = 0x1F83D9ABFB41BD6B
_WITHIN = (-4, -3, -2, -1)  # sample, head, token, word

Layout = tuple[tuple[tuple[int, ...], torch.dtype, torch.device, int], ...]


def layout_of(entry: Sequence[Leaf]) -> Layout:
    """Return ``(shape, dtype, device, valid length)`` per leaf of a regular entry, as a ``Digest`` carries it."""
    tensor, size = entry[0]
    return ((tuple(tensor.shape), tensor.dtype, tensor.device, size),) * len(entry)


def like(entry: Sequence[Leaf], layout: Layout) -> bool:
    """Tell whether an entry is regular and of the layout of a regular one."""
    return len(entry) == len(layout) and regular(entry) and layout_of(entry[:1])[0] == layout[0]


def regular(entry: Sequence[Leaf]) -> bool:
    """Tell whether all leaves are dense buffers of one structure on one device whose bits are their values."""
    if not entry:
        return False
    first, size = entry[0]
    if not isinstance(first, Tensor) or first.ndim != 4 or first.dtype not in BYTES_ARE_VALUES or type(size) is not int:
        return False
    shape, dtype, device = first.shape, first.dtype, first.device
    return 0 <= size <= shape[2] and all(
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and tensor.shape == shape
        and tensor.dtype is dtype
        and tensor.device == device
        and length == size
        and not tensor.is_neg()
        for tensor, length in entry
    )


def together(entry: Sequence[Leaf]) -> Tensor:
    """Return the valid regions of a regular entry as one tensor ``(leaves, B, num_heads, size, head_dim)``.

    A view where the buffers lie at equal distances in one allocation, as caches make them; else a copy.
    """
    found = one_view(entry)
    return torch.stack([tensor.detach()[:, :, :size] for tensor, size in entry]) if found is None else found


def words(values: Tensor) -> Tensor:
    """Return the bits of contiguous values as whole numbers of at most 32 bits, along the last dimension."""
    return values.view(_WORD[values.element_size()])


def fingerprints(numbers: Tensor, weights: Tensor, out: Tensor) -> None:
    """Hash each ``(B, num_heads, size, words)`` of a tensor of whole numbers.

    Args:
        numbers: ``(..., B, num_heads, size, words)``.
        weights: At least as many as one of them has numbers.
        out: ``(...)``, int64, where the hashes go; 0 for an empty region.
    """
    within = numbers.shape[-4:]
    torch.sum(numbers * weights[: within.numel()].view(within), _WITHIN, out=out)


def mismatches(one: Tensor, other: Tensor, out: Tensor) -> None:
    """Count how many elements of each ``(B, num_heads, size, head_dim)`` differ in their bits; ``out`` is ``(...)``."""
    bits = _BITS[one.element_size()]
    torch.sum(torch.ne(one.view(bits), other.view(bits)), _WITHIN, dtype=torch.int64, out=out)


def make_weights(count: int, device: torch.device) -> Tensor:
    """Return odd 64-bit weights for so many positions; those of a position do not depend on the count (splitmix64)."""
    with ordinary():
        x = torch.arange(1, count + 1, dtype=torch.int64, device=device) * _signed(0x9E3779B97F4A7C15) + _SEED
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ _shifted(x, shift)) * _signed(factor)
        return (x ^ _shifted(x, 31)) | 1


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right without the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def unlike_empty(value: int) -> int:
    """Return a hash that is not 0, which stands for an empty region; zeros hash to 0 as well otherwise."""
    return (value ^ _SEED) & ((1 << 64) - 1)

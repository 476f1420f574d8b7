"""Hashes and comparisons of entries as kernels on their own device, whose results nobody waits for.

A fingerprint is the inner product, modulo 2 ** 64, of the bits of one buffer's valid region, read as whole numbers of
at most 32 bits, with odd pseudo-random weights by position (multilinear hashing: Carter and Wegman 1979; Lemire and
Kaser 2013). Two different regions share one with a probability of at most 2 ** -32 over the choice of weights, of about
2 ** -63 if they differ in a low bit somewhere, and never if one number differs. Weights come from arithmetic on the
device, not from a generator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shadow.located import anywhere
from shadow.memory.buffers import ordinary
from shadow.memory.regions import Region, of_leaves
from validator.entries.readable import entry_leaves

_WORD = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}  # 64 bits are read as two words
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SEED = 0x1F83D9ABFB41BD6B


def located(entry: Any) -> Region | None:
    """Return where a regular entry lies, on any device; None of one that is not regular, or no entry."""
    return anywhere(entry) or of_leaves(entry_leaves(entry) or (), anywhere=True)


def look(entries: Tensor, weights: Tensor | None, out: Tensor) -> None:
    """Hash entries and compare pairs of them, a handful of kernels for all.

    Args:
        entries: Valid regions ``(units, 1 or 2, leaves, B, num_heads, size, head_dim)``.
        weights: At least as many as a leaf has words; None to compare alone.
        out: ``(units, numbers)``, int64: per unit the hash of each leaf of each entry, 0 for an empty region, and of a
            pair per leaf how many of its numbers differ in their bits.
    """
    units, each, leaves = entries.shape[:3]
    hashed = 0
    if weights is not None:
        hashed = each * leaves
        numbers = entries.view(_WORD[entries.element_size()]).to(torch.int64).flatten(3)  # mixed products are slow
        torch.sum(numbers.mul_(weights[: numbers.shape[3]]), 3, out=out[:, :hashed].view(units, each, leaves))
    if each == 2:
        bits = entries.view(_BITS[entries.element_size()])
        differ = torch.ne(bits[:, 0], bits[:, 1]).flatten(2)
        torch.sum(differ, 2, dtype=torch.int64, out=out[:, hashed:])


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

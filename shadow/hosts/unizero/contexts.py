"""The contexts of several envs side by side: entries stacked to one batch, each row with a length of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shadow.entry import KeysValues, KVCache, leaves
from shadow.lent import readable


class Contexts:
    """Stacked keys and values, left-aligned: row ``i`` is valid in ``[0, lengths[i])``, zero beyond.

    The stack is a copy; entries handed in are only read, and entries handed out are views of the stack, which a cache
    copies when it stores them.

    Args:
        block: ``(num_layers, 2, B, num_heads, T, head_dim)``; index 1 is keys, then values.
        lengths: Valid tokens per row.
    """

    def __init__(self, block: Tensor, lengths: list[int]) -> None:
        self.block = block
        self.lengths = lengths

    @classmethod
    def stack(cls, entries: Sequence[Any | None], blank: Tensor) -> Contexts:
        """Stack entries of different lengths; None stands for an empty context.

        Args:
            entries: B entries of one sample each.
            blank: Zeros ``(num_layers, 2, 1, num_heads, T, head_dim)``, the buffers of an empty context.

        Returns:
            The contexts, sharing no memory with the entries.
        """
        num_layers, _, _, num_heads, capacity, head_dim = blank.shape
        empty = [buffer for layer in blank for buffer in layer]
        columns = []
        lengths = []
        for entry in entries:
            if entry is None:
                columns.append(empty)
                lengths.append(0)
            else:
                found = leaves(readable(entry))
                columns.append([leaf.tensor for leaf in found])
                lengths.append(found[0].size)
        tensors = [column[leaf] for leaf in range(2 * num_layers) for column in columns]
        block = torch.cat(tensors).view(num_layers, 2, len(columns), num_heads, capacity, head_dim)
        # Memory beyond the valid length is uninitialised. Masking scores alone is not enough: 0 * NaN is NaN.
        positions = torch.arange(capacity, device=block.device)
        beyond = positions >= torch.tensor(lengths, device=block.device)[:, None]
        block.masked_fill_(beyond[None, None, :, None, :, None], 0.0)
        return cls(block, lengths)

    @property
    def capacity(self) -> int:
        """Tokens a row can hold."""
        return int(self.block.shape[4])

    def trim(self, row: int, kept: int) -> None:
        """Drop the oldest tokens of one row; an even number, so that a latent token stays first.

        Positions need no correction: the transformer sees distances only, and those are counted from the newest token.

        Args:
            row: Row to trim.
            kept: Tokens to keep.

        Raises:
            ValueError: If there are fewer, or half a pair would be dropped.
        """
        length = self.lengths[row]
        if not 0 <= kept <= length or (length - kept) % 2:
            raise ValueError(f"can't keep {kept} of {length} tokens: an even number of oldest ones has to go")
        rows = self.block[:, :, row]
        rows[..., :kept, :] = rows[..., length - kept : length, :].clone()
        rows[..., kept:, :] = 0.0
        self.lengths[row] = kept

    def make_room(self, tokens: int) -> None:
        """Drop the oldest pairs of every row that could not take so many more tokens."""
        for row, length in enumerate(self.lengths):
            excess = length + tokens - self.capacity
            if excess > 0:
                self.trim(row, max(0, length - (excess + excess % 2)))

    def entry(self, row: int) -> KeysValues:
        """Return one row as an entry with its own length, a view of the stack."""
        found = []
        for k, v in self.block[:, :, row : row + 1]:
            layer = KVCache.over(k, v)
            layer._k_cache._size = layer._v_cache._size = self.lengths[row]
            found.append(layer)
        return KeysValues.from_layers(found)

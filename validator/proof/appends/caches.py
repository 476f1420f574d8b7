"""A sound append cache without transformers: the interface of its caches, and the layout of its dynamic layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Windows = tuple[int | None, ...]


class GrowingLayer:
    """Keys and values ``(rows, heads, positions, head_dim)`` of the last tokens: all, or a window less one."""

    def __init__(self, window: int | None) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.sliding_window = window
        self.seen = 0

    def get_seq_length(self) -> int:
        """Return how many tokens were appended."""
        return self.seen


class GrowingCache:
    """Grows by concatenation, as ``DynamicCache`` does; what is planted replaces one of its small methods.

    Args:
        windows: The window of each layer, None for one that keeps everything.
    """

    def __init__(self, windows: Windows = (None, 4, None)) -> None:
        self.layers = [GrowingLayer(window) for window in windows]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Append keys and values to a layer; return all that its attention needs."""
        layer = self.layers[layer_idx]
        keys, values = self.taken(layer_idx, keys, values)
        full = keys, values
        if layer.keys is not None and layer.values is not None:
            full = torch.cat((layer.keys, keys), 2), torch.cat((layer.values, values), 2)
        layer.seen += keys.shape[2]
        layer.keys, layer.values = (self.kept(layer, part).clone() for part in full)
        return self.answer(layer_idx, *full)

    def taken(self, layer_idx: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is appended."""
        return keys, values

    def kept(self, layer: GrowingLayer, part: Tensor) -> Tensor:
        """Return what of keys or values is still needed when the next tokens come."""
        window = layer.sliding_window
        return part if window is None else part[:, :, max(0, part.shape[2] - window + 1) :]

    def answer(self, layer_idx: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is answered."""
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens a layer has seen."""
        return self.layers[layer_idx].seen

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return how many columns an update by so many tokens will answer, and the position of the first."""
        layer = self.layers[layer_idx]
        held = layer.seen if layer.sliding_window is None else min(layer.seen, layer.sliding_window - 1)
        return held + query_length, layer.seen - held

    def reset(self) -> None:
        """Hold nothing."""
        for layer in self.layers:
            layer.keys = layer.values = None
            layer.seen = 0

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last tokens; the number is negative."""
        for layer in self.layers:
            if layer.sliding_window is not None and layer.seen >= layer.sliding_window:
                raise RuntimeError("what lies behind the window is gone")
        for layer in self.layers:
            self.cropped(layer, -tokens_to_remove)

    def cropped(self, layer: GrowingLayer, count: int) -> None:
        """Drop the last tokens of one layer."""
        if layer.keys is not None and layer.values is not None and count:
            layer.keys, layer.values = layer.keys[:, :, :-count], layer.values[:, :, :-count]
            layer.seen = max(0, layer.seen - count)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put other rows in the place of each."""
        self.chosen(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.chosen(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row, beside itself."""
        rows = next((layer.keys.shape[0] for layer in self.layers if layer.keys is not None), 0)
        self.chosen(torch.arange(rows).repeat_interleave(repeats))

    def chosen(self, rows: Tensor) -> None:
        """Hold these rows."""
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]


class FixedLayer(GrowingLayer):
    """Room for so many tokens from the start, as a static layer has."""

    def __init__(self, room: int) -> None:
        super().__init__(None)
        self.max_cache_len = room


class FixedCache(GrowingCache):
    """Writes into room for so many tokens, as ``StaticCache`` does, and answers all of it."""

    def __init__(self, layers: int, room: int) -> None:
        super().__init__(())
        self.layers = [FixedLayer(room) for _ in range(layers)]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Write keys and values behind what a layer holds; return its whole room."""
        layer: Any = self.layers[layer_idx]
        if layer.keys is None or layer.keys.shape[0] != keys.shape[0]:
            shape = (*keys.shape[:2], layer.max_cache_len)
            layer.keys, layer.values = (
                keys.new_zeros((*shape, keys.shape[3])),
                values.new_zeros((*shape, values.shape[3])),
            )
        end = layer.seen + keys.shape[2]
        layer.keys[:, :, layer.seen : end], layer.values[:, :, layer.seen : end] = keys, values
        layer.seen = end
        return layer.keys, layer.values

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the room, which begins at position 0."""
        layer: Any = self.layers[layer_idx]
        return layer.max_cache_len, 0

    def cropped(self, layer: GrowingLayer, count: int) -> None:
        """Forget that the last tokens were there."""
        layer.seen = max(0, layer.seen - count)

"""Small entries with known values, and the one way the tests of this package compare them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from shadow.entry import Cache, KeysValues, KVCache, leaves
from shadow.memory.buffers import Leaf


def tokens_of(number: float, leaf: int, batch: int, heads: int, length: int, head_dim: int, dtype: Any) -> Tensor:
    """Return ``(batch, heads, length, head_dim)`` values that differ in every cell, leaf and number."""
    cells = torch.arange(batch * heads * length * head_dim, dtype=torch.float64).reshape(batch, heads, length, head_dim)
    return (number * 64 + leaf + cells / 256).to(dtype)


def make_entry(
    number: float,
    *,
    size: int = 3,
    batch: int = 1,
    heads: int = 2,
    max_tokens: int = 4,
    head_dim: int = 2,
    layers: int = 2,
    dtype: torch.dtype = torch.float32,
) -> KeysValues:
    """Make an entry whose values follow from ``number``; beyond the valid length it is NaN, so reading there shows."""
    made = []
    for layer in range(layers):
        sides = []
        for side in range(2):
            buffer = torch.full((batch, heads, max_tokens, head_dim), float("nan"), dtype=dtype)
            buffer[:, :, :size] = tokens_of(number, 2 * layer + side, batch, heads, size, head_dim, dtype)
            sides.append(Cache.over(buffer, size))
        made.append(layer_of(*sides))
    return KeysValues.from_layers(made)


def layer_of(k: Cache, v: Cache) -> KVCache:
    """Make a layer of two caches, whatever their shapes and lengths."""
    layer = KVCache.over(k._cache, v._cache)
    layer._k_cache, layer._v_cache = k, v
    return layer


def foreign_entry(*pairs: tuple[Any, Any], **container: Any) -> Any:
    """Make an entry of another library's classes: one ``(k, v)`` pair of ``(tensor, size)`` per layer.

    Args:
        pairs: Buffers and valid lengths.
        container: What the container claims about itself, true or not.
    """

    def cache(tensor: Any, size: Any) -> Any:
        return SimpleNamespace(_cache=tensor, _size=size)

    layers = tuple(SimpleNamespace(_k_cache=cache(*k), _v_cache=cache(*v)) for k, v in pairs)
    return SimpleNamespace(_keys_values=layers, **container)


def valid(leaf: Leaf) -> Tensor:
    """Return the defined cells of a leaf."""
    return leaf.tensor[:, :, : leaf.size]


def snapshot(entry: Any) -> list[Leaf]:
    """Copy everything defined of an entry, to compare with later."""
    return [Leaf(valid(leaf).detach().clone(), leaf.size) for leaf in leaves(entry)]


def assert_equal_entries(actual: Any, expected: Any) -> None:
    """Assert equal layers, lengths, dtypes, shapes and bits of the valid region.

    Args:
        actual: Entry that came out.
        expected: Entry or ``snapshot`` that it must equal.
    """
    assert actual is not None, "expected an entry, got None"
    actual_leaves = leaves(actual)
    expected_leaves = expected if isinstance(expected, list) else leaves(expected)
    assert len(actual_leaves) == len(expected_leaves)
    for index, (got, want) in enumerate(zip(actual_leaves, expected_leaves, strict=True)):
        where = f"layer {index // 2} {'KV'[index % 2]}"
        assert got.size == want.size, where
        assert got.tensor.dtype == want.tensor.dtype, where
        assert valid(got).shape == valid(want).shape, where
        assert raw_bytes(valid(got)) == raw_bytes(valid(want)), f"{where}: {valid(got)} != {valid(want)}"


def raw_bytes(tensor: Tensor) -> bytes:
    """Return the bits of a tensor: NaN equals NaN here, and 0.0 differs from -0.0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def scribble_over(entry: Any) -> None:
    """Overwrite every cell of an entry in place, as a host does that goes on using its object."""
    for leaf in leaves(entry):
        leaf.tensor.detach().fill_(-777.0)

"""Nests of every make, with known values: what a cache may be given to store besides a ``KeysValues``."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shadow.entries import form_of, leaves
from tests.shadow.entries import raw_bytes


class Pair(NamedTuple):
    """Keys and values."""

    k: Tensor
    v: Tensor


Untyped = namedtuple("Untyped", ["k", "v"])  # of such a make too


@dataclass(frozen=True)
class Quantised:
    """Codes of eight bits and their scales."""

    codes: Tensor
    scale: Tensor
    bits: int = 8


@dataclass
class Layer:
    """One that can be written to, with something in it that is a nest again."""

    pair: Pair
    more: dict[str, Any]


class Opaque:
    """What can't be taken apart unless somebody says how."""

    def __init__(self, k: Tensor, v: Tensor, name: str = "own") -> None:
        self.k = k
        self.v = v
        self.name = name


def floats(number: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return values that differ in every cell and number."""
    cells = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    return (number * 64 + cells / 256).to(dtype)


def make_nest(number: float) -> dict[str, Any]:
    """A nest of all that there is: containers of every kind, mixed dtypes, no element, one element, plain values."""
    return {
        "layers": [
            Layer(Pair(floats(number, 2, 3, 4), floats(number + 0.25, 2, 3, 4)), {"step": 3, "rope": None}),
            Quantised(floats(number, 4, 6).to(torch.int8), floats(number + 0.5, 4, 1, dtype=torch.float16)),
        ],
        "pair": Untyped(floats(number + 0.125, 5), (floats(number + 0.75), floats(number, 0, 3))),
        "ordered": OrderedDict(b=floats(number + 2, 2, 2, 2, 2), a=floats(number + 3, 2, 2, dtype=torch.float64)),
        7: floats(number + 4, 3, 2)[:, ::2],
    }


def assert_equal_nests(one: Any, other: Any) -> None:
    """Assert the same form, and leaf by leaf the same structure and bits."""
    mine, theirs = leaves(one), leaves(other)
    assert form_of(mine) == form_of(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert (a.tensor.shape, a.tensor.dtype, a.tensor.stride()) == (
            b.tensor.shape,
            b.tensor.dtype,
            b.tensor.stride(),
        )
        assert raw_bytes(a.tensor) == raw_bytes(b.tensor)


PATHS = [
    *("[7]", "layers.0.pair.k", "layers.0.pair.v", "layers.1.codes", "layers.1.scale"),
    *("ordered.a", "ordered.b", "pair.k", "pair.v.0", "pair.v.1"),
]

"""Entries made of their digests: what was equal stays equal, what was different stays different; values are drawn."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from reports.record.trace import Layout
from shadow.entry import KeysValues, KVCache, leaves
from validator.entries.compare import valid
from validator.errors import LockstepError

_POOL = 1 << 18  # numbers to draw from
_MOST_BYTES = 1 << 30  # of one entry
_FINE = ("float32", "float64")  # whose elements tell 2^21 values apart; those of the others 2^7 at least


class Body(NamedTuple):
    """A recipe for one entry.

    Attributes:
        digest: 64 bits that tell its values from those of others.
        layout: Per leaf ``(shape, dtype, device, valid length)``.
    """

    digest: int
    layout: Layout


class CannotMake(LockstepError):
    """An entry is of a structure that can't be made here."""


def blank(layout: Layout) -> KeysValues:
    """Allocate an entry, in host memory whatever device it was on.

    Raises:
        CannotMake: If it is no entry of keys and values by layer.
    """
    if not layout or len(layout) % 2 or any(len(shape) != 4 for shape, *_ in layout):
        raise CannotMake(
            f"an entry of {len(layout)} tensors can't be made: expected keys and values of each layer, 4-d"
        )
    try:
        n_bytes = sum(int(np.prod(shape)) * 8 for shape, *_ in layout)
        if n_bytes > _MOST_BYTES or any(not 0 <= size <= shape[2] for shape, _, _, size in layout):
            raise ValueError(f"{n_bytes:,} bytes")
        if len({leaf[:2] for leaf in layout}) == 1:  # one block, so that it is dense
            shape, dtype, _, _ = layout[0]
            buffers = [*torch.zeros((len(layout), *shape), dtype=getattr(torch, dtype), device="cpu")]
        else:
            buffers = [torch.zeros(shape, dtype=getattr(torch, dtype), device="cpu") for shape, dtype, _, _ in layout]
    except (AttributeError, TypeError, ValueError, RuntimeError) as problem:
        raise CannotMake(f"an entry of this layout can't be made: {problem}") from None
    made = KeysValues.from_layers(KVCache.over(k, v) for k, v in zip(buffers[::2], buffers[1::2], strict=True))
    halves = [half for layer in made for half in (layer._k_cache, layer._v_cache)]
    for half, (_, _, _, size) in zip(halves, layout, strict=True):
        half._size = size
    return made


def fill(entry: KeysValues, body: Body) -> None:
    """Give an entry of the body's layout the values of its digest: the same ones for the same digest, ever."""
    pool = _pool()
    for number, (leaf, (_, dtype, _, _)) in enumerate(zip(leaves(entry), body.layout, strict=True)):
        region = valid(leaf)
        count = region.numel()
        if not count:
            continue
        at = (body.digest * (2 * number + 1) * 0x9E3779B97F4A7C15 >> 20) % _POOL
        values = (
            np.take(pool, range(at, at + count), mode="wrap") if at + count > _POOL else pool[at : at + count].copy()
        )
        marks = _marks(body.digest, dtype in _FINE)
        marks = np.roll(marks, -number)[:count]  # leaves that are too small for all of them hold different ones
        values[: len(marks)] = marks
        whole = torch.from_numpy(values).view(region.shape)
        region.copy_(whole if region.is_floating_point() else whole * 128)


@cache
def _pool() -> Any:
    return np.random.default_rng(0).standard_normal(_POOL)


def _marks(digest: int, fine: bool) -> Any:
    """Cut a digest into numbers below 1 that are exact in the element type."""
    bits = 21 if fine else 7
    return np.array([((digest >> at) & ((1 << bits) - 1)) / (1 << bits) for at in range(0, 64, bits)])


class Bodies:
    """Makes entries as a host does that reuses its buffers: one scratch entry per layout, written over and over."""

    def __init__(self) -> None:
        self._scratch: dict[Layout, KeysValues] = {}

    def __call__(self, body: Body) -> KeysValues:
        """Return the entry; it holds these values until the next of its layout is asked for."""
        scratch = self._scratch.get(body.layout)
        if scratch is None:
            scratch = self._scratch[body.layout] = blank(body.layout)
        fill(scratch, body)
        return scratch

"""Entries made of their digests: what was equal stays equal, what was different stays different; values are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from reports.record.trace import Form, Layout
from shadow.entry import KeysValues, KVCache, leaves
from shadow.memory.buffers import WHOLE
from validator.errors import LockstepError
from validator.replay.nests import Nest

_POOL = 1 << 18  # numbers to draw from
_WORD = (1 << 64) - 1
_LEAVES_MOST = 4096
_OF_LEAVES = np.random.default_rng(1).integers(0, 1 << 64, _LEAVES_MOST, dtype=np.uint64)  # tells leaves apart
_MOST_BYTES = 1 << 30  # of one entry
_NONE: Mapping[Any, Any] = MappingProxyType({})
_NUMBERS = (1 << 42) - 1  # of nests, each a number
_FINE = ("float32", "float64")  # whose elements tell 2^21 values apart; those of the others 2^7 at least


class Body(NamedTuple):
    """A recipe for one entry.

    Attributes:
        digest: 64 bits that tell its values from those of others.
        layout: Per leaf ``(shape, dtype, device, valid length)``.
        form: Of a nest, what it is besides these; None of a ``KeysValues``.
    """

    digest: int
    layout: Layout
    form: Form | None = None


class CannotMake(LockstepError):
    """An entry is of a structure that can't be made here."""


class Scratch:
    """One entry of a layout, in host memory whatever device it was on, that is filled over and over.

    Raises:
        CannotMake: If it is no entry of keys and values by layer.
    """

    def __init__(self, layout: Layout) -> None:
        if not layout or len(layout) % 2 or any(len(shape) != 4 for shape, *_ in layout):
            raise CannotMake(f"an entry of {len(layout)} tensors can't be made: expected K and V of each layer, 4-d")
        try:
            n_bytes = sum(8 * prod(shape) for shape, *_ in layout)
            if (
                len(layout) > _LEAVES_MOST
                or n_bytes > _MOST_BYTES
                or any(not 0 <= size <= shape[2] for shape, _, _, size in layout)
            ):
                raise ValueError(f"{n_bytes:,} bytes")
            # Leaves that are alike lie in one block, so that an entry is dense and filled at once.
            alike = len(set(layout)) == 1
            groups = [layout] if alike else [(leaf,) for leaf in layout]
            blocks = [torch.zeros((len(g), *g[0][0]), dtype=getattr(torch, g[0][1]), device="cpu") for g in groups]
        except (AttributeError, TypeError, ValueError, RuntimeError) as problem:
            raise CannotMake(f"an entry of this layout can't be made: {problem}") from None
        buffers = [leaf for block in blocks for leaf in block]
        self.entry = KeysValues.from_layers(
            KVCache.over(k, v) for k, v in zip(buffers[::2], buffers[1::2], strict=True)
        )
        halves = [half for layer in self.entry for half in (layer._k_cache, layer._v_cache)]
        for half, (_, _, _, size) in zip(halves, layout, strict=True):
            half._size = size
        self._parts, first = [], 0
        for block, (shape, dtype, _, size), group in zip(blocks, (g[0] for g in groups), groups, strict=True):
            if size and prod(shape):
                self._parts.append(_Part(block[:, :, :, :size], dtype in _FINE, first))
            first += len(group)

    def fill(self, digest: int) -> KeysValues:
        """Give the entry the values of a digest: the same ones for the same digest, ever; return it."""
        seed = _mixed(digest)
        for part in self._parts:
            part.fill(seed)
        return self.entry


class _Part:
    """Leaves that are alike.

    Args:
        region: Their valid regions, ``(leaves, B, num_heads, size, head_dim)``.
        fine: Whether their elements tell 2^21 values apart.
        first: Ordinal of the first of them in its entry.
    """

    def __init__(self, region: torch.Tensor, fine: bool, first: int) -> None:
        bits = 21 if fine else 7
        self._shifts = np.arange(0, 64, bits, dtype=np.uint64)[: region[0].numel()]
        in_place = region.dtype is torch.float32 and (region.is_contiguous() or region.shape[-1] >= len(self._shifts))
        self._first, self._count = first, region.numel()
        self._target = None if in_place else region
        self._drawn = region if in_place else torch.empty(region.shape, device="cpu", dtype=torch.float32)
        self._values = values = self._drawn.numpy()
        rows = values.reshape(len(region), -1) if self._drawn.is_contiguous() else values[:, 0, 0, 0]
        self._marks = rows[:, : len(self._shifts)]
        self._mask, self._scale = np.uint64((1 << bits) - 1), 2.0**-bits  # exact in every type
        self._of_leaves = self._spelt(_OF_LEAVES[first : first + len(region), None])

    def fill(self, seed: int) -> None:
        """Draw all values by a seed, and spell it at the beginning of each leaf."""
        count, values = self._count, self._values
        at = (seed + self._first) % (_POOL - count) if count < _POOL else 0
        drawn = _pool()[at : at + count] if count < _POOL else np.resize(_pool(), count)
        values[...] = drawn.reshape(values.shape)
        np.multiply(self._of_leaves ^ self._spelt(np.uint64(seed)), self._scale, out=self._marks)
        if self._target is not None:
            self._target.copy_(self._drawn if self._target.is_floating_point() else self._drawn * 128)

    def _spelt(self, numbers: Any) -> Any:
        return numbers >> self._shifts & self._mask


def _mixed(digest: int) -> int:
    """Permute 64 bits (the finaliser of splitmix64), so that those that are cut off tell no less than the others."""
    x = (digest ^ (digest >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


@cache
def _pool() -> Any:
    return np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)


class Bodies:
    """Makes entries, as a host does that reuses its buffers: one scratch entry per layout, written over and over.

    Args:
        anew: Make each entry of memory of its own, as for a cache that keeps what it is given. Nests always are.
        kept: Entries that are known whole: the bytes of their valid regions, leaf by leaf.

    Attributes:
        stand_ins: Classes that can't be imported here; a dict or a tuple stands for each of their objects.
    """

    def __init__(self, anew: bool = False, kept: Mapping[Body, Any] = _NONE) -> None:
        self.kept = dict(kept)
        self.stand_ins: set[str] = set()
        self._anew = anew
        self._scratch: dict[Layout, Scratch] = {}
        self._nests: dict[Form, Nest] = {}
        self._numbers: dict[Body, int] = {}

    def __call__(self, body: Body) -> Any:
        """Return the entry; one that is not made anew holds these values until the next of its layout is asked for.

        Raises:
            CannotMake: If there is no such entry.
        """
        if body.form is not None:
            return self._nest(body, body.form)
        scratch = self._scratch.get(body.layout)
        if scratch is None or self._anew:
            scratch = self._scratch[body.layout] = Scratch(body.layout)
        if (whole := self.kept.get(body)) is None:
            return scratch.fill(body.digest)
        for (tensor, size), values in zip(leaves(scratch.entry), _tensors(body.layout, whole), strict=True):
            tensor[:, :, :size] = values
        return scratch.entry

    def _nest(self, body: Body, form: Form) -> Any:
        """Make a nest. Its tensors may be of few elements, so it is its number among all that tells it apart."""
        try:
            nest = self._nests.get(form)
            if nest is None:
                nest = self._nests[form] = Nest(form)
                self.stand_ins |= nest.stand_ins
            number = self._numbers.setdefault(body, len(self._numbers))
            if sum(8 * prod(shape) for shape, *_ in body.layout) > _MOST_BYTES:
                raise ValueError("too large")
            if (whole := self.kept.get(body)) is not None:
                return nest.of(_tensors(body.layout, whole))
            return nest.of(_tensor(shape, dtype, number, leaf) for leaf, (shape, dtype, *_) in enumerate(body.layout))
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, StopIteration) as problem:
            raise CannotMake(f"a nest of this form can't be made: {problem}") from None


def _tensors(layout: Layout, whole: Any) -> Iterator[torch.Tensor]:
    """Yield the valid regions of the leaves of an entry that is known whole."""
    at = 0
    for shape, dtype, _, size in layout:
        own = shape if size == WHOLE else (*shape[:2], size, *shape[3:])
        kind = getattr(torch, dtype)
        end = at + prod(own) * kind.itemsize
        yield torch.from_numpy(np.array(whole[at:end])).view(kind).reshape(own)
        at = end


def _tensor(shape: tuple[int, ...], dtype: str, number: int, leaf: int) -> torch.Tensor:
    """Make one tensor of a nest: its first elements spell the number, the others are drawn by it."""
    kind, count = getattr(torch, dtype), prod(shape)
    bits = 1 if dtype == "bool" else 3 if dtype.startswith("float8") else 21 if dtype in _FINE or kind.is_complex else 7
    at = (_mixed(number) + leaf) % _POOL
    values = np.resize(_pool()[at : at + count], count) * 31  # eight bits hold it
    spelt = (number ^ int(_OF_LEAVES[leaf % _LEAVES_MOST])) & _NUMBERS
    marks = [spelt >> shift & (1 << bits) - 1 for shift in range(0, _NUMBERS.bit_length(), bits)][:count]
    whole = not (kind.is_floating_point or kind.is_complex)
    values[: len(marks)] = np.array(marks) * (1.0 if whole else 2.0**-bits)  # exact in every type
    return torch.from_numpy(values).reshape(shape).to(kind)

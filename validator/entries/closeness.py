"""How far apart are values that count as equal within a tolerance? The greatest error, by layer and over positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shadow.entries import form_of, paths
from shadow.memory.buffers import Leaf
from validator.entries.compare import Tolerance, differences, numbers, valid

_MOST = 64  # leaves that are named


class Closeness:
    """The greatest distances of one pair.

    Args:
        tolerance: When unequal bits still count as equal; None for never.
    """

    def __init__(self, tolerance: Tolerance | None) -> None:
        self.tolerance = tolerance
        self._by_leaf: dict[str, tuple[float, int | None]] = {}  # with the position, where there is one
        self._over: dict[int, float] = {}  # by how many bits a position has: 0, 1, 2-3, 4-7, ...

    def covers(self, one: Sequence[Leaf], other: Sequence[Leaf], layer: int | None = None, begin: int = 0) -> bool:
        """Tell whether leaves are equal within the tolerance, and keep how far apart they are if so.

        Args:
            one: Leaves of the control.
            other: Leaves of the candidate.
            layer: Their layer; None for entries, which hold them all.
            begin: Absolute position of their first column.
        """
        if self.tolerance is None or differences(one, other, self.tolerance):
            return False
        names = paths(form_of(one), len(one)) if layer is None else [f"layer{layer}.k", f"layer{layer}.v"]
        for name, mine, theirs in zip(names, one, other, strict=True):
            self._keep(name, _wide(mine), _wide(theirs), begin)
        return True

    def told(self) -> str:
        """Say what was kept since this was asked last; nothing where all bits were equal."""
        leaves = [
            f"{name} {top:.1e}{'' if at is None else f' at position {at:,}'}"
            for name, (top, at) in self._by_leaf.items()
        ]
        over = [f"{1 << n >> 1:,}-{(1 << n) - 1:,}: {top:.1e}" for n, top in sorted(self._over.items())]
        more = [f"{len(leaves) - _MOST:,} more"] if len(leaves) > _MOST else []
        self._by_leaf.clear()
        self._over.clear()
        said = "greatest error: " + ", ".join(leaves[:_MOST] + more) if leaves else ""
        return said + "; over positions " + ", ".join(over) if over else said

    def _keep(self, name: str, one: Tensor, other: Tensor, begin: int) -> None:
        apart = (one - other).abs().nan_to_num(0.0, 0.0, 0.0)
        if not apart.numel():
            return
        if apart.ndim != 4:  # of a nest nobody knows where positions are
            best: tuple[float, int | None] = float(apart.amax()), None
        else:
            by_position = apart.amax((0, 1, 3)).tolist()
            best = max((top, begin + column) for column, top in enumerate(by_position))
            for column, top in enumerate(by_position):
                bits = (begin + column).bit_length()
                self._over[bits] = max(top, self._over.get(bits, 0.0))
        if best[0] >= self._by_leaf.get(name, (0.0, None))[0]:
            self._by_leaf[name] = best


def _wide(leaf: Leaf) -> Tensor:
    found = numbers(valid(leaf)).cpu()
    return found.to(torch.complex128 if found.is_complex() else torch.float64)

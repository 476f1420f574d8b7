"""How close is what is stored to a recomputation, where do they differ, and what explains it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor

from reports.record.records import LeafDifference, called
from shadow.entry import KeysValues, KVCache
from shadow.memory.buffers import WHOLE, Leaf
from shadow.recompute import Recomputed, Suspicion, Tensors
from validator.entries.compare import Tolerance, differences

FLOOR: Final = 1 / 3  # of the tolerance: where two recomputations of the same differ by more, nothing is judged


class Explained(NamedTuple):
    """What explains what was found; None for nothing that was tried."""

    what: Suspicion | None
    detail: str = ""


def close(found: Tensors, expected: Tensors, tolerance: Tolerance) -> bool:
    """Tell whether all tensors have the shapes and dtypes that are expected, and values within the tolerance."""
    return len(found) == len(expected) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and one.device == other.device
        and torch.allclose(one, other, tolerance.rtol, tolerance.atol)
        for one, other in zip(found, expected, strict=True)
    )


def distance(found: Tensors, expected: Tensors, tolerance: Tolerance) -> float:
    """Return the greatest distance as a share of the tolerance; NaN where there is one."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        shares = (one - other).abs() / (tolerance.atol + tolerance.rtol * other.abs())
        share = float(shares.max()) if shares.numel() else 0.0
        worst = share if not share <= worst else worst
    return worst


def explained(found: Tensors, expected: Recomputed, tolerance: Tolerance) -> Explained:
    """Find what explains what was found: what needs no recomputation, then the host's own suspects, then its tokens."""
    for one in _unaided(found, expected.tensors, tolerance):
        return one
    for suspect in expected.suspects():
        if close(found, suspect.tensors, tolerance):
            return Explained(suspect.what, suspect.detail)
    if expected.tokens_alone and found[1].shape == expected.tensors[1].shape:
        others = apart([found[1]], [expected.tensors[1]], tolerance)
        if others:
            return Explained("another token", f"at {len(others)} positions, first at {others[0] + expected.first}")
    return Explained(None)


def _unaided(found: Tensors, expected: Tensors, tolerance: Tolerance) -> Iterator[Explained]:
    """See whether the right tensors stand in another's place, or the right columns in other places."""
    n, right = found[0].shape[2], expected[0].shape[2]
    shortest = min(n, right)
    by_columns: tuple[tuple[Suspicion, slice, slice], ...] = (
        ("padded length", slice(0, right), slice(0, right)),
        ("begins elsewhere", slice(n - shortest, n), slice(right - shortest, right)),
    )
    if n == right:
        places = [_place_of(one, index, expected, tolerance) for index, one in enumerate(found)]
        if None not in places and places != list(range(len(found))):
            moved = [(at, of) for at, of in enumerate(places) if of is not None and of != at]
            yield Explained("layers mixed", "; ".join(f"{_name(at)} holds {_name(of)}" for at, of in moved[:4]))
        by_columns = tuple(
            ("position off", slice(max(0, by), n + min(0, by)), slice(max(0, -by), n - max(0, by)))
            for by in (1, -1, 2, -2)
            if abs(by) < n
        )
    for what, ours, theirs in by_columns:
        columns = [one[:, :, ours] for one in found], [one[:, :, theirs] for one in expected]
        if (what != "padded length" or n > right) and close(*columns, tolerance):
            zeros = n > right and not any(one[:, :, : n - right].any() for one in found)
            yield Explained("padded length" if zeros else what)


def _place_of(one: Tensor, index: int, expected: Tensors, tolerance: Tolerance) -> int | None:
    order = sorted(range(len(expected)), key=lambda at: at != index)  # its own place first
    return next((at for at in order if close([one], [expected[at]], tolerance)), None)


def _name(index: int) -> str:
    return called(f"layer{index // 2}.{'kv'[index % 2]}")


def shown(found: Tensors, expected: Tensors, tolerance: Tolerance) -> tuple[LeafDifference, ...]:
    """List every tensor that differs: as control's what was found, as candidate's what was expected."""
    ours, theirs = ([Leaf(tensor, WHOLE) for tensor in tensors] for tensors in (found, expected))
    leaves = differences(ours, theirs, tolerance) or differences(ours, theirs)
    return tuple(replace(one, control=f"found {one.control}", candidate=f"expected {one.candidate}") for one in leaves)


def whereabouts(
    found: Tensors, expected: Tensors, leaves: Sequence[LeafDifference], first: int, tolerance: Tolerance
) -> str:
    """Say which tensors differ, and at which positions."""
    names = [one.name for one in leaves]
    text = f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''} of {len(expected)} tensors"
    if [each.shape for each in found] != [each.shape for each in expected]:
        return text
    n = expected[0].shape[2]
    columns = apart(found, expected, tolerance) if all(each.shape[2] == n for each in expected) else []
    if not columns:
        return text
    return f"{text}, at {len(columns)} of {n} positions from {columns[0] + first} to {columns[-1] + first},"


def apart(found: Tensors, expected: Tensors, tolerance: Tolerance) -> list[int]:
    """List the columns in which tensors of one length differ."""
    far = [~torch.isclose(a, b, *tolerance).all(-1).all(1).all(0) for a, b in zip(found, expected, strict=True)]
    columns: list[int] = torch.stack(far).any(0).nonzero()[:, 0].tolist()
    return columns


def entry(tensors: Tensors) -> KeysValues:
    """Make an entry of tensors, so that they can be kept as evidence."""
    layers = []
    for keys, values in zip(tensors[::2], tensors[1::2], strict=True):
        layer = KVCache.over(keys, values)
        layer._k_cache._size, layer._v_cache._size = keys.shape[2], values.shape[2]
        layers.append(layer)
    return KeysValues.from_layers(layers)

"""What stands in the wrong place of an append cache: names what a side answers instead of what was appended."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from validator.entries.compare import numbers
from validator.judge import words
from validator.judge.charge import Finding
from validator.judge.words import Kind
from validator.models.appended import AppendedModel, Source, zero_digest

_LOOKED_UP = 512  # wrong vectors that are looked up; they tell what the others are
_COARSER = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
_NEAR = 0.05  # of the greatest value: closer is rounding


def misplaced(
    model: AppendedModel, layer: int, begin: int, found: Any, tensors: tuple[Tensor, Tensor], right: Any
) -> Finding | None:
    """Find out what a side answers in the place of what was appended.

    Args:
        model: What was appended.
        layer: Layer that was read.
        begin: Absolute position of the first column.
        found: Digests ``(2, rows, columns)`` of what the side answers.
        tensors: What it answers, ``(rows, heads, columns, head_dim)``, keys and values.
        right: The same as it should be, and the position of its first column, where it is at hand, else None.

    Returns:
        What is wrong, or None.
    """
    expected = model.table(layer).expected(begin, begin + found.shape[2])
    wrong = np.argwhere(found != expected)
    if not len(wrong):
        return None
    known = model.sources()
    zeros = [zero_digest(tensor.shape[1] * tensor.shape[3], tensor.dtype) for tensor in tensors]
    votes: Counter[tuple[Any, ...]] = Counter()
    example: dict[tuple[Any, ...], Source] = {}
    for part, row, column in wrong[:: max(1, len(wrong) // _LOOKED_UP)]:
        own = Source(int(part), layer, int(row), begin + int(column))
        digest = int(found[part, row, column])
        if digest == zeros[part]:
            vote: tuple[Any, ...] = (words.ZERO_THERE,)
        else:
            vote = _nearest(own, known.get(digest, []))
        votes[vote] += 1
        example[vote] = own  # the youngest, of which the right values are most likely at hand
    named = max(votes, key=lambda vote: (votes[vote], vote[0] is not words.NEVER_APPENDED))
    own = example[named]
    kind: Kind = named[0]
    if kind is words.NEVER_APPENDED and right is not None and own.position >= right[1]:
        at = own.position - begin, own.position - right[1]
        kind = _how_changed(tensors[own.part][own.row, :, at[0]], right[0][own.part][own.row, :, at[1]])
    facts = {"wrong": len(wrong), "n": found.size, "layer": layer, "row": own.row, "position": own.position}
    return Finding(kind, {**facts, **dict(named[1:])})


def _nearest(own: Source, sources: list[Source]) -> tuple[Any, ...]:
    """Tell from which place a vector came: from the one that has most in common with its own."""
    if not sources:
        return (words.NEVER_APPENDED,)

    def differing(source: Source) -> tuple[int, bool, int]:
        fields = (source.part != own.part, source.layer != own.layer, source.row != own.row)
        moved = abs(source.position - own.position)
        return sum(fields) + bool(moved), bool(source.until), moved

    source = min(sources, key=differing)
    part, other_layer, row = source.part != own.part, source.layer != own.layer, source.row != own.row
    shift = source.position - own.position
    others = (("other_layer", source.layer), ("other_row", source.row), ("shift", shift))
    if source.until == "crop":
        return (words.FROM_BEFORE_CROP,)
    if source.until == "reset":
        return (words.FROM_BEFORE_RESET,)
    if source.until:
        return (words.NOT_REARRANGED, ("verb", source.until))
    if part + other_layer + row + bool(shift) > 1:
        return (words.ELSEWHERE, *others)
    if part:
        return (words.PARTS_MIXED,)
    if other_layer:
        return (words.LAYERS_MIXED, others[0])
    if row:
        return (words.ROW_OF_OTHER, others[1])
    return (words.SHIFTED, others[2])


def _how_changed(found: Tensor, right: Tensor) -> Kind:
    """Tell how values that were never appended came of the right ones."""
    one, other = numbers(found).double(), numbers(right).double()
    if one.shape != other.shape:
        return words.NEVER_APPENDED
    if torch.equal(one.flatten().sort().values, other.flatten().sort().values):
        return words.HEADS_PERMUTED
    for dtype in _COARSER:
        if torch.equal(other.to(found.dtype).to(dtype).double(), one):
            return words.ROUNDED_THERE
    near = (one - other).abs().amax() <= _NEAR * other.abs().amax()
    return words.ROUNDED_THERE if bool(near) else words.NEVER_APPENDED

"""What is wrong with the values one side answers: names how they differ from what was stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reports.record.words import Cause, Dimension
from shadow.entry import Leaf
from shadow.operation import Pool
from validator.entries.compare import same_bits, valid
from validator.entries.digest import Digest
from validator.judge.side import SideView
from validator.models.side_model import Stored


class Finding(NamedTuple):
    """What is wrong with one side.

    Attributes:
        dimension: In what respect.
        cause: Why.
        text: Explanation, a clause whose subject is the side.
    """

    dimension: Dimension
    cause: Cause
    text: str


_STRUCTURE = ((1, Cause.DTYPE_DRIFT, "dtype"), (2, Cause.DEVICE_DRIFT, "device"), (0, Cause.SHAPE_OFF, "shape"))


def wrong_value(
    side: SideView,
    asked: Pool,
    env_id: int | None,
    expected: Stored,
    answer: Sequence[Leaf],
    truth: Sequence[Leaf] | None,
) -> Finding:
    """Name why a side answers a key with something else than was stored.

    Where what it answers was stored once, the name says where and when; then structure, then values are held against
    the truth.

    Args:
        side: The side.
        asked: Pool that was asked.
        env_id: Environment that was asked, if any.
        expected: What was stored.
        answer: Leaves of what it answers.
        truth: Leaves of an entry that is what was stored, if the other side has one.
    """
    known = remembered(side, asked, env_id, expected, side.digest(answer))
    if known is not None:
        return known
    if truth is not None:
        return _against_truth(answer, truth)
    return Finding(Dimension.VALUE, Cause.CORRUPTED, "answers values that were never stored")


def remembered(side: SideView, asked: Pool, env_id: int | None, expected: Stored, found: Digest) -> Finding | None:
    """Name a wrong answer by its digest alone: by when and where it was stored, or by its structure.

    Args:
        side: The side.
        asked: Pool that was asked.
        env_id: Environment that was asked, if any.
        expected: What was stored.
        found: Digest of what it answers.

    Returns:
        None if only the values themselves could tell.
    """
    wanted = expected.digest
    if any(found.contents):  # empty entries look alike
        for version in expected.previous:
            if version.digest == found:
                if version.alive:
                    text = f"answers what operation {version.op_index} stored, before the key was set again"
                    return Finding(Dimension.VALUE, Cause.RESET_IGNORED, text)
                text = f"answers what operation {version.op_index} stored under this key in an earlier life of it"
                return Finding(Dimension.VALUE, Cause.STALE_VERSION, text)
        owner = owner_of(side, found)
        if owner is not None and (owner.key, owner.pool, owner.env_id) != (
            expected.key,
            expected.pool,
            expected.env_id,
        ):
            return foreign(owner, asked, env_id, expected.key)
    structure = _structure(wanted, found)
    if structure is not None:
        return structure
    known = set(wanted.contents)
    if found.contents != wanted.contents and all(content in known for content in found.contents):
        return Finding(Dimension.VALUE, Cause.LAYER_MIXED, "has keys, values or layers in one another's place")
    return _leaves_left_over(side, wanted, found)


def owner_of(side: SideView, answer: Digest) -> Stored | None:
    """Return the set, of any key and pool, that stored exactly this, if it is remembered."""
    if not any(answer.contents):
        return None
    for _, _, model in side.model.pools():
        for stored in model.live():
            if stored.digest.contents == answer.contents:
                return stored
    for _, _, model in side.model.pools():
        for gone in model.gone.values():
            if gone.stored.digest.contents == answer.contents:
                return gone.stored
    return None


def foreign(owner: Stored, asked: Pool, env_id: int | None, key: int) -> Finding:
    """Name whose entry was answered instead."""
    place = where(owner.pool, owner.env_id)
    if owner.pool == "init" and env_id is not None and owner.env_id != env_id:
        return Finding(Dimension.VALUE, Cause.OTHER_ENV, f"answers the entry of key {_hex(owner.key)} of {place}")
    if owner.key == key:
        return Finding(Dimension.VALUE, Cause.WRONG_POOL_ORDER, f"answers this key from {place}")
    return Finding(Dimension.VALUE, Cause.OTHER_KEY, f"answers the entry of key {_hex(owner.key)} of {place}")


def pools_of(asked: Pool) -> tuple[Pool, ...]:
    """List the pools that a lookup looks in, first to last."""
    return ("init", "recur") if asked == "hierarchical" else (asked,)


def where(pool: Pool, env_id: int | None) -> str:
    """Name a pool, with its env if it has one."""
    return pool if env_id is None else f"{pool}[{env_id}]"


def _structure(wanted: Digest, found: Digest) -> Finding | None:
    if len(wanted.layout) != len(found.layout):
        text = f"answers {len(found.layout) // 2} layers where {len(wanted.layout) // 2} were stored"
        return Finding(Dimension.STRUCTURE, Cause.SHAPE_OFF, text)
    pairs = list(enumerate(zip(wanted.layout, found.layout, strict=True)))
    for position, cause, what in _STRUCTURE:
        for index, (one, other) in pairs:
            if one[position] != other[position]:
                change = f"from {_plain(one[position])} to {_plain(other[position])}"
                text = f"changed the {what} of layer {index // 2} {'KV'[index % 2]} {change}"
                return Finding(Dimension.STRUCTURE, cause, text)
    for index, (one, other) in pairs:
        if one[3] != other[3]:
            if set(found.contents) <= set(wanted.contents):
                text = "has keys, values or layers in one another's place"
                return Finding(Dimension.VALUE, Cause.LAYER_MIXED, text)
            text = f"changed the valid length of layer {index // 2} {'KV'[index % 2]} from {one[3]} to {other[3]}"
            return Finding(Dimension.STRUCTURE, Cause.LENGTH_OFF, text)
    return None


def _leaves_left_over(side: SideView, wanted: Digest, found: Digest) -> Finding | None:
    """Tell whether some tensors are right and the others are those of one other entry: a copy that stopped."""
    wrong = [i for i, (a, b) in enumerate(zip(wanted.contents, found.contents, strict=True)) if a != b]
    if not wrong or len(wrong) == len(wanted.contents):
        return None
    for _, _, model in side.model.pools():
        for stored in [*model.live(), *(gone.stored for gone in model.gone.values())]:
            contents = stored.digest.contents
            if len(contents) == len(found.contents) and all(contents[i] == found.contents[i] != 0 for i in wrong):
                text = f"copied {len(contents) - len(wrong)} of {len(contents)} tensors; the others are those that "
                return Finding(Dimension.VALUE, Cause.PARTIAL_COPY, text + f"operation {stored.op_index} stored")
    return None


def _against_truth(answer: Sequence[Leaf], truth: Sequence[Leaf]) -> Finding:
    wrong = []
    for one, other in zip(answer, truth, strict=True):
        a, b = valid(one).cpu(), valid(other).cpu()
        if not bool(same_bits(a, b).all()):
            wrong.append((a, b))
    if all(bool(_alike(a, b).all()) for a, b in wrong):
        text = "answers other bits for the same values (the sign of zero, or a NaN's payload)"
        return Finding(Dimension.VALUE, Cause.CORRUPTED, text)
    if all(any(_is_permutation(a, b, dim) for dim in (2, 1, 0)) for a, b in wrong):
        return Finding(Dimension.VALUE, Cause.TOKENS_PERMUTED, "holds the right values in another order")
    if all(_is_rounding(a, b) for a, b in wrong):
        text = "rounded the values, as a store of lower precision would"
        return Finding(Dimension.VALUE, Cause.ROUNDING, text)
    tails = [_tail(a, b) for a, b in wrong]
    if all(tails):
        text = f"did not copy the last {max(tails)} tokens of {len(wrong)} of {len(answer)} tensors"
        return Finding(Dimension.VALUE, Cause.PARTIAL_COPY, text)
    text = f"answers values that were never stored, in {len(wrong)} of {len(answer)} tensors"
    return Finding(Dimension.VALUE, Cause.CORRUPTED, text)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | ((a != a) & (b != b))


def _is_permutation(a: Tensor, b: Tensor, dim: int) -> bool:
    if a.shape[dim] < 2:
        return False
    rows = []
    for tensor in (a, b):
        parts = [part.contiguous().reshape(-1).view(torch.uint8) for part in tensor.unbind(dim)]
        rows.append(sorted(part.numpy().tobytes() for part in parts))
    return rows[0] == rows[1]


def _is_rounding(a: Tensor, b: Tensor) -> bool:
    if not (a.is_floating_point() and b.is_floating_point()):
        return False
    if any(
        bool(_alike(b.to(low).to(b.dtype), a).all())
        for low in (torch.bfloat16, torch.float16, torch.float32)
        if low != b.dtype
    ):
        return True
    # Some other way of rounding touches most values, each a little.
    wrong = ~_alike(a, b)
    share = float(wrong.double().mean())
    x, y = a.double(), b.double()
    if share <= 0.25 or not bool(torch.isclose(x, y, rtol=2**-7, atol=0.0, equal_nan=True).all()):
        return False
    error = (x - y)[wrong]
    return not (_is_constant(error) or _is_constant(error / y[wrong]))  # else all were shifted, or scaled


def _is_constant(values: Tensor) -> bool:
    return values.numel() > 3 and float(values.std()) < 0.1 * float(values.abs().mean())


def _tail(a: Tensor, b: Tensor) -> int:
    """Return how many tokens at the end are wrong if all others are right and these differ almost wholly, else 0."""
    wrong = ~_alike(a, b)
    per_token = wrong.transpose(0, 2).flatten(1).double().mean(1)
    first = int((per_token > 0).double().argmax())
    tail = per_token[first:]
    return len(tail) if first and bool((tail > 0.9).all()) else 0


def _plain(value: object) -> str:
    return str(value).removeprefix("torch.")


def _hex(key: int) -> str:
    return f"{key & (1 << 64) - 1:016x}"

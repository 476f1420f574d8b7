"""What is wrong with the values one side answers: names how they differ from what was stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from shadow.entries import Form, leaf_names
from shadow.memory.buffers import WHOLE, Leaf
from shadow.operation import Pool
from validator.entries.compare import numbers, same_bits, valid
from validator.entries.digest import Digest
from validator.judge import words
from validator.judge.charge import Finding
from validator.judge.side_view import SideView
from validator.models.stored import Stored

# Where in a layout what lies, in the order in which it is looked at.
_LAYERED = (("", "layers of keys and values"),)
_STRUCTURE = ((1, words.OTHER_DTYPE), (2, words.OTHER_DEVICE), (0, words.OTHER_SHAPE))


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
                kind = words.EARLIER_VERSION if version.alive else words.EARLIER_LIFE
                return Finding(kind, {"op": version.op_index})
        owner = owner_of(side, found)
        if owner is not None and owner[:3] != expected[:3]:  # another key, pool or env
            return foreign(owner, asked, env_id, expected.key)
    structure = _structure(wanted, found)
    if structure is not None:
        return structure
    known = set(wanted.contents)
    if found.contents != wanted.contents and all(content in known for content in found.contents):
        return Finding(words.MIXED_UP)
    return _leaves_left_over(side, expected, found)


def owner_of(side: SideView, answer: Digest) -> Stored | None:
    """Return the set, of any key and pool, that stored exactly this, if it is remembered."""
    if not any(answer.contents):
        return None
    return next((stored for stored in _all_stored(side) if stored.digest.same_contents(answer)), None)


def _all_stored(side: SideView) -> Iterator[Stored]:
    """Go through every set that is remembered: what is alive, then what is gone."""
    models = [model for _, _, model in side.model.pools()]
    for model in models:
        yield from model.live()
    for model in models:
        yield from (gone.stored for gone in model.gone.values())


def foreign(owner: Stored, asked: Pool, env_id: int | None, key: int) -> Finding:
    """Name whose entry was answered instead."""
    place = (owner.pool, owner.env_id)
    if None not in (owner.env_id, env_id) and owner.env_id != env_id:
        return Finding(words.OTHER_ENV, {"other_key": owner.key, "pool": place})
    if owner.key == key:
        return Finding(words.OTHER_POOL, {"pool": place})
    return Finding(words.OTHER_KEY, {"other_key": owner.key, "pool": place})


def _structure(wanted: Digest, found: Digest) -> Finding | None:
    if wanted.form != found.form:
        return _other_form(wanted.form, found.form)
    if len(wanted.layout) != len(found.layout):
        return Finding(words.OTHER_LAYERS, {"found": len(found.layout) // 2, "stored": len(wanted.layout) // 2})
    pairs = list(enumerate(zip(wanted.layout, found.layout, strict=True)))
    for position, kind in _STRUCTURE:
        for index, (one, other) in pairs:
            if one[position] != other[position]:
                return _changed(kind, wanted, index, one[position], other[position])
    for index, (one, other) in pairs:
        if one[3] != other[3]:
            if set(found.contents) <= set(wanted.contents):
                return Finding(words.MIXED_UP)
            return _changed(words.OTHER_LENGTH, wanted, index, one[3], other[3])
    return None


def _changed(kind: words.Kind, wanted: Digest, index: int, old: object, new: object) -> Finding:
    return Finding(kind, {"leaf": leaf_names(wanted.form, len(wanted.layout))[index], "old": old, "new": new})


def _other_form(wanted: Form | None, found: Form | None) -> Finding:
    """Say where two nests first part: what was stored there, and what is answered."""
    stored, answered = (dict(form or _LAYERED) for form in (wanted, found))
    path = next(path for path in {**stored, **answered} if stored.get(path) != answered.get(path))
    facts = {"leaf": path or "its root", "found": answered.get(path, "nothing"), "stored": stored.get(path, "nothing")}
    return Finding(words.OTHER_FORM, facts)


def _leaves_left_over(side: SideView, expected: Stored, found: Digest) -> Finding | None:
    """Tell whether some tensors are right and the others are those of one other entry: a copy that stopped."""
    wrong = [i for i, (a, b) in enumerate(zip(expected.digest.contents, found.contents, strict=True)) if a != b]
    if not wrong or len(wrong) == len(found.contents):
        return None
    before = [(words.SOME_OF_BEFORE, version.digest, version.op_index) for version in expected.previous]
    elsewhere = ((words.SOME_NOT_COPIED, stored.digest, stored.op_index) for stored in _all_stored(side))
    for kind, digest, op_index in (*before, *elsewhere):
        contents = digest.contents
        if len(contents) == len(found.contents) and all(contents[i] == found.contents[i] != 0 for i in wrong):
            right, n = len(contents) - len(wrong), len(contents)
            return Finding(kind, {"right": right, "n": n, "op": op_index})
    return None


def not_copied(wanted: Digest, found: Digest, answer: Sequence[Leaf]) -> Finding | None:
    """Tell whether all tensors that differ from what was stored are zero."""
    pairs = zip(wanted.contents, found.contents, answer, strict=True)
    wrong = [valid(leaf) for stored, held, leaf in pairs if stored != held]
    if not wrong or any(bool(numbers(tensor).any()) for tensor in wrong):
        return None
    return Finding(words.NOT_COPIED, {"wrong": len(wrong), "n": len(answer)})


def against_truth(answer: Sequence[Leaf], truth: Sequence[Leaf], sources: Callable[[], Finding | None]) -> Finding:
    """Name how the values of an answer differ from those that were stored.

    Args:
        answer: Leaves of what was answered.
        truth: Leaves of what was stored, of the same structure.
        sources: Names the answer by where its wrong rows were stored, if they were.
    """
    wrong = []
    for one, other in zip(answer, truth, strict=True):
        a, b = valid(one).cpu(), valid(other).cpu()
        if not bool(same_bits(a, b).all()):
            wrong.append((numbers(a.resolve_conj()), numbers(b.resolve_conj())))
    if all(bool(_alike(a, b).all()) for a, b in wrong):
        return Finding(words.OTHER_BITS)
    if all(any(_is_permutation(a, b, dim) for dim in (2, 1, 0)) for a, b in wrong):
        return Finding(words.PERMUTED)
    if all(_is_rounding(a, b) for a, b in wrong):
        return Finding(words.ROUNDED)
    rows = sources()
    if rows is not None and rows.kind is not words.ROWS_NOT_COPIED:
        return rows
    has_tokens = answer[0].size != WHOLE
    for dim in (2,) if has_tokens else (0, 2, 1):
        tails = [_tail(a, b, dim) for a, b in wrong]
        if all(tails):
            facts = {"last": max(tails), "dim": None if has_tokens else dim, "wrong": len(wrong), "n": len(answer)}
            return Finding(words.END_NOT_COPIED, facts)
    if rows is not None:
        return rows
    return Finding(words.CORRUPTED_IN_PART, {"wrong": len(wrong), "n": len(answer)})


def _alike(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | ((a != a) & (b != b))


def _is_permutation(a: Tensor, b: Tensor, dim: int) -> bool:
    if a.ndim <= dim or a.shape[dim] < 2:
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


def _tail(a: Tensor, b: Tensor, dim: int) -> int:
    """Return how many at the end of a dimension are wrong if all others are right and these almost wholly, else 0."""
    if a.ndim <= dim:
        return 0
    wrong = ~_alike(a, b)
    per_token = wrong.transpose(0, dim).reshape(wrong.shape[dim], -1).double().mean(1)
    first = int((per_token > 0).double().argmax())
    tail = per_token[first:]
    return len(tail) if first and bool((tail > 0.9).all()) else 0

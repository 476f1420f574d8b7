"""What is equal: structure, then bits, then closeness, for every tensor of two entries.

A cache copies, so bits must be equal; that is also the fast path. A tolerance is for stores that are lossy by design.
``torch.allclose`` is not used: it broadcasts, calls ``(0,)`` close to ``(1,)``, raises on mixed dtypes and calls NaN
unequal to itself. Only valid regions are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64, xxh3_64_intdigest

from reports.record.records import LeafDifference
from shadow.entries import TENSOR, Form, form_of, paths
from shadow.lent import readable
from shadow.located import known, region
from shadow.memory.buffers import WHOLE, Leaf, describe
from shadow.memory.dense import agreed, gather
from shadow.memory.dense import equal as equal_bytes
from shadow.memory.regions import Layout
from shadow.outside import from_outside

_INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_COMPUTED = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
LARGE = 1 << 24  # bytes of an entry of which no copy is made, not even for a moment
_BLOCK = 1 << 15  # elements looked at together when counting differences, so that temporaries stay in cache


class Tolerance(NamedTuple):
    """When unequal bits still count as equal: ``|candidate - control| <= atol + rtol * |control|``."""

    rtol: float
    atol: float


def valid(leaf: Leaf) -> Tensor:
    """Return the valid region ``(B, num_heads, size, head_dim)`` of a leaf, detached; of a nest's all of it."""
    tensor, size = leaf
    tensor = tensor.detach()
    return tensor[:, :, :size] if tensor.ndim == 4 and 0 <= size < tensor.shape[2] else tensor


def rung(control: Leaf, candidate: Leaf) -> str | None:
    """Return the first step of structure on which two leaves differ, or None.

    The capacity of the buffers counts as shape: a host that appends to what it was given would meet it.
    """
    one, other = control.tensor, candidate.tensor
    if one.shape != other.shape:
        return "shape"
    if one.dtype != other.dtype:
        return "dtype"
    if one.device != other.device:
        return "device"
    if control.size != candidate.size:
        return "length"
    return None


def equal(control: Sequence[Leaf], candidate: Sequence[Leaf]) -> bool:
    """Tell whether two entries have the same structure and the same bits in their valid regions."""
    if len(control) != len(candidate) or form_of(control) != form_of(candidate):
        return False
    pairs = zip(control, candidate, strict=True)
    return all(rung(one, other) is None and equal_bits(one, other) for one, other in pairs)


def agreement(one: Any, other: Any, hashed: bool) -> tuple[Layout, int, int] | None:
    """Tell what two dense entries hold, if that is the same to the bit; None says nothing.

    Args:
        one: An entry. A lent one stays as it is.
        other: Another.
        hashed: Whether to hash what they hold.

    Returns:
        Their layout, their valid length, and the hash over all they hold (``Digest.whole``), 0 unless it was asked for.
    """
    try:
        one, other = readable(one), readable(other)
        here, there = known(id(one)), known(id(other))  # where they were found last
        for _ in range(2):
            if here is not None and there is not None and here.layout is there.layout and here.layout.in_host:
                layout = here.layout
                one_there = (one._keys_values, here.tensors, here.addresses)
                other_there = (other._keys_values, there.tensors, there.addresses)
                found = agreed(one_there, other_there, layout.structure, hashed and layout.nbytes <= LARGE)
                if found is not None:
                    size, contents = found
                    if contents is not None:
                        return layout, size, xxh3_64_intdigest(contents)
                    return layout, size, hash_at(here.addresses, *layout.runs(size)) if hashed else 0
            here, there = region(one), region(other)  # or where they are found now
    except BaseException as raised:  # whatever a foreign object raises, it is no entry
        if from_outside(raised):
            raise
    return None


def hash_at(addresses: tuple[int, ...], rows: int, step: int, n: int) -> int:
    """Hash the runs of the buffers at some addresses as one; of many bytes no copy is made."""
    if len(addresses) * rows * n <= LARGE:
        return xxh3_64_intdigest(gather(addresses, rows, step, n))
    whole = xxh3_64()
    for address in addresses:
        for row in range(rows):
            whole.update(gather((address + row * step,), 1, 0, n))
    return whole.intdigest()


def equal_bits(one: Leaf, other: Leaf) -> bool:
    """Tell whether the valid regions of two leaves of one structure hold the same bits."""
    a, b = one.tensor, other.tensor
    size = one.size
    plain = not (a.is_conj() or b.is_conj() or a.is_neg() or b.is_neg())  # else bytes are not the values
    if plain and a.device.type == "cpu" and a.ndim == 4 and a.is_contiguous() and b.is_contiguous():
        batch, heads, capacity, head_dim = a.shape
        token_nbytes = a.element_size() * head_dim
        runs = (batch * heads, capacity * token_nbytes, min(max(0, size), capacity) * token_nbytes)
        return equal_bytes((a.data_ptr(),), (b.data_ptr(),), *runs)
    return torch.equal(_bits(valid(one)), _bits(valid(other)))


def same_bits(one: Tensor, other: Tensor) -> Tensor:
    """Tell element by element whether two tensors of one shape and dtype hold the same bits."""
    same = _bits(one) == _bits(other)
    return same.all(-1) if one.is_complex() else same


def numbers(values: Tensor) -> Tensor:
    """Return the same numbers in a type that torch computes with; those of eight bits and the like are only stored."""
    if values.dtype in _COMPUTED or values.is_complex():
        return values
    try:
        return values.to(torch.float64)
    except (NotImplementedError, RuntimeError):  # a type that holds several numbers in a byte
        return values.view(torch.uint8)


def differences(
    control: Sequence[Leaf], candidate: Sequence[Leaf], tolerance: Tolerance | None = None
) -> tuple[LeafDifference, ...]:
    """List every leaf that differs, with counts and greatest distances.

    Args:
        control: Leaves of the control's entry.
        candidate: Leaves of the candidate's entry.
        tolerance: None for bitwise equality.

    Returns:
        One record per differing leaf in order of layer, K before V; of nests in order of the control's paths, with one
        more for each place where other containers or plain values stand. Empty if the entries are equal.
    """
    forms = form_of(control), form_of(candidate)
    is_nest = forms != (None, None)
    ours, theirs = (
        dict(zip(paths(form, len(own)), own, strict=True))
        for form, own in zip(forms, (control, candidate), strict=True)
    )
    found = _other_forms(*forms) if is_nest else []
    for index, path in enumerate({**ours, **theirs}):
        name = _Name(index, path, path) if is_nest else _Name(index // 2, "KV"[index % 2])
        difference = _leaf_difference(name, ours.get(path), theirs.get(path), tolerance)
        if difference is not None:
            found.append(difference)
    return tuple(found)


class _Name(NamedTuple):
    """How a record names a leaf: by layer and part, of a nest by its path."""

    layer: int
    part: str
    path: str = ""


def _other_forms(one: Form | None, other: Form | None) -> list[LeafDifference]:
    """List where other containers or plain values stand in two nests."""
    ours, theirs = _standing(one), _standing(other)
    return [
        LeafDifference(0, path or "entry", "structure", mine, yours, path=path or "entry")
        for path in {**ours, **theirs}
        if (mine := ours.get(path, "absent")) != (yours := theirs.get(path, "absent"))
    ]


def _standing(form: Form | None) -> dict[str, str]:
    """Return by path what is no tensor; what a registered class is made of stands at one path with it."""
    found: dict[str, str] = {}
    for path, what in (("", "layers of keys and values"),) if form is None else form:
        if what != TENSOR:
            found[path] = f"{found[path]} of {what}" if path in found else what
    return found


def _leaf_difference(
    name: _Name, one: Leaf | None, other: Leaf | None, tolerance: Tolerance | None
) -> LeafDifference | None:
    fields: dict[str, Any] = {**name._asdict(), "control": _text(one), "candidate": _text(other)}
    if one is None or other is None:
        return LeafDifference(rung="structure" if name.path else "layers", **fields)
    broken = rung(one, other)
    if broken is None and equal_bits(one, other):
        return None
    if valid(one).shape != valid(other).shape:
        return LeafDifference(rung=broken or "shape", **fields)
    statistics = _statistics(valid(one), valid(other), tolerance if broken is None else None)
    if broken is None and not statistics["n_mismatched"]:
        return None
    return LeafDifference(rung=broken or "bits", **fields | statistics)


def _statistics(one: Tensor, other: Tensor, tolerance: Tolerance | None) -> dict[str, object]:
    exact = one.dtype == other.dtype and one.device == other.device and tolerance is None
    a, b = one.cpu().reshape(-1), other.cpu().reshape(-1)
    counts: Counter[str] = Counter()
    greatest: dict[str, tuple[float, int]] = {}
    for start in range(0, a.numel(), _BLOCK):
        x, y = a[start : start + _BLOCK], b[start : start + _BLOCK]
        u, v = _wide(x), _wide(y)
        for side, values in (("control", u), ("candidate", v)):
            counts[f"n_nan_{side}"] += int(values.isnan().sum())
            counts[f"n_inf_{side}"] += int(values.isinf().sum())
        unequal = ~same_bits(x, y) if exact else ~_close(u, v, tolerance or Tolerance(0.0, 0.0))
        where = unequal.nonzero()[:, 0]
        counts["n_mismatched"] += len(where)
        for name, (top, at) in _greatest(u[where].numpy(), v[where].numpy()).items():
            if top > greatest.get(name, (-1.0, 0))[0]:
                greatest[name] = (top, start + int(where[at]))
    result: dict[str, object] = {"n_elements": a.numel(), "n_mismatched": 0, **counts}
    for name, (top, at) in greatest.items():
        result[f"max_{name}_diff"] = top
        result[f"max_{name}_index"] = tuple(map(int, np.unravel_index(at, one.shape)))
    return result


def _close(u: Tensor, v: Tensor, bound: Tolerance) -> Tensor:
    distance = (u - v).abs()
    near = (distance <= bound.atol + bound.rtol * u.abs()) & distance.isfinite()  # rtol * inf allows nothing
    return near | (u == v) | (u.isnan() & v.isnan())


def _greatest(u: Any, v: Any) -> dict[str, tuple[float, int]]:
    """Return the greatest finite absolute and relative distance and where it is first met; -1 where there is none."""
    found = {}
    with np.errstate(all="ignore"):
        distance = np.abs(u - v)
        for name, values in (("abs", distance), ("rel", distance / np.abs(u))):
            # NaN and Inf are counted apart; the greatest is over what has a distance.
            finite = np.where(np.isfinite(values), values, -1.0)
            at = int(finite.argmax()) if len(finite) else -1
            found[name] = (float(finite[at]) if len(finite) else -1.0, at)
    return found


def _wide(values: Tensor) -> Tensor:
    return numbers(values).to(torch.complex128 if values.is_complex() else torch.float64)


def _bits(values: Tensor) -> Tensor:
    values = values.resolve_conj().resolve_neg()
    if values.is_complex():
        values = torch.view_as_real(values)
    return values.view(_INTEGER_OF_SIZE[values.element_size()])


def _text(leaf: Leaf | None) -> str:
    if leaf is None:
        return "absent"
    return describe(leaf.tensor) if leaf.size == WHOLE else f"{describe(leaf.tensor)}, {leaf.size} valid"

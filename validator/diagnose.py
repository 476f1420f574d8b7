"""Who is wrong, and why: names the cause of one side's departure from its model.

Nothing here runs unless a difference was found. Every function answers with a cause and the half-sentence that
explains it; ``UNKNOWN`` where the facts do not carry a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from shadow.entry import Leaf
from shadow.operation import Pool
from validator.compare import valid
from validator.digest import Digest, digest
from validator.models import Reason, Stored
from validator.records import Cause, Dimension
from validator.side import SideView


class Finding(NamedTuple):
    """What is wrong with one side's answer.

    Attributes:
        dimension: In what respect.
        cause: Why.
        text: Explanation, a clause whose subject is the side.
    """

    dimension: Dimension
    cause: Cause
    text: str


QUIRKS = {
    Reason.SLOT_LEAK: (
        Cause.SLOT_LEAK,
        "stored the key twice in two slots, and reuse of the older slot deleted the live key (L1)",
    ),
    Reason.AGE_REFRESHED: (
        Cause.AGE_REFRESHED,
        "gave a re-set key a new age, so this key gave way in its place (L2)",
    ),
    Reason.CAPACITY_EATEN: (
        Cause.CAPACITY_EATEN,
        "spent slots on re-sets of keys it already held, so this key gave way although there was room (L3)",
    ),
    Reason.REVERSE_MAP_SURVIVED: (
        Cause.REVERSE_MAP_SURVIVED,
        "kept its slot-to-key map across a clear, and a stale entry of it deleted the live key (L4)",
    ),
}


def wrongly_missing(
    side: SideView, pool: Pool, expected: Stored, clears: Sequence[tuple[int, str, int | None]], seen: bool
) -> Finding:
    """Name why a side lacks an entry that its model holds.

    Args:
        side: The side.
        pool: Pool that should hold it.
        expected: What should be there.
        clears: Recent clears as ``(op_index, pool, env_id)``, oldest first.
        seen: Whether the side was ever seen to hold this set.
    """
    env_id, key = expected.env_id, expected.key
    model = side.model.pool(pool, env_id)
    live = [stored for stored in model.live() if stored.key != key]
    held = {stored.key for stored in live if side.read(pool, env_id, stored.key) is not None}
    missing = [stored for stored in live if stored.key not in held]
    later_clears = [clear for clear in clears if clear[0] > expected.op_index]
    older = [stored for stored in [*missing, expected] if later_clears and stored.op_index < later_clears[-1][0]]
    survivors = [s for s in live if s.key in held and later_clears and s.op_index < later_clears[-1][0]]
    listed = side.keys(pool, env_id)
    extra = [k for k in listed or () if model.peek(k) is None]
    if later_clears and older and not survivors and not extra:
        op_index, cleared, cleared_env = later_clears[-1]
        what = cleared if cleared_env is None else f"{cleared}[{cleared_env}]"
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.CLEAR_TOO_WIDE,
            f"dropped this entry of {_name(pool, env_id)} when operation {op_index} cleared {what} only",
        )
    evicts = model.capacity < len(model) + len(model.gone) or len(model) >= model.capacity
    if extra:
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.WRONG_EVICTION,
            f"evicted this key and kept {len(extra)} that should have given way before it",
        )
    if evicts and missing and len(held) + 1 < model.capacity and _oldest_first(model.live(), held, key):
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.CAPACITY_OFF,
            f"holds {len(held)} entries where {model.capacity} fit, and dropped the oldest too early",
        )
    if not seen:
        return Finding(Dimension.PRESENCE, Cause.SET_IGNORED, "never showed this entry although the set returned")
    if len(model) >= model.capacity and len(held) + 1 == model.capacity:
        oldest = next(iter(model.live())).key == key
        if oldest:
            return Finding(
                Dimension.LIVE_KEYS,
                Cause.CAPACITY_OFF,
                f"holds {len(held)} entries where {model.capacity} fit, and dropped the oldest too early",
            )
        return Finding(Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, "evicted this key although an older one should go")
    if len(model) >= model.capacity:
        return Finding(Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, "evicted this key although an older one should go")
    return Finding(
        Dimension.PRESENCE,
        Cause.SET_IGNORED if not expected.previous else Cause.RESET_IGNORED,
        "lost this entry although nothing evicted or cleared it",
    )


def wrongly_present(side: SideView, pool: Pool, env_id: int | None, key: int, answer: Digest) -> Finding:
    """Name why a side answers a key that its model does not hold."""
    for each in _pools(pool):
        model = side.model.pool(each, env_id if each == "init" else None)
        gone = model.gone.get(key)
        if gone is None or gone.stored.digest.contents != answer.contents:
            continue
        if gone.reason is Reason.CLEARED:
            return Finding(
                Dimension.LIVE_KEYS,
                Cause.CLEAR_FORGOTTEN,
                f"still answers an entry that operation {gone.op_index} cleared",
            )
        listed = side.keys(each, env_id if each == "init" else None)
        over = listed is not None and len(listed) > model.capacity
        if over or listed is None:
            return Finding(
                Dimension.LIVE_KEYS,
                Cause.CAPACITY_OFF,
                f"still answers a key that operation {gone.op_index} should have evicted"
                + (f", and holds {len(listed)} where {model.capacity} fit" if listed is not None else ""),
            )
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.WRONG_EVICTION,
            f"still answers a key that operation {gone.op_index} should have evicted",
        )
    owner = _owner(side, answer)
    if owner is not None:
        return _foreign(owner, pool, env_id, key)
    return Finding(Dimension.PRESENCE, Cause.PHANTOM, "answers a key that was never stored, or long gone")


def wrong_value(
    side: SideView,
    asked: Pool,
    env_id: int | None,
    expected: Stored,
    answer: Sequence[Leaf],
    truth: Sequence[Leaf] | None,
) -> Finding:
    """Name why a side answers a key with something else than was stored.

    Args:
        side: The side.
        asked: Pool that was asked.
        env_id: Environment that was asked, if any.
        expected: What was stored.
        answer: Leaves of what it answers.
        truth: Leaves of an entry that is what was stored, if the other side has one.
    """
    found, wanted = digest(answer), expected.digest
    if expected.previous is not None and found.contents == expected.previous.contents:
        return Finding(Dimension.VALUE, Cause.RESET_IGNORED, "answers what the key held before it was set again")
    for each in _pools(asked):
        gone = side.model.pool(each, env_id if each == "init" else None).gone.get(expected.key)
        if gone is not None and gone.stored.digest.contents == found.contents:
            return Finding(
                Dimension.VALUE, Cause.STALE_VERSION, f"answers what operation {gone.stored.op_index} stored"
            )
    if asked == "hierarchical":
        recur = side.model.recur.peek(expected.key)
        if expected.pool == "init" and recur is not None and recur.digest.contents == found.contents:
            return Finding(
                Dimension.VALUE, Cause.WRONG_POOL_ORDER, "answers from the recurrent pool before the init pool"
            )
    owner = _owner(side, found)
    if owner is not None and (owner.key, owner.pool, owner.env_id) != (expected.key, expected.pool, expected.env_id):
        return _foreign(owner, asked, env_id, expected.key)
    structure = _structure(wanted, found)
    if structure is not None:
        return structure
    if found.contents != wanted.contents and _mixed(wanted, found):
        return Finding(Dimension.VALUE, Cause.LAYER_MIXED, "has keys, values or layers in one another's place")
    if truth is not None:
        return _against_truth(answer, truth)
    return Finding(Dimension.VALUE, Cause.CORRUPTED, "answers values that were never stored")


def _structure(wanted: Digest, found: Digest) -> Finding | None:
    if len(wanted.layout) != len(found.layout):
        return Finding(
            Dimension.STRUCTURE,
            Cause.SHAPE_OFF,
            f"answers {len(found.layout) // 2} layers where {len(wanted.layout) // 2} were stored",
        )
    for position, cause, what in (
        (1, Cause.DTYPE_DRIFT, "dtype"),
        (2, Cause.DEVICE_DRIFT, "device"),
        (0, Cause.SHAPE_OFF, "shape"),
        (3, Cause.LENGTH_OFF, "valid length"),
    ):
        for index, (one, other) in enumerate(zip(wanted.layout, found.layout, strict=True)):
            if one[position] != other[position]:
                if position == 3 and sorted(s[3] for s in wanted.layout) == sorted(s[3] for s in found.layout):
                    return Finding(
                        Dimension.VALUE, Cause.LAYER_MIXED, "has keys, values or layers in one another's place"
                    )
                return Finding(
                    Dimension.STRUCTURE,
                    cause,
                    f"changed the {what} of layer {index // 2} "
                    f"{'KV'[index % 2]} from {_plain(one[position])} to {_plain(other[position])}",
                )
    return None


def _against_truth(answer: Sequence[Leaf], truth: Sequence[Leaf]) -> Finding:
    rounded = permuted = True
    wrong_leaves, wrong_tokens = 0, 0
    for one, other in zip(answer, truth, strict=True):
        a, b = valid(one).cpu(), valid(other).cpu()
        same = (a == b) | ((a != a) & (b != b))
        if bool(same.all()):
            continue
        wrong_leaves += 1
        per_token = (~same).flatten(3).any(-1).any(0).any(0)
        wrong_tokens = max(wrong_tokens, int(per_token.sum()) if per_token.numel() < 2 or not per_token.all() else 0)
        rounded = rounded and _is_rounding(a, b)
        permuted = permuted and any(_is_permutation(a, b, dim) for dim in (2, 1, 0))
    if permuted:
        return Finding(Dimension.VALUE, Cause.TOKENS_PERMUTED, "holds the right values in another order")
    if rounded:
        return Finding(Dimension.VALUE, Cause.ROUNDING, "rounded the values, as a store of lower precision would")
    if (wrong_leaves < len(answer) and wrong_leaves % 2 == 0) or wrong_tokens:
        part = f"{wrong_leaves} of {len(answer)} tensors" + (f", {wrong_tokens} tokens of one" if wrong_tokens else "")
        return Finding(Dimension.VALUE, Cause.CORRUPTED, f"answers values that were never stored, in {part}")
    return Finding(Dimension.VALUE, Cause.CORRUPTED, "answers values that were never stored")


def _is_rounding(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not (a.is_floating_point() and b.is_floating_point()):
        return False
    return any(
        torch.equal(b.to(low).to(b.dtype), a)
        for low in (torch.bfloat16, torch.float16, torch.float32)
        if low != b.dtype
    ) or bool(torch.isclose(a.double(), b.double(), rtol=2**-7, atol=1e-6).all())


def _is_permutation(a: torch.Tensor, b: torch.Tensor, dim: int) -> bool:
    if a.shape[dim] < 2:
        return False
    rows = [
        sorted(row.contiguous().view(torch.uint8).numpy().tobytes() for row in tensor.unbind(dim)) for tensor in (a, b)
    ]
    return rows[0] == rows[1]


def _mixed(wanted: Digest, found: Digest) -> bool:
    known = set(wanted.contents)
    return all(content in known for content in found.contents)


def _owner(side: SideView, answer: Digest) -> Stored | None:
    for _, _, model in side.model.pools():
        for stored in model.live():
            if stored.digest.contents == answer.contents:
                return stored
    for _, _, model in side.model.pools():
        for gone in model.gone.values():
            if gone.stored.digest.contents == answer.contents:
                return gone.stored
    return None


def _foreign(owner: Stored, asked: Pool, env_id: int | None, key: int) -> Finding:
    where = _name(owner.pool, owner.env_id)
    if owner.pool == "init" and env_id is not None and owner.env_id != env_id:
        return Finding(Dimension.VALUE, Cause.OTHER_ENV, f"answers the entry of key {owner.key:016x} of {where}")
    if owner.key == key:
        return Finding(Dimension.VALUE, Cause.WRONG_POOL_ORDER, f"answers this key from {where}")
    return Finding(Dimension.VALUE, Cause.OTHER_KEY, f"answers the entry of key {owner.key:016x} of {where}")


def _oldest_first(live: Iterable[Stored], held: set[int], key: int) -> bool:
    gone = [stored.key not in held or stored.key == key for stored in live]
    return gone == sorted(gone, reverse=True)


def _pools(asked: Pool) -> tuple[Pool, ...]:
    return ("init", "recur") if asked == "hierarchical" else (asked,)


def _name(pool: Pool, env_id: int | None) -> str:
    return pool if env_id is None else f"{pool}[{env_id}]"


def _plain(value: object) -> str:
    return str(value).removeprefix("torch.")

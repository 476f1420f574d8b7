"""Why one side departs from its model about which keys it answers, and where to.

Nothing here runs unless a difference was found. Every function answers with a cause and the clause that explains it;
the names are only given where the facts carry them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.record.words import Cause, Dimension
from shadow.operation import Observation, Pool
from validator.entries.digest import Digest
from validator.judge.side import SideView, entry_leaves
from validator.judge.values import Finding, foreign, owner_of, pools_of, where
from validator.models.side_model import PoolModel, Reason, Stored


class Clear(NamedTuple):
    """A clear that was played: its operation, and what it was meant to empty."""

    op_index: int
    pool: Pool
    env_id: int | None


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


def unanswered(side: SideView, seen: Observation, expected: Stored, clears: Sequence[Clear]) -> Finding:
    """Name why a side answered None although its model holds the entry.

    Args:
        side: The side.
        seen: The lookup.
        expected: What it should have answered.
        clears: Clears that may have taken it, oldest first.
    """
    held = side.read(expected.pool, expected.env_id, expected.key)
    found = None if held is None else entry_leaves(held)
    if found is not None and side.digest(found) == expected.digest:
        if seen.operation.pool == "hierarchical" and side.cache.hierarchical_get(seen.env_id, seen.key) is None:
            return Finding(
                Dimension.PRESENCE,
                Cause.WRONG_POOL_ORDER,
                f"does not find in a hierarchical lookup what {where(expected.pool, expected.env_id)} holds",
            )
        return Finding(Dimension.PRESENCE, Cause.MISSED, "answered nothing although it holds the entry")
    return lost(side, expected, clears)


def lost(side: SideView, expected: Stored, clears: Sequence[Clear]) -> Finding:
    """Name why a side does not hold an entry that its model holds; it was there after the set.

    Args:
        side: The side.
        expected: What should be there.
        clears: Clears that may have taken it, oldest first.
    """
    pool, env_id = expected.pool, expected.env_id
    model = side.model.pool(pool, env_id)
    live = list(model.live())
    held = {stored.key for stored in live if side.read(pool, env_id, stored.key) is not None}
    extra = _kept_too_long(side, pool, env_id, model)
    if extra is not None:
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.WRONG_EVICTION,
            f"evicted this key and kept {extra:016x}, which should have given way before it",
        )
    later = [clear for clear in clears if clear.op_index > expected.op_index]
    if later and not any(stored.key in held and stored.op_index < later[-1].op_index for stored in live):
        clear = later[-1]
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.CLEAR_TOO_WIDE,
            f"dropped an entry of {where(pool, env_id)} when operation {clear.op_index} cleared "
            f"{where(clear.pool, clear.env_id)} only",
        )
    full = len(live) >= model.capacity
    gone = [stored.key not in held for stored in live]
    if full and gone == sorted(gone, reverse=True):
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.CAPACITY_OFF,
            f"holds {len(held)} entries where {model.capacity} fit, and dropped the oldest too early",
        )
    if full:
        return Finding(Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, "evicted this key although an older one should go")
    return Finding(Dimension.PRESENCE, Cause.SET_IGNORED, "lost this entry although nothing evicted or cleared it")


def _kept_too_long(side: SideView, pool: Pool, env_id: int | None, model: PoolModel) -> int | None:
    """Return a key that a side holds although its model evicted it."""
    listed = side.keys(pool, env_id)
    if listed is not None:
        return next((key for key in listed if model.peek(key) is None), None)
    evicted = [key for key, gone in model.gone.items() if gone.reason is Reason.EVICTED]
    return next((key for key in evicted if side.read(pool, env_id, key) is not None), None)


def not_stored(side: SideView, stored: Stored) -> Finding:
    """Name why a side does not hold what it was just given."""
    held = stored.previous and stored.previous[0].alive
    cause = Cause.RESET_IGNORED if held else Cause.SET_IGNORED
    return Finding(Dimension.PRESENCE, cause, f"does not hold what operation {stored.op_index} gave it to store")


def uncalled(side: SideView, asked: Pool, env_id: int | None, key: int, answer: Digest) -> Finding:
    """Name why a side answers a key that its model does not hold.

    Args:
        side: The side.
        asked: Pool that was asked.
        env_id: Environment that was asked, if any.
        key: Key that was asked.
        answer: Digest of what it answers.
    """
    for pool in pools_of(asked):
        env = env_id if pool == "init" else None
        model = side.model.pool(pool, env)
        gone = model.gone.get(key)
        if gone is None or gone.stored.digest.contents != answer.contents:
            continue
        if gone.reason is Reason.CLEARED:
            return Finding(
                Dimension.LIVE_KEYS,
                Cause.CLEAR_FORGOTTEN,
                f"still holds an entry of {where(pool, env)} that operation {gone.op_index} cleared",
            )
        return _not_evicted(side, pool, env, model, gone.op_index)
    owner = owner_of(side, answer)
    if owner is not None:
        return foreign(owner, asked, env_id, key)
    return Finding(Dimension.PRESENCE, Cause.PHANTOM, "answers a key that was never stored, or long gone")


def _not_evicted(side: SideView, pool: Pool, env_id: int | None, model: PoolModel, op_index: int) -> Finding:
    listed = side.keys(pool, env_id)
    holds = len(listed) if listed is not None else None
    missing = [s.key for s in model.live() if side.read(pool, env_id, s.key) is None]
    if (holds is not None and holds > model.capacity) or (holds is None and not missing):
        return Finding(
            Dimension.LIVE_KEYS,
            Cause.CAPACITY_OFF,
            f"still holds a key that operation {op_index} should have evicted, beyond the {model.capacity} that fit",
        )
    return Finding(
        Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, f"still holds a key that operation {op_index} should have evicted"
    )

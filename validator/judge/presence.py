"""Why one side departs from its model about which keys it answers, and where to.

Nothing here runs unless a difference was found. A name is only given where the facts carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from shadow.operation import Observation, Pool
from validator.entries.digest import Digest
from validator.judge import words
from validator.judge.charge import Finding
from validator.judge.side import SideView
from validator.judge.values import foreign, owner_of
from validator.models.pools import pools_of
from validator.models.stored import PoolModel, Reason, Stored


class Clear(NamedTuple):
    """A clear that was played: its operation, and what it was meant to empty."""

    op_index: int
    pool: Pool
    env_id: int | None


def unanswered(side: SideView, seen: Observation, expected: Stored, clears: Sequence[Clear]) -> Finding:
    """Name why a side answered None although its model holds the entry.

    Args:
        side: The side.
        seen: The lookup.
        expected: What it should have answered.
        clears: Clears that may have taken it, oldest first.
    """
    if side.intact(expected) is not None:
        if seen.operation.pool == "hierarchical" and side.cache.hierarchical_get(seen.env_id, seen.key) is None:
            return Finding(words.NOT_FOUND_BY_BOTH_POOLS, {"pool": (expected.pool, expected.env_id)})
        return Finding(words.MISSED)
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
        return Finding(words.KEPT_ANOTHER, {"kept": extra})
    later = [clear for clear in clears if clear.op_index > expected.op_index]
    if later and not any(stored.key in held and stored.op_index < later[-1].op_index for stored in live):
        clear = later[-1]
        cleared = (clear.pool, clear.env_id)
        return Finding(words.CLEARED_TOO_MUCH, {"pool": (pool, env_id), "op": clear.op_index, "cleared": cleared})
    full = len(live) >= model.capacity
    gone = [stored.key not in held for stored in live]
    if full and gone == sorted(gone, reverse=True):
        return Finding(words.DROPPED_TOO_EARLY, {"held": len(held), "capacity": model.capacity})
    return Finding(words.EVICTED_A_YOUNGER if full else words.LOST)


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
    return Finding(words.NOT_STORED_AGAIN if held else words.NOT_STORED, {"op": stored.op_index})


def uncalled(side: SideView, asked: Pool, env_id: int | None, key: int, answer: Digest) -> Finding | None:
    """Name why a side answers a key that its model does not hold.

    Args:
        side: The side.
        asked: Pool that was asked.
        env_id: Environment that was asked, if any.
        key: Key that was asked.
        answer: Digest of what it answers.

    Returns:
        None if it need not be a fault: where evictions are its own business it may hold this still, or since before.
    """
    if issubclass(type(key), Tensor):  # told apart by identity here, and by their values perhaps there
        return None
    for pool in pools_of(asked):
        env = env_id if pool == "init" else None
        model = side.model.pool(pool, env)
        held = model.may_hold(key)
        if not model.told_all or (held is not None and held.digest == answer):
            return None
        gone = model.gone.get(key)
        if gone is None or not gone.stored.digest.same_contents(answer):
            continue
        if gone.reason is Reason.CLEARED:
            return Finding(words.NOT_CLEARED, {"pool": (pool, env), "op": gone.op_index})
        return _not_evicted(side, pool, env, model, gone.op_index)
    owner = owner_of(side, answer)
    if owner is not None:
        return foreign(owner, asked, env_id, key)
    return Finding(words.PHANTOM)


def _not_evicted(side: SideView, pool: Pool, env_id: int | None, model: PoolModel, op_index: int) -> Finding:
    listed = side.keys(pool, env_id)
    if listed is None:
        beyond = all(side.read(pool, env_id, stored.key) is not None for stored in model.live())
    else:
        beyond = len(listed) > model.capacity
    if beyond:
        return Finding(words.BEYOND_CAPACITY, {"op": op_index, "capacity": model.capacity})
    return Finding(words.NOT_EVICTED, {"op": op_index})

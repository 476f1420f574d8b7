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
from validator.judge.side_view import SideView
from validator.judge.values import foreign, owner_of
from validator.models.stored import Gone, PoolModel, Reason, Stored


class Clear(NamedTuple):
    """A clear that was played: its operation, and what it was meant to empty."""

    op_index: int
    pool: Pool
    env_id: int | None


class Suspects(NamedTuple):
    """What may have taken an entry.

    Attributes:
        clears: Clears of that time, oldest first.
        answered: The last operation that answered the key, or -1: what came before did not take it.
        last_set: The last set of any key, or -1.
    """

    clears: Sequence[Clear]
    answered: int = -1
    last_set: int = -1


def unanswered(side: SideView, seen: Observation, expected: Stored, suspects: Suspects) -> Finding:
    """Name why a side answered None although its model holds the entry.

    Args:
        side: The side.
        seen: The lookup.
        expected: What it should have answered.
        suspects: What may have taken it.
    """
    if side.intact(expected) is not None:
        asked = seen.operation.pool
        if asked in side.model.places.searched and side.ask(asked, seen.env_id, seen.key) is None:
            return Finding(words.NOT_FOUND_BY_BOTH_POOLS, {"pool": (expected.pool, expected.env_id)})
        return Finding(words.MISSED)
    return lost(side, expected, suspects)


def lost(side: SideView, expected: Stored, suspects: Suspects) -> Finding:
    """Name why a side does not hold an entry that its model holds; it was there after the set.

    Args:
        side: The side.
        expected: What should be there.
        suspects: What may have taken it.
    """
    pool, env_id = expected.pool, expected.env_id
    model = side.model.pool(pool, env_id)
    live = list(model.live())
    held = {stored.key for stored in live if side.read(pool, env_id, stored.key) is not None}
    extra = _kept_too_long(side, pool, env_id, model)
    if extra is not None:
        return Finding(words.KEPT_ANOTHER, {"kept": extra})
    full = len(live) >= model.capacity
    gone = [stored.key not in held for stored in live]
    oldest_gone = full and gone == sorted(gone, reverse=True)
    if full and sum(gone) == 1 and model.peek(expected.key) is live[-1] and side.model.policy.kind == "lru":
        oldest_gone = side.lists_keys  # the lookup that missed has made it the youngest in its model just now
    # A clear took all that it found: nothing older is held. Of several such, one of the same pool, the last of them.
    after = max(expected.op_index, suspects.answered)
    later = [clear for clear in suspects.clears if clear.op_index > after]
    took = [clear for clear in later if not any(s.key in held and s.op_index < clear.op_index for s in live)]
    if sum(gone) == 1:  # of a single one, a set may as well have taken it
        likely = [clear for clear in took if clear.pool == pool and not oldest_gone]
        took = likely or [clear for clear in took if clear.op_index > suspects.last_set]
    if took:
        clear = max(took, key=lambda clear: (clear.pool == pool, clear.op_index))
        cleared = (clear.pool, clear.env_id)
        return Finding(words.CLEARED_TOO_MUCH, {"pool": (pool, env_id), "op": clear.op_index, "cleared": cleared})
    if oldest_gone:
        return Finding(words.DROPPED_TOO_EARLY, {"held": len(held), "capacity": model.capacity})
    if full:
        return Finding(words.EVICTED_A_YOUNGER)
    if suspects.answered > expected.op_index:
        return Finding(words.LOST_LATER, {"op": suspects.answered})
    return Finding(words.LOST)


def _kept_too_long(side: SideView, pool: Pool, env_id: int | None, model: PoolModel) -> int | None:
    """Return a key that a side holds although its model evicted it."""
    listed = side.unexpected(pool, env_id, model)
    if listed is not None:
        return next(iter(listed), None)
    evicted = [key for key, gone in model.gone.items() if gone.reason is Reason.EVICTED]
    return next((key for key in evicted if side.read(pool, env_id, key) is not None), None)


def not_stored(side: SideView, stored: Stored) -> Finding:
    """Name why a side does not hold what it was just given."""
    return Finding(words.NOT_STORED_AGAIN if stored.was_alive else words.NOT_STORED, {"op": stored.op_index})


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
    places = side.model.places.asked(asked, env_id)
    for pool, env in places:
        model = side.model.pool(pool, env)
        held = model.may_hold(key)
        if not model.told_all or (held is not None and held.digest == answer):
            return None
    went = [(pool, env, gone) for pool, env in places if (gone := side.model.pool(pool, env).gone.get(key)) is not None]
    for pool, env, gone in went:
        if gone.stored.digest.same_contents(answer):
            return _outlived(side, pool, env, gone)
    owner = owner_of(side, answer)
    if owner is not None:
        return foreign(owner, asked, env_id, key)
    if went:
        return _outlived(side, *went[0])._replace(note=words.CHANGED_SINCE)
    return Finding(words.PHANTOM)


def still_there(side: SideView, pool: Pool, env_id: int | None, key: int) -> Finding:
    """Name why a side says that it holds a key that its model does not hold."""
    gone = side.model.pool(pool, env_id).gone.get(key)
    return Finding(words.PHANTOM) if gone is None else _outlived(side, pool, env_id, gone)


def _outlived(side: SideView, pool: Pool, env_id: int | None, gone: Gone) -> Finding:
    if gone.reason is Reason.CLEARED:
        return Finding(words.NOT_CLEARED, {"pool": (pool, env_id), "op": gone.op_index})
    if gone.reason is Reason.DELETED:
        return Finding(words.NOT_DELETED, {"op": gone.op_index})
    return _not_evicted(side, pool, env_id, side.model.pool(pool, env_id), gone.op_index)


def _not_evicted(side: SideView, pool: Pool, env_id: int | None, model: PoolModel, op_index: int) -> Finding:
    listed = side.keys(pool, env_id)
    if listed is None:
        beyond = all(side.read(pool, env_id, stored.key) is not None for stored in model.live())
    else:
        beyond = len(listed) > model.capacity
    if beyond:
        return Finding(words.BEYOND_CAPACITY, {"op": op_index, "capacity": model.capacity})
    return Finding(words.NOT_EVICTED, {"op": op_index})

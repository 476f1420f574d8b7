"""Which one defect explains what was found: one store behind two pools shows up as a dozen other things."""

from __future__ import annotations

from reports.record.words import Dimension
from shadow.operation import Pool
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.keyed import KeyedCase
from validator.judge.side_view import SideView
from validator.models.stored import PoolModel

_SHOWN_BY = (Dimension.PRESENCE, Dimension.LIVE_KEYS, Dimension.VALUE, Dimension.STRUCTURE, Dimension.ISOLATION)
_ASKED = 4  # keys of a pool that another one is asked for


def rooted(case: KeyedCase, charge: Charge, place: Place) -> Charge:
    """Return the charge for the defect that explains a charge, if there is one that can be shown, else the charge.

    A side that answers the keys of two pools through one another keeps both in one store. What follows from that
    (entries that are evicted, overwritten, cleared and answered too many) is no defect of its own.
    """
    side = next((side for side in case.sides if side.fault is charge.fault), None)
    if side is None or charge.dimension not in _SHOWN_BY or place.pool == "all":
        return charge
    for own in case.places.asked(place.pool, place.env_id):
        if own[0] in case.places.per_env and own[1] is None:
            continue
        known = case.one_store.get((side.name, *own))
        if known is not None:
            return known
        spot = (side.name, own[0], own[1])
        asked = case.sought_one_store[spot] = case.sought_one_store[spot] + 1
        if asked & (asked - 1):  # at the first charge, the second, the fourth: it asks many a key of many a pool
            continue
        other = _one_store(side, *own)
        if other is not None:
            found = against(side, Finding(words.ONE_STORE, {"pool": own, "other_pool": other}), charge.leaves)
            case.one_store |= {(side.name, *own): found, (side.name, *other): found}
            return found
    return charge


def _one_store(side: SideView, pool: Pool, env_id: int | None) -> tuple[Pool, int | None] | None:
    """Name another pool whose entries this one answers, and the other way round: each must show it."""
    model = side.model.pool(pool, env_id)
    for other_pool, other_env, other in side.model.pools():
        if other is model:
            continue
        if _answers(side, pool, env_id, model, other) and _answers(side, other_pool, other_env, other, model):
            return other_pool, other_env
    return None


def _answers(side: SideView, pool: Pool, env_id: int | None, model: PoolModel, other: PoolModel) -> bool:
    """Tell whether a pool answers what was stored in another one, of its youngest keys, since it was stored here."""
    keys = [
        stored
        for stored in other.live()
        if any(stored.digest.contents) and ((own := model.peek(stored.key)) is None or own.op_index < stored.op_index)
    ]
    return any(side.intact(each._replace(pool=pool, env_id=env_id)) is not None for each in keys[-_ASKED:])

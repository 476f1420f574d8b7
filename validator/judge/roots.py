"""Which one defect explains what was found: one store behind two pools shows up as a dozen other things."""

from __future__ import annotations

from reports.record.words import Dimension
from shadow.operation import Pool
from validator.judge import words
from validator.judge.case import Case
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.side import SideView
from validator.models.pools import pools_of
from validator.models.stored import PoolModel

_SHOWN_BY = (Dimension.PRESENCE, Dimension.LIVE_KEYS, Dimension.VALUE, Dimension.STRUCTURE, Dimension.ISOLATION)
_ASKED = 4  # keys of a pool that another one is asked for


def rooted(case: Case, charge: Charge, place: Place) -> Charge:
    """Return the charge for the defect that explains a charge, if there is one that can be shown, else the charge.

    A side that answers the keys of two pools through one another keeps both in one store. What follows from that
    (entries that are evicted, overwritten, cleared and answered too many) is no defect of its own.
    """
    side = next((side for side in case.sides if side.fault is charge.fault), None)
    if side is None or charge.dimension not in _SHOWN_BY or place.pool == "all":
        return charge
    for pool in pools_of(place.pool):
        own = (pool, place.env_id if pool == "init" else None)
        if own == ("init", None):
            continue
        known = case.one_store.get((side.name, *own))
        if known is not None:
            return known
        other = _one_store(side, *own)
        if other is not None:
            found = against(side, Finding(words.ONE_STORE, {"pool": own, "other_pool": other}), charge.leaves)
            case.one_store |= {(side.name, *own): found, (side.name, *other): found}
            return found
    return charge


def _one_store(side: SideView, pool: Pool, env_id: int | None) -> tuple[Pool, int | None] | None:
    """Name another pool whose keys this one answers, and the other way round; two keys at least must show it."""
    model = side.model.pool(pool, env_id)
    for other_pool, other_env, other in side.model.pools():
        if other is model:
            continue
        here = _answered(side, pool, env_id, model, other)
        there = _answered(side, other_pool, other_env, other, model)
        if sum(here) + sum(there) >= 2 and all(any(found) for found in (here, there) if found):
            return other_pool, other_env
    return None


def _answered(side: SideView, pool: Pool, env_id: int | None, model: PoolModel, other: PoolModel) -> list[bool]:
    """Tell of the youngest keys that only another pool should hold whether a pool answers them, as they were stored."""
    keys = [stored for stored in other.live() if model.peek(stored.key) is None and any(stored.digest.contents)]
    return [side.intact(stored._replace(pool=pool, env_id=env_id)) is not None for stored in keys[-_ASKED:]]

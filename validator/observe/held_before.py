"""What two caches hold already when they are put behind one: it is read in, or the pair is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from reports.record.words import Fault
from shadow.operation import Pool
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.judge.charge import Place, of_nobody
from validator.judge.keyed import KeyedCase
from validator.judge.side_view import SideView
from validator.models.stored import Stored

Held = dict[tuple[Pool, int | None], dict[Any, Stored]]


def held_before(case: KeyedCase) -> tuple[Held, Held] | None:
    """Look what both sides hold before the first operation.

    Returns:
        What control and candidate hold by pool and key; None if they hold nothing, as far as anybody can tell.

    Raises:
        ValueError: If one holds entries, and they or those of the other can't be listed.
    """
    numbers = [_number(side) for side in case.sides]
    if not any(numbers):
        return None
    for side in case.sides:
        if not side.lists_keys or side.reads_copies:
            raise ValueError(
                f"control and candidate hold {' and '.join('?' if n is None else str(n) for n in numbers)} entries "
                f"already, and {side.label} can't list its own: call clear_all() on both before shadow(), or give both "
                "live_keys(pool, env_id) and peek(pool, env_id, cache_key)"
            )
    control, candidate = (_read(case, side) for side in case.sides)
    return control, candidate


def read_in(case: KeyedCase, held: tuple[Held, Held]) -> None:
    """Take over what both sides hold, and charge once that they hold different entries, if they do.

    Nobody knows how old these entries are, so whom their pools evict is judged by agreement until they are cleared.
    """
    apart: list[tuple[Pool, int | None, Any]] = []
    counts = {"control": 0, "candidate": 0, "differ": 0}
    for pool, env_id in {**held[0], **held[1]}:
        case.agree(pool, env_id)
        one, other = (each.get((pool, env_id), {}) for each in held)
        for key in {**one, **other}:
            if key in one and key in other and one[key].digest == other[key].digest:
                other[key] = one[key]
                continue
            counts["differ" if key in one and key in other else "control" if key in one else "candidate"] += 1
            apart.append((pool, env_id, key))
        for side, entries in zip(case.sides, (one, other), strict=True):
            model = side.model.pool(pool, env_id)
            for key, stored in entries.items():
                model.set(key, stored)
            model.told_all = True
    case.counters.coverage["entries from before"] += sum(len(entries) for entries in held[0].values())
    if apart:
        charge = of_nobody(words.DIFFERENT_BEFORE, counts, Fault.HOST)
        case.charge(charge, Place(-1, "audit", "all"))
        for pool, env_id, key in apart:
            for side in case.sides:
                case.ledger.set_apart(side.name, pool, env_id, key, charge)


def _number(side: SideView) -> int | None:
    """Return how many entries a side holds, None if nobody can tell."""
    if side.lists_keys:
        return sum(len(side.keys(pool, env_id) or ()) for pool, env_id, _ in side.model.pools())
    with suppress(Exception):  # of a stranger's class
        return len(side.cache) if hasattr(type(side.cache), "__len__") else None
    return None


def _read(case: KeyedCase, side: SideView) -> Held:
    found: Held = {}
    for pool, env_id, model in side.model.pools():
        for key in side.unexpected(pool, env_id, model) or ():  # of an empty model, that is all
            leaves = entry_leaves(side.shown(pool, env_id, key))
            if leaves is not None:
                stored = Stored(key, pool, env_id, side.digest(leaves), -1, 0, 0, case.sink.env_step, 0)
                found.setdefault((pool, env_id), {})[key] = stored
    return found

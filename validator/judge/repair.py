"""Re-agreement: brings both sides back to the same contents where that is possible, without touching the primary."""

from __future__ import annotations

from collections.abc import Sequence

from reports.record.words import Dimension
from shadow.entry import KeysValues, Leaf
from shadow.operation import Pool
from validator.judge.ledger import Charge, Ledger
from validator.judge.side import SideView, entry_leaves
from validator.models.side_model import Stored

_OTHER_KEYS = (Dimension.PRESENCE, Dimension.LIVE_KEYS, Dimension.ERROR)


def settle(
    ledger: Ledger,
    side: SideView,
    other: SideView,
    primary: str,
    pool: Pool,
    env_id: int | None,
    key: int,
    expected: Stored | None,
    charge: Charge,
) -> None:
    """Settle what follows from a charge against one side.

    A secondary that answers wrong values under a live key is given the right ones of the primary. Everything else
    (the primary itself, keys that should be gone and can't be deleted through the interface, rings in which every set
    shifts ages) stays as it is and is known to be apart.

    Args:
        ledger: The pair's ledger.
        side: The side at fault.
        other: The other side.
        primary: Name of the primary.
        pool: Pool where it happened; never ``hierarchical``.
        env_id: Environment, or None.
        key: Key.
        expected: What the side should hold there, or None.
        charge: The charge.
    """
    if charge.dimension in _OTHER_KEYS:
        ledger.force(pool, env_id, charge)
    if expected is not None and side.name != primary and side.model.policy.kind not in ("legacy_ring", "legacy_dict"):
        entry = other.read(pool, env_id, key)
        right = None if entry is None else entry_leaves(entry)
        if right is not None and side.digest(right) == expected.digest and _give(side, expected, right):
            return
    ledger.part(side.name, pool, env_id, key, charge)


def _give(side: SideView, expected: Stored, right: Sequence[Leaf]) -> bool:
    """Set the right entry, and tell whether the side holds it now."""
    pool, env_id, key = expected.pool, expected.env_id, expected.key
    try:
        held_before = side.read(pool, env_id, key) is not None
        copy = KeysValues.empty_like(list(right))
        copy.copy_from(list(right))
        getattr(side.cache, f"set_{pool}_cache")(*((env_id,) if pool == "init" else ()), key, copy)
        if not held_before:
            model = side.model.pool(pool, env_id)
            model.rebase(key, None)  # it comes back as the youngest
            model.set(key, expected)
        again = side.read(pool, env_id, key)
        held = None if again is None else entry_leaves(again)
        return held is not None and side.digest(held) == expected.digest
    except Exception:  # whatever a broken side raises: it stays apart, and is known to
        return False

"""Brings a side back to what it should hold, where that can be done through its interface."""

from __future__ import annotations

from shadow.entry import KeysValues
from shadow.memory.buffers import Leaf
from validator.judge.side import SideView
from validator.models.stored import Stored


def repaired(side: SideView, other: SideView, expected: Stored) -> bool:
    """Give one side the entry that the other one holds, and tell whether it then holds what it should.

    Rings are left alone: there every set shifts ages.
    """
    if side.model.policy.kind in ("legacy_ring", "legacy_dict"):
        return False
    right = other.intact(expected)
    return right is not None and _given(side, expected, right)


def _given(side: SideView, expected: Stored, right: list[Leaf]) -> bool:
    pool, env_id, key = expected.pool, expected.env_id, expected.key
    try:
        held_before = side.read(pool, env_id, key) is not None
        copy = KeysValues.empty_like(right)
        copy.copy_from(right)
        getattr(side.cache, f"set_{pool}_cache")(*((env_id,) if pool == "init" else ()), key, copy)
        if not held_before:
            model = side.model.pool(pool, env_id)
            model.rebase(key, None)  # it comes back as the youngest
            model.set(key, expected)
        return side.intact(expected) is not None
    except Exception:  # whatever a broken side raises: it stays apart, and is known to
        return False

"""What the legacy store holds since 2025-08: a dict, a ring of slots, and a reverse map that outlives clears."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from validator.models.legacy_dict import LegacyDictModel
from validator.models.stored import Reason, Stored


class LegacyRingModel(LegacyDictModel):
    """The legacy ring, as ``shadow.legacy`` has it: a slot that is written again takes from the dict what it led to.

    Beside the ring runs the bounded FIFO map that would be right, keys only: where both part, it tells which quirk
    took a key. A slot whose stale reverse entry deletes a key that lives elsewhere is L1, or L4 if the entry dates
    from before a clear. A key taken from its own slot although the right map keeps it is L2 if that map evicted
    another one instead, L3 if it had room.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._reverse: list[tuple[int, int] | None] = [None] * capacity  # (key, epoch)
        self._epoch = 0
        self._right: OrderedDict[int, None] = OrderedDict()

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store in the next slot of the ring; return what lost its life to it."""
        index = self._write
        lost = super().set(key, stored)
        self._reverse[index] = (key, self._epoch)
        return lost

    def _make_room(self, key: int, stored: Stored) -> Stored | None:
        right_evicted = self._right_set(key)
        named = self._reverse[self._write]
        if named is None or named[0] not in self.held:
            return None
        old, epoch = named
        slot = self.held.pop(old)
        if old == key:
            return None
        lost = self._slots[slot]
        assert lost is not None
        self._remember((lost,), self._reason(old, slot, epoch, right_evicted), stored.op_index)
        return lost

    def clear(self, op_index: int) -> None:
        """Empty the dict; reverse map and write index survive."""
        self.measure()
        super().clear(op_index)
        self._right.clear()
        self._epoch += 1

    def live(self) -> Iterable[Stored]:
        return [stored for slot in self.held.values() if (stored := self._slots[slot]) is not None]

    def _right_set(self, key: int) -> int | None:
        if key in self._right:
            return None
        evicted = self._right.popitem(last=False)[0] if len(self._right) >= self.capacity else None
        self._right[key] = None
        return evicted

    def _reason(self, old: int, slot: int, epoch: int, right_evicted: int | None) -> Reason:
        if slot != self._write:
            return Reason.SLOT_LEAK if epoch == self._epoch else Reason.REVERSE_MAP_SURVIVED
        if old not in self._right:
            return Reason.EVICTED
        return Reason.CAPACITY_EATEN if right_evicted is None else Reason.AGE_REFRESHED

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

    def _make_room(self, key: int, stored: Stored) -> Stored | None:
        right, had_room = self._right, True
        if key not in right:
            had_room = len(right) < self.capacity
            if not had_room:
                right.popitem(last=False)
            right[key] = None
        named = self._reverse[self._write]
        self._reverse[self._write] = (key, self._epoch)
        if named is None or named[0] not in self.held:
            return None
        old, epoch = named
        slot = self.held.pop(old)
        if old == key:
            return None
        lost = self._slots[slot]
        assert lost is not None
        if slot != self._write:
            reason = Reason.SLOT_LEAK if epoch == self._epoch else Reason.REVERSE_MAP_SURVIVED
        elif old in right:
            reason = Reason.CAPACITY_EATEN if had_room else Reason.AGE_REFRESHED
        else:
            reason = Reason.EVICTED
        self._remember((lost,), reason, stored.op_index)
        return lost

    def clear(self, op_index: int) -> None:
        """Empty the dict; reverse map and write index survive."""
        self.measure()
        super().clear(op_index)
        self._right.clear()
        self._epoch += 1

    def live(self) -> Iterable[Stored]:
        return [stored for slot in self.held.values() if (stored := self._slots[slot]) is not None]

"""What the legacy store holds since 2025-08: a dict, a ring of slots, and a reverse map that outlives clears."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from validator.models.stored import Gone, Reason, Stored, Version, remember, remember_cleared, versions


class LegacyRingModel:
    """The legacy ring, as ``shadow.legacy`` has it.

    Beside the ring runs the bounded FIFO map that would be right, keys only: where both part, it tells which quirk
    took a key. A slot whose stale reverse entry deletes a key that lives elsewhere is L1, or L4 if the entry dates
    from before a clear. A key taken from its own slot although the right map keeps it is L2 if that map evicted
    another one instead, L3 if it had room.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.gone: OrderedDict[int, Gone] = OrderedDict()
        self._slot_of: dict[int, int] = {}
        self._slots: list[Stored | None] = [None] * capacity
        self._reverse: list[tuple[int, int] | None] = [None] * capacity  # (key, epoch)
        self._write = 0
        self._epoch = 0
        self._right: OrderedDict[int, None] = OrderedDict()

    def get(self, key: int) -> Stored | None:
        """Look a key up."""
        slot = self._slot_of.get(key)
        return None if slot is None else self._slots[slot]

    peek = get

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store in the next slot of the ring; return what lost its life to it."""
        index = self._write
        right_evicted = self._right_set(key)
        lost = None
        named = self._reverse[index]
        if named is not None and named[0] in self._slot_of:
            old, epoch = named
            slot = self._slot_of.pop(old)
            if old != key:
                lost = self._slots[slot]
                assert lost is not None
                remember(
                    self.gone, Gone(lost, self._reason(old, slot, epoch, right_evicted), stored.op_index), self.capacity
                )
        self._slot_of[key] = index
        self._slots[index] = stored
        self._reverse[index] = (key, self._epoch)
        self._write = (index + 1) % self.capacity
        self.gone.pop(key, None)
        return lost

    def clear(self, op_index: int) -> None:
        """Empty the dict; reverse map and write index survive."""
        remember_cleared(self.gone, self.live(), op_index, self.capacity)
        self._slot_of.clear()
        self._right.clear()
        self._epoch += 1

    def versions(self, key: int) -> tuple[Version, ...]:
        """Tell what a key holds and held, youngest first."""
        return versions(self.peek(key), self.gone.get(key))

    def rebase(self, key: int, stored: Stored | None) -> None:
        """Accept what the side was found to hold under a live key."""
        if stored is None:
            self._slot_of.pop(key, None)
        elif key in self._slot_of:
            self._slots[self._slot_of[key]] = stored

    def live(self) -> Iterable[Stored]:
        """Go through what is alive."""
        return [stored for slot in self._slot_of.values() if (stored := self._slots[slot]) is not None]

    def __len__(self) -> int:
        return len(self._slot_of)

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

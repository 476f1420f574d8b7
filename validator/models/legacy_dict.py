"""What LightZero 0.2.0 holds: a ring of slots under a dict that nobody tells when a slot is written again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from shadow.operation import make
from validator.models.stored import Gone, Reason, Stored, Version, remember, remember_cleared, versions


class LegacyDictModel:
    """The store of release 0.2.0: a set takes the next slot of the ring, and the dict forgets at a clear only.

    So a key outlives its slot: what it then leads to is whatever was stored there since, and ``get`` answers that
    set, whose ``key`` is another one. ``live`` names the keys alone that lead to what was stored under them; ``len``
    counts all.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.gone: OrderedDict[int, Gone] = OrderedDict()
        self._slot_of: dict[int, int] = {}
        self._slots: list[Stored | None] = [None] * capacity
        self._write = 0

    def get(self, key: int) -> Stored | None:
        """Look a key up; its slot may have been written under another key since."""
        slot = self._slot_of.get(key)
        return None if slot is None else self._slots[slot]

    peek = get

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store in the next slot of the ring; return what was overwritten there, if a key still led to it."""
        index = self._write
        old = self._slots[index]
        lost = old if old is not None and old.key != key and self._slot_of.get(old.key) == index else None
        if lost is not None:
            remember(self.gone, make(Gone, (lost, Reason.EVICTED, stored.op_index)), self.capacity)
        self._slot_of[key] = index
        self._slots[index] = stored
        self._write = (index + 1) % self.capacity
        self.gone.pop(key, None)
        return lost

    def clear(self, op_index: int) -> None:
        """Empty the dict; slots and write index survive."""
        remember_cleared(self.gone, self.live(), op_index, self.capacity)
        self._slot_of.clear()

    def versions(self, key: int) -> tuple[Version, ...]:
        """Tell what a key holds and held, youngest first."""
        slot, gone = self._slot_of.get(key), self.gone.get(key)
        stored = None if slot is None else self._slots[slot]
        if stored is not None and stored.key != key:
            stored = None
        return () if stored is None and gone is None else versions(stored, gone)

    def rebase(self, key: int, stored: Stored | None) -> None:
        """Accept what the side was found to hold under a live key."""
        if stored is None:
            self._slot_of.pop(key, None)
        elif key in self._slot_of:
            self._slots[self._slot_of[key]] = stored

    def live(self) -> Iterable[Stored]:
        """Go through what is alive under the key that it was stored under."""
        pairs = ((index, stored) for index, stored in enumerate(self._slots) if stored is not None)
        return [stored for index, stored in pairs if self._slot_of.get(stored.key) == index]

    def __len__(self) -> int:
        return len(self._slot_of)

"""What the oldest store holds: a ring of slots under a dict that nobody tells when a slot is written again."""

from __future__ import annotations

from collections.abc import Iterable

from validator.models.stored import PoolModel, Reason, Stored


class LegacyDictModel(PoolModel):
    """The store of release 0.2.0: a set takes the next slot of the ring, and the dict forgets at a clear only.

    So a key outlives its slot: what it then leads to is whatever was stored there since, and ``get`` answers that
    set, whose ``key`` is another one. ``live`` names the keys alone that lead to what was stored under them; ``len``
    counts all.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.held: dict[int, int] = {}
        self._slots: list[Stored | None] = [None] * capacity
        self._write = 0

    def peek(self, key: int) -> Stored | None:
        """Look a key up; its slot may have been written under another key since."""
        slot = self.held.get(key)
        return None if slot is None else self._slots[slot]

    get = peek

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store in the next slot of the ring; return what was overwritten there, if a key still led to it."""
        lost = self._make_room(key, stored)
        self.held[key] = self._write
        self._slots[self._write] = stored
        self._write = (self._write + 1) % self.capacity
        self.gone.pop(key, None)
        return lost

    def _make_room(self, key: int, stored: Stored) -> Stored | None:
        old = self._slots[self._write]
        if old is None or old.key == key or self.held.get(old.key) != self._write:
            return None
        self._remember((old,), Reason.EVICTED, stored.op_index)
        return old

    def measure(self) -> None:
        """Note how many slots were ever written: what lies in one is held until it is written again, cleared or not."""
        super().measure()
        self.most = max(self.most, self.capacity if None not in self._slots[-1:] else self._write)

    def clear(self, op_index: int) -> None:
        """Empty the dict; slots and write index survive."""
        self.measure()
        self._remember(self.live(), Reason.CLEARED, op_index)
        self.held.clear()

    def rebase(self, key: int, stored: Stored | None) -> None:
        if stored is None:
            self.held.pop(key, None)
        elif key in self.held:
            self._slots[self.held[key]] = stored

    def live(self) -> Iterable[Stored]:
        """Go through what is alive under the key that it was stored under."""
        pairs = ((index, stored) for index, stored in enumerate(self._slots) if stored is not None)
        return [stored for index, stored in pairs if self.held.get(stored.key) == index]

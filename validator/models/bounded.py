"""What a bounded map holds: the policy that is right."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from shadow.operation import make
from validator.models.stored import Gone, Reason, Stored, Version, remember, remember_cleared, versions


class BoundedModel:
    """A bounded map: FIFO by first insertion with updates in place, or LRU. PRIORITY without priorities is FIFO."""

    def __init__(self, capacity: int, recency: bool = False) -> None:
        self.capacity = capacity
        self.gone: OrderedDict[int, Gone] = OrderedDict()
        self._recency = recency
        self._entries: OrderedDict[int, Stored] = OrderedDict()

    def get(self, key: int) -> Stored | None:
        """Look a key up; under LRU this makes it the youngest."""
        stored = self._entries.get(key)
        if stored is not None and self._recency:
            self._entries.move_to_end(key)
        return stored

    def peek(self, key: int) -> Stored | None:
        """Look a key up without any effect."""
        return self._entries.get(key)

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store; an update in place keeps its age, unless recency counts."""
        entries = self._entries
        if key in entries:
            entries[key] = stored
            if self._recency:
                entries.move_to_end(key)
            return None
        evicted = None
        if len(entries) >= self.capacity:
            _, evicted = entries.popitem(last=False)
            remember(self.gone, make(Gone, (evicted, Reason.EVICTED, stored.op_index)), self.capacity)
        entries[key] = stored
        self.gone.pop(key, None)
        return evicted

    def clear(self, op_index: int) -> None:
        """Forget everything."""
        remember_cleared(self.gone, self._entries.values(), op_index, self.capacity)
        self._entries.clear()

    def versions(self, key: int) -> tuple[Version, ...]:
        """Tell what a key holds and held, youngest first."""
        stored, gone = self._entries.get(key), self.gone.get(key)
        return () if stored is None and gone is None else versions(stored, gone)

    def rebase(self, key: int, stored: Stored | None) -> None:
        """Accept what the side was found to hold under a live key."""
        if stored is None:
            self._entries.pop(key, None)
        elif key in self._entries:
            self._entries[key] = stored

    def live(self) -> Iterable[Stored]:
        """Go through what is alive, next to be evicted first."""
        return self._entries.values()

    def __len__(self) -> int:
        return len(self._entries)

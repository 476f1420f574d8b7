"""What a bounded map holds: the policy that is right."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from validator.models.stored import PoolModel, Reason, Stored


class BoundedModel(PoolModel):
    """A bounded map: FIFO by first insertion with updates in place, or LRU. PRIORITY without priorities is FIFO.

    Args:
        capacity: Entries that it may hold.
        recency: Whether a lookup makes its key the youngest.
        set_renews: Whether a set of a key that is held does.
    """

    def __init__(self, capacity: int, recency: bool = False, set_renews: bool = False) -> None:
        super().__init__(capacity)
        self._recency = recency
        self._set_renews = recency or set_renews
        self.held: OrderedDict[int, Stored] = OrderedDict()

    def get(self, key: int) -> Stored | None:
        stored = self.held.get(key)
        if stored is not None and self._recency:
            self.held.move_to_end(key)
        return stored

    def peek(self, key: int) -> Stored | None:
        return self.held.get(key)

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store; an update in place keeps its age, unless it renews it."""
        entries = self.held
        if key in entries:
            entries[key] = stored
            if self._set_renews:
                entries.move_to_end(key)
            return None
        evicted = None
        if len(entries) >= self.capacity:
            _, evicted = entries.popitem(last=False)
            self._remember((evicted,), Reason.EVICTED, stored.op_index)
        entries[key] = stored
        self.gone.pop(key, None)
        return evicted

    def clear(self, op_index: int) -> None:
        self.measure()
        self._remember(self.held.values(), Reason.CLEARED, op_index)
        self.held.clear()

    def rebase(self, key: int, stored: Stored | None) -> None:
        if stored is None:
            self.held.pop(key, None)
        elif key in self.held:
            self.held[key] = stored

    def live(self) -> Iterable[Stored]:
        return self.held.values()

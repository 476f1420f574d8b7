"""What a pool may hold of which nobody knows whom it evicts: what was stored, until it is found missing."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable

from validator.models.stored import PoolModel, Reason, Stored

_MOST = 8192  # entries remembered, and as many that are gone


class AgreedModel(PoolModel):
    """A pool whose evictions are its own business. What it answers must have been stored there all the same.

    Args:
        told_all: Whether every entry in it was stored before our eyes.
    """

    evicts_as_it_likes = True

    def __init__(self, told_all: bool = True) -> None:
        super().__init__(sys.maxsize)
        self.told_all = told_all
        self._most_gone = _MOST
        self.held: OrderedDict[int, Stored] = OrderedDict()

    def peek(self, key: int) -> Stored | None:
        return self.held.get(key)

    get = peek

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store; nothing gives way, though beyond what is remembered this no longer knows all that there is."""
        self.held[key] = stored
        self.gone.pop(key, None)
        if len(self.held) > _MOST:
            self.held.popitem(last=False)
            self.told_all = False
        return None

    def clear(self, op_index: int) -> None:
        missed = [gone.stored for gone in self.gone.values() if gone.reason is Reason.EVICTED]  # and may be there still
        self._remember([*missed, *self.held.values()], Reason.CLEARED, op_index)
        self.held.clear()
        self.told_all = True

    def rebase(self, key: int, stored: Stored | None) -> None:
        if stored is None:
            self.held.pop(key, None)
        elif key in self.held:
            self.held[key] = stored

    def lets_go(self, key: int, op_index: int) -> bool:
        lost = self.held.pop(key, None)
        if lost is not None:
            self._remember((lost,), Reason.EVICTED, op_index)
        return True

    def may_hold(self, key: int) -> Stored | None:
        gone = self.gone.get(key)
        return self.peek(key) or (gone.stored if gone is not None and gone.reason is Reason.EVICTED else None)

    def live(self) -> Iterable[Stored]:
        return list(self.held.values())  # some may be let go on the way

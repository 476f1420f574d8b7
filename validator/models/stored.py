"""What a model remembers: one set, what its key held before, and why a key is gone.

A model never sees a tensor again after the set was digested. What it remembers is bounded by the number of
live entries, not by the length of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from shadow.operation import Pool, make
from validator.entries.digest import Digest

_MOST_GONE = 1 << 16


class Version(NamedTuple):
    """What a key held before: since which operation, and whether it was alive when it was replaced."""

    digest: Digest
    op_index: int
    alive: bool


class Stored(NamedTuple):
    """One set, as remembered.

    Attributes:
        key: Cache key.
        pool: Where.
        env_id: Environment, where each has a pool of its own, else None.
        digest: What was stored.
        op_index: Ordinal of the set.
        episode: Episodes of this env that had ended before.
        search: Searches that had begun before.
        env_step: Environment step, -1 if the host did not say.
        weight_version: Weight updates before.
        previous: What the key held before, youngest first, as far as it is remembered.
    """

    key: int
    pool: Pool
    env_id: int | None
    digest: Digest
    op_index: int
    episode: int
    search: int
    env_step: int
    weight_version: int
    previous: tuple[Version, ...] = ()

    @property
    def was_alive(self) -> bool:
        """Whether its key was alive when it was set."""
        return bool(self.previous) and self.previous[0].alive

    def __deepcopy__(self, memo: dict[int, Any]) -> Stored:
        return self  # models that are copied go on to share it: 'is' compares what two of them hold


class Reason(Enum):
    """Why a key is no longer alive in a model."""

    EVICTED = "evicted"
    CLEARED = "cleared"
    DELETED = "deleted"
    SLOT_LEAK = "L1"
    AGE_REFRESHED = "L2"
    CAPACITY_EATEN = "L3"
    REVERSE_MAP_SURVIVED = "L4"


class Gone(NamedTuple):
    """A key that is no longer alive: what it held, why and since when."""

    stored: Stored
    reason: Reason
    op_index: int


class PoolModel(ABC):
    """What one pool should hold.

    Args:
        capacity: Entries that it may hold.

    Attributes:
        held: By each key that is alive, what was stored or what leads there.
        gone: What is no longer alive, longest gone first, as far as it is remembered.
        evicts_as_it_likes: Whether nothing is known of whom it evicts, so that what it lacks is its own business.
        told_all: Whether all that it may hold was told of; else it may answer what no set explains.
        ever_cleared: Whether it was cleared before our eyes.
        most: Entries that were alive at once, as far as it was measured.
        largest: Bytes of the largest of them, buffers and all.
    """

    evicts_as_it_likes: ClassVar[bool] = False
    told_all = True
    ever_cleared = False
    held: MutableMapping[int, Any]

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._most_gone = min(2 * capacity + 16, _MOST_GONE)
        self.gone: OrderedDict[int, Gone] = OrderedDict()
        self.most = self.largest = 0

    def measure(self) -> None:
        """Note how much is alive; to be done before it is cleared, since until then it only grows."""
        self.most = max(self.most, len(self))
        for digest in {id(stored.digest.layout): stored.digest for stored in self.live()}.values():
            self.largest = max(self.largest, digest.nbytes)

    def get(self, key: int) -> Stored | None:
        """Look a key up as the cache would; this may refresh its age."""
        return self.peek(key)

    @abstractmethod
    def peek(self, key: int) -> Stored | None:
        """Look a key up without any effect."""

    @abstractmethod
    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store; return what was evicted to make room."""

    @abstractmethod
    def clear(self, op_index: int) -> None:
        """Forget everything."""

    def delete(self, key: int, op_index: int) -> Stored | None:
        """Forget one key; return what it held."""
        stored = self.peek(key)
        if stored is not None:
            self.most = max(self.most, len(self))
            self._remember((stored,), Reason.DELETED, op_index)
            self.rebase(key, None)
        return stored

    @abstractmethod
    def rebase(self, key: int, stored: Stored | None) -> None:
        """Accept what a side was found to hold (None: nothing) under a live key, so that it is news only once."""

    def lets_go(self, key: int, op_index: int) -> bool:
        """Take note that nothing was found under a key; tell whether that is its own business."""
        return False

    def may_hold(self, key: int) -> Stored | None:
        """Look up what may be answered for a key without being a fault."""
        return self.peek(key)

    def may_be_from_before(self, key: int) -> bool:
        """Tell whether an entry that was never stored here may have been there from the beginning."""
        return not self.ever_cleared and key not in self.gone and len(self.gone) < self._most_gone

    @abstractmethod
    def live(self) -> Iterable[Stored]:
        """Go through what is alive, next to be evicted first."""

    def __len__(self) -> int:
        return len(self.held)

    def versions(self, key: int) -> tuple[Version, ...]:
        """Tell what a key holds, or held when it went, before what it held earlier; at most eight of them."""
        stored, gone = self.peek(key), self.gone.get(key)
        if stored is not None and stored.key == key:
            last, alive = stored, True
        elif gone is not None:
            last, alive = gone.stored, False
        else:
            return ()
        return (make(Version, (last.digest, last.op_index, alive)), *last.previous[:7])

    def _remember(self, lost: Iterable[Stored], reason: Reason, op_index: int) -> None:
        """Remember what went, in this order, and forget the longest gone beyond what is remembered."""
        gone = self.gone
        for stored in lost:
            gone.pop(stored.key, None)
            gone[stored.key] = make(Gone, (stored, reason, op_index))
        while len(gone) > self._most_gone:
            gone.popitem(last=False)

"""What a model remembers: one set, what its key held before, and why a key is gone.

A model never sees a tensor again after the set was digested. What it remembers is bounded by the number of
live entries, not by the length of the run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from shadow.operation import Pool, make
from validator.entries.digest import Digest


class Version(NamedTuple):
    """What a key held before: since which operation, and whether it was alive when it was replaced."""

    digest: Digest
    op_index: int
    alive: bool


class Stored(NamedTuple):
    """One set, as remembered.

    Attributes:
        key: Cache key.
        pool: ``init``, ``recur`` or ``wm``.
        env_id: Environment of an init entry, else None.
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

    def __deepcopy__(self, memo: dict[int, Any]) -> Stored:
        return self  # models that are copied go on to share it: 'is' compares what two of them hold


class Reason(Enum):
    """Why a key is no longer alive in a model."""

    EVICTED = "evicted"
    CLEARED = "cleared"
    SLOT_LEAK = "L1"
    AGE_REFRESHED = "L2"
    CAPACITY_EATEN = "L3"
    REVERSE_MAP_SURVIVED = "L4"


class Gone(NamedTuple):
    """A key that is no longer alive: what it held, why and since when."""

    stored: Stored
    reason: Reason
    op_index: int


class PoolModel(Protocol):
    """What one pool should hold."""

    capacity: int
    gone: OrderedDict[int, Gone]

    def get(self, key: int) -> Stored | None:
        """Look a key up as the cache would; this may refresh its age."""

    def peek(self, key: int) -> Stored | None:
        """Look a key up without any effect."""

    def set(self, key: int, stored: Stored) -> Stored | None:
        """Store; return what was evicted to make room."""

    def clear(self, op_index: int) -> None:
        """Forget everything."""

    def versions(self, key: int) -> tuple[Version, ...]:
        """Tell what a key holds and held, youngest first, as far as it is remembered."""

    def rebase(self, key: int, stored: Stored | None) -> None:
        """Accept what a side was found to hold (None: nothing) under a live key, so that it is news only once."""

    def live(self) -> Iterable[Stored]:
        """Go through what is alive, next to be evicted first."""

    def __len__(self) -> int: ...


def versions(stored: Stored | None, gone: Gone | None) -> tuple[Version, ...]:
    """Line up what a key holds, or held when it went, before what it held earlier; at most eight of them."""
    last = stored or (None if gone is None else gone.stored)
    if last is None:
        return ()
    return (make(Version, (last.digest, last.op_index, stored is not None)), *last.previous[:7])


def remember(gone: OrderedDict[int, Gone], item: Gone, capacity: int) -> None:
    """Add to the memory of what is gone, forgetting the oldest beyond twice the capacity."""
    key = item.stored.key
    gone.pop(key, None)
    gone[key] = item
    if len(gone) > 2 * capacity + 16:
        gone.popitem(last=False)


def remember_cleared(gone: OrderedDict[int, Gone], live: Iterable[Stored], op_index: int, capacity: int) -> None:
    """Add what was alive when a pool was cleared, in this order."""
    for stored in live:
        key = stored.key
        gone.pop(key, None)
        gone[key] = make(Gone, (stored, Reason.CLEARED, op_index))
    for _ in range(len(gone) - (2 * capacity + 16)):
        gone.popitem(last=False)

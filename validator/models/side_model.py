"""What a cache *should* hold: exact models of the policies that caches declare.

A model maps keys to ``Stored``, the memory of one set. It never sees a tensor again after the set was digested, and it
remembers for a while why a key is gone, so that a wrong answer can be named. Memory is bounded by the number of live
entries, not by the length of the run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from shadow.interface import CachePolicy
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


class LegacyRingModel:
    """The legacy ring: a dict, a ring of slots and a reverse map that outlives clears. See ``shadow.legacy``.

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


class SideModel:
    """What one whole cache should hold.

    Args:
        policy: What it declares, or what is assumed of it.
        env_num: Number of environments.
    """

    def __init__(self, policy: CachePolicy, env_num: int) -> None:
        self.policy = policy
        self.env_num = env_num
        sizes = policy.capacities
        self.init = [self._pool(sizes.init) for _ in range(env_num)]
        self.recur = self._pool(sizes.recur)
        self.wm = self._pool(sizes.wm)

    def _pool(self, capacity: int) -> Any:
        if self.policy.kind == "legacy_ring":
            return LegacyRingModel(capacity)
        if self.policy.kind == "legacy_dict":
            from validator.models.legacy_dict import LegacyDictModel  # it stands on the types of this module

            return LegacyDictModel(capacity)
        return BoundedModel(capacity, recency=self.policy.kind == "lru")

    def pool(self, pool: Pool, env_id: int | None) -> PoolModel:
        """Return the model of one pool."""
        if pool == "init":
            assert env_id is not None
            model: PoolModel = self.init[env_id]
            return model
        found: PoolModel = self.recur if pool == "recur" else self.wm
        return found

    def pools(self) -> list[tuple[Pool, int | None, PoolModel]]:
        """List all pools with their names and envs."""
        return [
            *(("init", env_id, model) for env_id, model in enumerate(self.init)),
            ("recur", None, self.recur),
            ("wm", None, self.wm),
        ]

    def get(self, pool: Pool, env_id: int | None, key: int) -> Stored | None:
        """Look a key up as the cache should; ``hierarchical`` looks in init first, then in recur."""
        if env_id is None:
            found: Stored | None = (self.recur if pool == "recur" else self.wm).get(key)
            return found
        found = self.init[env_id].get(key)
        return self.recur.get(key) if found is None and pool == "hierarchical" else found

    def clear(self, pool: Pool, env_id: int | None, op_index: int) -> None:
        """Forget what an operation clears: ``all``, ``init`` (of one env, or of all for None) or ``recur``."""
        if pool in ("all", "init"):
            for each, model in enumerate(self.init):
                if env_id is None or each == env_id:
                    model.clear(op_index)
        if pool in ("all", "recur"):
            self.recur.clear(op_index)
        if pool == "all":
            self.wm.clear(op_index)

"""Results that a side handed out: whether they change while they are held, and who changed them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.record.records import Cause, Dimension, Fault
from shadow.lent import readable
from shadow.located import region
from shadow.memory.buffers import Leaf
from shadow.memory.regions import Region
from validator.entries.digest import Digest, digest_region, holds
from validator.judge.ledger import Charge, Place
from validator.judge.side import SideView, entry_leaves, storages
from validator.models.side_model import Stored

if TYPE_CHECKING:
    from validator.observe.pair import Pair

_EACH = 16  # answers of the secondary of which one is held, after the first ones; divides _WATCH_EACH
_MOST_HELD = 16
_WATCH_FIRST = 64  # answers that are all looked at, one after the other
_WATCH_EACH = 64
_WATCH_FOR = 4  # operations; of the first ones, until memory may well have been reused:
_WATCH_FIRST_FOR = 32
_MOST_ANSWERED = 8192


class Snapshot(NamedTuple):
    """The tensors and lengths of one answer at one moment.

    Attributes:
        leaves: Its leaves.
        origin: What a lent answer reads from, held so that the cache leaves it as it is; None for any other.
        plain: Where it lies, if it is plain.
    """

    leaves: list[Leaf]
    origin: Any
    plain: Region | None

    def digest(self, side: SideView) -> Digest:
        """Digest what these tensors hold now."""
        plain = self.plain
        return side.digest(self.leaves) if plain is None or not plain.steady else digest_region(plain)

    def holds(self, side: SideView, before: Digest) -> bool:
        """Tell whether these tensors still hold what they did."""
        plain = self.plain
        return side.digest(self.leaves) == before if plain is None or not plain.steady else holds(plain, before)


@dataclass(slots=True)
class Watch:
    """An answer of the primary that is looked at before and after each of the next operations.

    Attributes:
        found: The answer.
        before: What it held when it was given.
        stored: What was looked up.
        until: Ordinal of the operation after which it is let go.
        over: Whether it is known to have changed; what it holds later is no news.
    """

    found: Snapshot
    before: Digest
    stored: Stored
    until: int
    over: bool = False


class HeldResults:
    """Holds some answers of both sides and looks at them again.

    Nobody but the secondary itself can change what the secondary answered. What the primary answered is in the host's
    hands: a change between two operations is the host's, a change during one is the cache's.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._live = pair.primary.model.policy.live_results
        self._answers = 0
        self._held: deque[tuple[Snapshot, Digest, Stored]] = deque()
        self.watched: Watch | None = None
        self._answered: deque[int] = deque(maxlen=_MOST_ANSWERED)  # ordinals of sets

    def answered(self, control: Any, candidate: Any, stored: Stored, op_index: int) -> None:
        """See a right answer of both sides."""
        self._answers += 1
        if self._live:
            self._answered.append(stored.op_index)
        early = self._answers <= _WATCH_FIRST
        if not early and self._answers % _EACH:
            return
        pair = self._pair
        primary, secondary = (control, candidate) if pair.primary is pair.control else (candidate, control)
        if not pair.secondary.model.policy.live_results:
            found = _snapshot(secondary, pair.plain)
            # What was not held against the digest to the bit may differ from it without having changed since.
            exact = pair.referee.tolerance is None and pair.config.digest_share >= 1 and pair.late is None
            self._held.append((found, stored.digest if exact else found.digest(pair.secondary), stored))
            self.check(keep=_MOST_HELD)
        if self.watched is None and (early or self._answers % _WATCH_EACH == 0):
            found = _snapshot(primary, pair.plain)
            until = op_index + (_WATCH_FIRST_FOR if early else _WATCH_FOR)
            self.watched = Watch(found, found.digest(pair.primary), stored, until)

    def before_operation(self) -> None:
        """Look whether the host wrote into what it was given; only while there is something ``watched``."""
        watch = self.watched
        assert watch is not None
        late, side, found = self._pair.late, self._pair.primary, watch.found
        if late is not None and late.active:
            wrote = partial(self._host_wrote, watch, self._is_stored(watch))
            if late.holds(found.leaves, watch.before, wrote):
                return
        if not found.holds(side, watch.before):
            self._host_wrote(watch, self._is_stored(watch))

    def after_operation(self, op_index: int) -> None:
        """Look whether the operation itself changed what the primary had handed out; only while ``watched``."""
        watch = self.watched
        assert watch is not None
        late, side, found = self._pair.late, self._pair.primary, watch.found
        taken = late is not None and late.holds(found.leaves, watch.before, partial(self._cache_wrote, watch))
        if not taken and not found.holds(side, watch.before):
            self._cache_wrote(watch)
        if watch.over or op_index >= watch.until:
            self.watched = None

    def check(self, keep: int) -> None:
        """Look at the answers of the secondary held longest, until only so many are left."""
        late, side = self._pair.late, self._pair.secondary
        while len(self._held) > keep:
            found, before, stored = self._held.popleft()
            if late is not None and late.holds(found.leaves, before, partial(self._charge_change, side, stored)):
                continue
            if not found.holds(side, before):
                self._charge_change(side, stored)

    def may_be_the_hosts(self, stored: Stored) -> bool:
        """Tell whether the host had the stored entry itself in its hands."""
        return stored.op_index in self._answered

    def _is_stored(self, watch: Watch) -> bool:
        """Tell whether what was handed out is the memory that the primary stores."""
        primary, stored = self._pair.primary, watch.stored
        # One that can be looked into is not asked as well: this is between a host's question and the answer.
        if primary.shows_nothing(stored.pool, stored.env_id, stored.key):
            return False
        entry = primary.read(stored.pool, stored.env_id, stored.key)
        held = None if entry is None else entry_leaves(entry)
        return held is not None and bool(storages(held) & storages(watch.found.leaves))

    def _host_wrote(self, watch: Watch, is_stored: bool) -> None:
        if watch.over:
            return
        watch.over = True
        if self.watched is watch:
            self.watched = None
        if not is_stored:
            return  # it was the host's own copy
        side, stored = self._pair.primary, watch.stored
        charge = Charge(
            Dimension.ISOLATION,
            Cause.ALIASED_ON_GET,
            Fault.HOST if self._live else Fault(side.name),
            f"The {side.label} hands out what it stores, and the host wrote into the entry of operation "
            f"{stored.op_index}.",
        )
        self._pair.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))
        if side.holds(stored):
            self._pair.ledger.part(side.name, stored.pool, stored.env_id, stored.key, charge)

    def _cache_wrote(self, watch: Watch) -> None:
        if watch.over:
            return
        watch.over = True
        if not self._live:
            self._charge_change(self._pair.primary, watch.stored)

    def _charge_change(self, side: SideView, stored: Stored) -> None:
        text = (
            f"A result that the {side.label} had handed out changed while it was held: a later operation reused its "
            "memory."
        )
        charge = Charge(Dimension.ISOLATION, Cause.ALIASED_ON_GET, Fault(side.name), text)
        self._pair.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))


def _snapshot(answer: Any, plain_too: bool) -> Snapshot:
    plain = region(answer) if plain_too else None
    origin = readable(answer)
    return Snapshot(
        entry_leaves(answer) or [],
        None if origin is answer else origin,
        None if plain is None else plain.copy(),
    )

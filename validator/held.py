"""Results that a side handed out: whether they change while they are held, and who changed them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from shadow.entry import Leaf, Lent, readable, region
from shadow.memory import Region
from validator.digest import Digest, digest, digest_region
from validator.ledger import Charge, Place
from validator.models import Stored
from validator.records import Cause, Dimension, Fault
from validator.side import SideView, entry_leaves, storages

if TYPE_CHECKING:
    from validator.pair import Pair

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

    def digest(self) -> Digest:
        """Digest what these tensors hold now."""
        plain = self.plain
        return digest(self.leaves) if plain is None or not plain.steady else digest_region(plain)


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
        self.watched: tuple[Snapshot, Digest, Stored] | None = None
        self._watch_until = 0  # ordinal of an operation
        self._answered: dict[int, None] = {}  # ordinals of sets, the oldest first

    def answered(self, control: Any, candidate: Any, stored: Stored, op_index: int) -> None:
        """See a right answer of both sides."""
        self._answers += 1
        if self._live:
            answered = self._answered
            answered[stored.op_index] = None
            if len(answered) > _MOST_ANSWERED:
                del answered[next(iter(answered))]
        early = self._answers <= _WATCH_FIRST
        if not early and self._answers % _EACH:
            return
        pair = self._pair
        primary, secondary = (control, candidate) if pair.primary is pair.control else (candidate, control)
        if not pair.secondary.model.policy.live_results:
            found = _snapshot(secondary)
            # What was not held against the digest to the bit may differ from it without having changed since.
            exact = pair.referee.tolerance is None and pair.config.digest_share >= 1
            self._held.append((found, stored.digest if exact else found.digest(), stored))
            self.check(keep=_MOST_HELD)
        if self.watched is None and (early or self._answers % _WATCH_EACH == 0):
            found = _snapshot(primary)
            self.watched = (found, found.digest(), stored)
            self._watch_until = op_index + (_WATCH_FIRST_FOR if early else _WATCH_FOR)

    def before_operation(self) -> None:
        """Look whether the host wrote into what it was given; only while there is something ``watched``."""
        assert self.watched is not None
        found, before, stored = self.watched
        if found.digest() == before:
            return
        self.watched = None
        side = self._pair.primary
        entry = side.read(stored.pool, stored.env_id, stored.key)
        held = None if entry is None else entry_leaves(entry)
        if held is None or not storages(held) & storages(found.leaves):
            return  # it was the host's own copy
        charge = Charge(
            Dimension.ISOLATION,
            Cause.ALIASED_ON_GET,
            Fault.HOST if self._live else Fault(side.name),
            f"The {side.label} hands out what it stores, and the host wrote into the entry of operation "
            f"{stored.op_index}.",
        )
        self._pair.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))
        self._pair.ledger.part(side.name, stored.pool, stored.env_id, stored.key, charge)

    def after_operation(self, op_index: int) -> None:
        """Look whether the operation itself changed what the primary had handed out; only while ``watched``."""
        assert self.watched is not None
        found, before, stored = self.watched
        if found.digest() != before:
            self.watched = None
            if not self._live:
                self._charge_change(self._pair.primary, stored)
        elif op_index >= self._watch_until:
            self.watched = None

    def check(self, keep: int) -> None:
        """Look at the answers of the secondary held longest, until only so many are left."""
        while len(self._held) > keep:
            found, before, stored = self._held.popleft()
            if found.digest() != before:
                self._charge_change(self._pair.secondary, stored)

    def may_be_the_hosts(self, stored: Stored) -> bool:
        """Tell whether the host had the stored entry itself in its hands."""
        return stored.op_index in self._answered

    def _charge_change(self, side: SideView, stored: Stored) -> None:
        text = (
            f"A result that the {side.label} had handed out changed while it was held: a later operation reused its "
            "memory."
        )
        charge = Charge(Dimension.ISOLATION, Cause.ALIASED_ON_GET, Fault(side.name), text)
        self._pair.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))


def _snapshot(answer: Any) -> Snapshot:
    plain = region(answer)
    return Snapshot(
        entry_leaves(answer) or [],
        readable(answer) if type(answer) is Lent else None,
        None if plain is None else plain.copy(),
    )

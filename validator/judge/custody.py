"""In whose hands the memory is that a side stores: its own, or those of everybody whom it answered.

A side that hands out the memory it stores is at the mercy of its host. That is charged where it declares not to, and
wherever a host is seen to write into what it was given; and what such memory is found to hold may be the host's doing.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from reports.record.words import Cause, Dimension, Fault
from shadow.lent import readable
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves, in_one_memory
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.keyed import KeyedCase
from validator.judge.side_view import SideView
from validator.models.stored import Stored

_MOST_REMEMBERED = 8192
_SOURCED = (  # what was answered is known by where or when it was stored
    *(Cause.STALE_VERSION, Cause.RESET_IGNORED, Cause.OTHER_KEY, Cause.OTHER_ENV, Cause.WRONG_POOL_ORDER),
    Cause.DICT_OUTLIVES_RING,
)


class Answer(NamedTuple):
    """One answer of one side.

    Attributes:
        found: The very object: what it holds is read anew at every look. A lent one reads from where it was lent until
            it is touched, and from its own copies after.
        before: What it held when it was given.
        stored: What was looked up.
    """

    found: Any
    before: Digest
    stored: Stored


class Custody:
    """What is known of one pair about the memory that its sides answer with.

    Attributes:
        primary_lends: Whether the primary answers with the memory that it stores, as it declares or as was seen.
        secondary_lends: The same of the secondary, as was seen.
        in_hands: Ordinals of the last sets whose stored entry the host was given itself.
        held: Answers of the secondary that are held to look at them again, longest held first.
        host_wrote: The charge for what the host was seen to write into what is stored, if it was.
    """

    def __init__(self, case: KeyedCase) -> None:
        self._case = case
        self.primary_lends = bool(case.primary.model.policy.live_results)
        self.secondary_lends = False
        self.in_hands: deque[int] = deque(maxlen=_MOST_REMEMBERED)
        self.held: deque[Answer] = deque()
        self.host_wrote: Charge | None = None
        self._charged: dict[Fault, Charge] = {}

    def look(self, side: SideView, found: Any, stored: Stored, op_index: int) -> None:
        """See whether a side answered with the memory that it stores, and charge it if it declares not to.

        One that can't be looked into is known by answering the same memory twice.
        """
        if _is_lent(found):
            return
        shown = side.shown(stored.pool, stored.env_id, stored.key)
        if in_one_memory(found, shown) or (side is self._case.secondary and self._was_answered(found, stored)):
            self._shares(side, stored, op_index)

    def was_asked(self, side: SideView, found: Any, stored: Stored) -> None:
        """See what a side that can't be looked into answers to us, where a host may have been given it before."""
        if side is self._case.secondary and side.reads_copies and self.held and self._was_answered(found, stored):
            self._shares(side, stored, stored.op_index)

    def charge(self, charge: Charge, place: Place) -> Charge:
        """Charge what is one defect, however often it is seen: record it once, and return what is on record."""
        known = self._charged.setdefault(charge.fault, charge)
        if known is charge:
            self._case.charge(charge, place)
        else:
            self._case.ledger.count(known)
        return known

    def doubted(self, charge: Charge, stored: Stored) -> Charge:
        """Return a charge as it is, or not against the side where the host may as well have done it.

        That may be where the host was given the memory that was found changed. What was stored elsewhere or earlier is
        named by that and not doubted, unless the host stored it there out of this memory; neither is the host doubted
        once it was seen to write there.
        """
        primary = self._case.primary
        if charge.finding.kind is words.HOST_WROTE_GIVEN:
            return charge._replace(fault=Fault.HOST)
        doubtful = charge.fault is primary.fault and charge.dimension in (Dimension.VALUE, Dimension.STRUCTURE)
        if not doubtful or stored.op_index not in self.in_hands:
            return charge
        if charge.cause in _SOURCED and not self._was_given_back(stored):
            return charge
        if self.host_wrote is not None:
            finding = Finding(words.HOST_WROTE, {"op": stored.op_index}, words.SEEN_BEFORE)
            return against(primary, finding)._replace(fault=self.host_wrote.fault)
        return charge._replace(finding=charge.finding._replace(note=words.PERHAPS_THE_HOST), fault=Fault.UNKNOWN)

    def doubted_answer(self, charge: Charge, answer: Any, stored: Stored | None) -> Charge:
        """Doubt a charge for what the primary answered, if that is the memory that the host had in its hands."""
        primary = self._case.primary
        if stored is None or charge.fault is not primary.fault:
            return charge
        if charge.finding.kind is words.HOST_WROTE_GIVEN:
            return self.doubted(charge, stored)
        shown = primary.shown(stored.pool, stored.env_id, stored.key)
        return self.doubted(charge, stored) if primary.reads_copies or in_one_memory(answer, shown) else charge

    def _was_answered(self, found: Any, stored: Stored) -> bool:
        if _is_lent(found):
            return False
        shared = [answer for answer in self.held if not _is_lent(answer.found) and in_one_memory(found, answer.found)]
        # One scratch object for all answers is no store; that one answer overwrites another is seen elsewhere.
        return bool(shared) and all(answer.stored is stored for answer in shared)

    def _was_given_back(self, stored: Stored) -> bool:
        primary = self._case.primary
        held = entry_leaves(primary.shown(stored.pool, stored.env_id, stored.key))
        return held is not None and self._case.referee.was_given_back(primary, held)

    def _shares(self, side: SideView, stored: Stored, op_index: int) -> None:
        self._case.counters.coverage[f"answers of the {side.name} that are what it stores"] += 1
        if side is self._case.secondary:
            self.secondary_lends = True
        else:
            self.primary_lends = True
            self.in_hands.append(stored.op_index)
        if side.model.policy.live_results is False:
            place = Place(op_index, "audit", stored.pool, stored.env_id, stored.key)
            self.charge(against(side, Finding(words.HANDS_OUT_STORED)), place)


def _is_lent(found: Any) -> bool:
    """Tell whether an answer copies itself before anybody can write into it."""
    return readable(found) is not found

"""Examines one entry of one side: does it hold what was stored, and if not, what is wrong with it?"""

from __future__ import annotations

from typing import Any

from shadow.located import region
from shadow.memory.buffers import Leaf
from validator.entries.digest import holds
from validator.entries.readable import entry_leaves, overlap
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.custody import Custody
from validator.judge.keyed import KeyedCase
from validator.judge.presence import lost
from validator.judge.roots import rooted
from validator.judge.side import Unreadable
from validator.judge.side_view import SideView
from validator.models.stored import Stored


class Examination:
    """Examines entries of one pair, and charges a side with what it finds."""

    def __init__(self, case: KeyedCase, custody: Custody) -> None:
        self._case = case
        self.custody = custody

    def arrived(self, side: SideView, stored: Stored, given: Any, held: Any) -> Finding | None:
        """Look closely whether a set arrived as it was given, and as a copy.

        Args:
            side: The side.
            stored: The set; the side's model does not know of it yet.
            given: The very object the side was given.
            held: What it holds now.

        Returns:
            What is wrong, or None.
        """
        dense, own = region(given), region(held)
        apart = dense is not None and own is not None and not own.overlaps(dense)
        if apart and all(holds(each, stored.digest) for each in (dense, own) if each is not None):
            return None
        given_leaves, found = entry_leaves(given), entry_leaves(held)
        if given_leaves is None or not (_holds(given, stored) or side.digest(given_leaves) == stored.digest):
            return Finding(words.INPUT_EDITED, {"op": stored.op_index})
        if type(held) is Unreadable or (found is None and self._answers_right(side, stored, found)):
            return None
        if found is None:
            return Finding(words.NO_ENTRY_HELD, {"type": type(held).__name__})
        # A host that was given what is stored may well give that back, to be stored where it lies.
        given_back = side is self._case.primary and self.custody.primary_lends and stored.was_alive
        if overlap(found, given_leaves) and not (given_back or side.by_reference):
            return Finding(words.REFERENCE_STORED, {"op": stored.op_index})
        if _holds(held, stored) or side.digest(found) == stored.digest:
            return None
        if self._case.referee.lossy(given_leaves, found) or self._answers_right(side, stored, found):
            return None
        return self._case.referee.wrong_value(side, stored.pool, stored.env_id, stored, found, given_leaves)

    def of_live(self, side: SideView, stored: Stored, just_cleared: bool = False) -> Finding | None:
        """Hold what a side keeps under a live key against what was stored there.

        Args:
            side: The side.
            stored: What it should hold.
            just_cleared: Whether a clear was played just now, which may have taken it.

        Returns:
            What is wrong, or None.
        """
        case = self._case
        referee = case.referee
        pool, env_id, key = stored.pool, stored.env_id, stored.key
        if case.ledger.apart(side.name, pool, env_id, key):
            return None
        case.counters.coverage["entries_audited"] += 1
        entry = side.read(pool, env_id, key)
        if entry is None:
            if not side.may_ask or side.model.pool(pool, env_id).lets_go(key, stored.op_index):
                return None
            return lost(side, stored, referee.suspects(side, stored, just_cleared))
        self.custody.was_asked(side, entry, stored)
        if _holds(entry, stored):
            return None
        found = entry_leaves(entry)
        if found is not None and side.digest(found) == stored.digest:
            return None
        if self._answers_right(side, stored, found):
            return None
        if type(entry) is Unreadable:
            return Finding(words.RAISED_ON_READ, {"error": type(entry.error).__name__})
        if found is None:
            return Finding(words.NO_ENTRY_HELD, {"type": type(entry).__name__})
        truth = referee.truth(stored)
        if referee.lossy(truth, found):
            return None
        changed = referee.changed_input(side, stored, entry, found)
        if changed is not None:
            return changed
        return referee.wrong_value(side, stored.pool, stored.env_id, stored, found, truth)

    def _answers_right(self, side: SideView, stored: Stored, shown: list[Leaf] | None) -> bool:
        """Tell whether a side answers rightly what it doesn't show rightly; then it is not looked into any more."""
        answer = entry_leaves(side.ask(stored.pool, stored.env_id, stored.key))
        if answer is None or side.digest(answer) != stored.digest:
            return False
        if shown is None and not side.reads_copies:
            side.misbehaved("peek", "what is no entry")
        side.distrust_peek()  # it looks elsewhere than the cache answers from
        return True

    def charge(self, side: SideView, stored: Stored, finding: Finding, operation: str = "audit") -> Charge:
        """Charge a side with what was found of one entry."""
        place = Place(stored.op_index, operation, stored.pool, stored.env_id, stored.key)
        charge = rooted(self._case, self.custody.doubted(against(side, finding), stored), place)
        if not self._case.ledger.repeats(charge, place):
            self._case.charge(charge, place)
        return charge

    def charge_and_repair(self, side: SideView, stored: Stored, finding: Finding, operation: str = "audit") -> None:
        """Charge a side with what it was found to hold, and bring both into agreement where that is possible."""
        charge = self.charge(side, stored, finding, operation)
        self._case.repair(side, charge, stored.pool, stored.env_id, stored.key, stored)


def _holds(entry: Any, stored: Stored) -> bool:
    """Tell whether an entry is dense and holds what was stored; False says nothing of any other."""
    dense = region(entry)
    return dense is not None and holds(dense, stored.digest)

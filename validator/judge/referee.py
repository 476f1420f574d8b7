"""Who is wrong about one lookup: holds each side against its own model, then the two against each other."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from reports.record.records import LeafDifference
from reports.record.words import Fault
from shadow.memory.buffers import Leaf
from shadow.memory.regions import Region
from shadow.operation import Observation, Pool
from validator.entries.compare import Tolerance, differences
from validator.entries.digest import Digest
from validator.entries.readable import Given, entry_leaves, memory_of
from validator.judge import words
from validator.judge.charge import Charge, Finding, against, of_nobody
from validator.judge.ledger import Ledger
from validator.judge.presence import Clear, Suspects, lost, unanswered, uncalled
from validator.judge.rows import named_rows
from validator.judge.side_view import SideView
from validator.judge.values import against_truth, not_copied, remembered
from validator.models.stored import Stored

_MOST_GIVEN = 8192  # to a side that keeps what it is given
_ROWS_SOUGHT_IN = 64  # entries of each side


class Referee:
    """Judges one pair.

    Args:
        control: The trusted side.
        candidate: The new side.
        tolerance: When unequal bits still count as equal; None for never.
        ledger: What was answered lately.
    """

    def __init__(self, control: SideView, candidate: SideView, tolerance: Tolerance | None, ledger: Ledger) -> None:
        self._ledger = ledger
        self.control = control
        self.candidate = candidate
        self.tolerance = tolerance
        self.clears: deque[Clear] = deque(maxlen=64)
        self._hosts_own: dict[int, int] = {}  # by operation, the id of what a primary that keeps it was given
        # Memory of what each side was given lately: a wrong answer that lives there was stored by reference.
        self.given: dict[str, deque[Given]] = {
            side.name: deque(maxlen=_MOST_GIVEN if side.by_reference else 64) for side in (control, candidate)
        }

    def was_given(self, side: SideView, entry: Any, region: Region | None, op_index: int) -> None:
        """Remember the memory of what a side was given to store, the last few; ``region`` says where it lies, if known.

        Most hosts store from one scratch entry, and so does the staging: that is remembered once.
        """
        given = self.given[side.name]
        if region is None:
            memory = memory_of(entry, op_index)
            if memory is not None:
                given.append(memory)
            return
        first, addresses = region.tensors[0], region.addresses
        if given and given[-1].addresses == addresses and given[-1].first() is first:
            given[-1].until = op_index
        else:
            given.append(Given(weakref.ref(first), addresses, region.layout.leaf_nbytes, op_index, op_index))

    def suspects(self, side: SideView, lacked: Stored, just_cleared: bool = False) -> Suspects:
        """Return what may have taken what a side lacks.

        Keys are counted after each clear, so of a side that lists them it can only be one that was just played.
        """
        answered = self._ledger.last_answered(lacked.pool, lacked.env_id, lacked.key)
        last = -1 if just_cleared else len(self.clears)
        clears = tuple(self.clears) if not side.lists_keys else tuple(self.clears)[last:]
        return Suspects(clears, answered, self._ledger.last_set())

    def judge(self, seen: Observation, expected: tuple[Stored | None, Stored | None]) -> list[Charge]:
        """Name everything that is wrong with one lookup.

        Args:
            seen: The lookup.
            expected: What the models of control and candidate hold there.

        Returns:
            One charge per side that departs from its own model, both in one if they do the same; if neither does but
            they differ, one for the policy that explains it. Empty if nothing is wrong.
        """
        answers = (seen.control, seen.candidate)
        leaves = tuple(None if answer is None else entry_leaves(answer) for answer in answers)
        errors = (seen.control_error, seen.candidate_error)
        pool, key = seen.operation.pool, seen.key
        assert key is not None
        findings: list[Finding | None] = []
        for index, side in enumerate((self.control, self.candidate)):
            own, found = leaves[index], expected[index]
            if errors[index] is None and (own is not None or answers[index] is None):
                answer = None if own is None else side.digest(own)
                found = side.model.owed(pool, seen.env_id, key, found, answer, seen.op_index)
            findings.append(self._finding(side, seen, answers[index], own, errors[index], found))
        leaf_differences: tuple[LeafDifference, ...] = ()
        if leaves[0] is not None and leaves[1] is not None:
            leaf_differences = differences(leaves[0], leaves[1], self.tolerance)
        charges = self.charges(findings, leaf_differences)
        if charges:
            return charges
        hits = [answer is not None for answer in answers]
        if hits[0] == hits[1] and not leaf_differences:
            return []
        if hits[0] != hits[1] and "expiring" in (self.control.model.policy.kind, self.candidate.model.policy.kind):
            return []  # each reads the clock by itself
        return [self._policies_part(seen, expected, hits, leaf_differences)._replace(by_policy=True)]

    def charges(self, findings: Sequence[Finding | None], leaves: tuple[LeafDifference, ...]) -> list[Charge]:
        """Charge what was found of control and candidate to each, or to both where it is the same."""
        one, other = findings
        if one is not None and other is not None and one.kind.cause is other.kind.cause:
            return [Charge(one, Fault.BOTH, "Both sides:", leaves)]
        sides = ((self.control, one), (self.candidate, other))
        return [against(side, finding, leaves) for side, finding in sides if finding is not None]

    def _finding(
        self,
        side: SideView,
        seen: Observation,
        answer: Any,
        leaves: list[Leaf] | None,
        error: BaseException | None,
        expected: Stored | None,
    ) -> Finding | None:
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        assert key is not None
        if error is not None:
            if side.model.policy.kind == "legacy_dict" and expected is None and isinstance(error, TypeError):
                return Finding(words.RAISED_FOR_A_MISS)
            return Finding(words.RAISED_ON_GET, {"error": type(error).__name__})
        if answer is None:
            if expected is None:
                return None
            return unanswered(side, seen, expected, self.suspects(side, expected))
        if leaves is None:
            if expected is None and not side.model.told_all(pool, env_id):
                return None
            return Finding(words.NO_ENTRY_ANSWERED, {"type": type(answer).__name__})
        found = side.digest(leaves)
        if expected is None:
            return uncalled(side, pool, env_id, key, found)
        if found == expected.digest:
            if expected.key is key or expected.key == key:  # a NaN is not equal to itself
                return None
            # A dict without a reverse map does this by itself: its model says so, and it is wrong all the same.
            return Finding(words.OUTLIVED, {"other_key": expected.key, "op": expected.op_index})
        if pool in side.model.places.searched:
            if side.may_ask and side.read(expected.pool, expected.env_id, expected.key) is None:
                return lost(side, expected, self.suspects(side, expected))  # what it answers is out of another pool
            for spot in takewhile(lambda spot: spot[0] != expected.pool, side.model.places.asked(pool, env_id)):
                gone = side.model.pool(*spot).gone.get(key)
                if gone is not None and gone.stored.digest.same_contents(found):
                    return uncalled(side, *spot, key, found)  # and what it answers should be gone from there
        truth = self.truth(expected)
        if self.lossy(truth, leaves):
            return None
        changed = self.changed_input(side, expected, answer, leaves)
        if changed is not None:
            return changed
        if not side.by_reference and self._copies_input(side, expected, found):
            return Finding(words.REFERENCE_CHANGED)
        return self.wrong_value(side, pool, env_id, expected, leaves, truth)

    def wrong_value(
        self,
        side: SideView,
        asked: Pool,
        env_id: int | None,
        expected: Stored,
        answer: Sequence[Leaf],
        truth: Sequence[Leaf] | None,
    ) -> Finding:
        """Name why a side answers a key with something else than was stored.

        Where what it answers was stored once, as a whole, tensor by tensor or row by row, the name says where and when;
        then structure, then values are held against the truth.

        Args:
            side: The side.
            asked: Pool that was asked.
            env_id: Environment that was asked, if any.
            expected: What was stored.
            answer: Leaves of what it answers.
            truth: Leaves of an entry that is what was stored, if the other side has one.
        """
        known = remembered(side, asked, env_id, expected, side.digest(answer))
        if known is not None:
            return known
        if truth is None:
            return not_copied(expected.digest, side.digest(answer), answer) or Finding(words.CORRUPTED)
        others = self._others(expected)
        return against_truth(answer, truth, lambda: named_rows(expected, answer, truth, others, side.digest))

    def _others(self, expected: Stored) -> Iterator[tuple[Stored, Sequence[Leaf]]]:
        """Go through other entries that either side should hold, and what it does, those stored last first."""
        for side in (self.control, self.candidate):
            live = [stored for _, _, model in side.model.pools() for stored in model.live() if stored is not expected]
            for stored in sorted(live, key=lambda stored: -stored.op_index)[:_ROWS_SOUGHT_IN]:
                found = side.held(stored)
                if found is not None:
                    yield stored, found

    def _copies_input(self, side: SideView, stored: Stored, answered: Digest) -> bool:
        """Tell whether an answer is a copy of what this side was given to store, and only refers to."""
        held = entry_leaves(side.shown(stored.pool, stored.env_id, stored.key))
        return held is not None and side.digest(held) == answered and self.lives_in_input(side, stored, held)

    def lossy(self, truth: Sequence[Leaf] | None, answer: Sequence[Leaf]) -> bool:
        """Tell whether an answer is only as far from what was stored as the tolerance allows."""
        return self.tolerance is not None and truth is not None and not differences(truth, answer, self.tolerance)

    def changed_input(self, side: SideView, stored: Stored, held: Any, leaves: Sequence[Leaf]) -> Finding | None:
        """Name what happened to an answer that is not what was stored, where that is what this side was given then.

        Args:
            side: The side.
            stored: What was stored.
            held: What it holds, or answers.
            leaves: Its leaves.
        """
        if not side.by_reference:
            return Finding(words.REFERENCE_CHANGED) if self.lives_in_input(side, stored, leaves) else None
        if not side.keeps_the_hosts:  # what the secondary is given is its alone
            return None
        changed = self._hosts_own.get(stored.op_index) == id(held)
        if not changed and self.lives_in_input(side, stored, leaves):  # the host's tensors, in a container of its own
            now = side.digest(leaves)
            changed = now.form == stored.digest.form and now.layout == stored.digest.layout
        return Finding(words.HOST_WROTE_GIVEN, {"op": stored.op_index}) if changed else None

    def keeps(self, entry: Any, op_index: int) -> None:
        """Remember which object the primary was given, where it keeps that itself."""
        self._hosts_own[op_index] = id(entry)
        if len(self._hosts_own) > _MOST_GIVEN:
            del self._hosts_own[next(iter(self._hosts_own))]

    def lives_in_input(self, side: SideView, stored: Stored, leaves: Sequence[Leaf]) -> bool:
        """Tell whether an answer shares memory with what this side was given when it was told to store this."""
        own = [leaf.tensor.data_ptr() for leaf in leaves if leaf.tensor.numel()]
        return any(given.holds(address, stored.op_index) for given in self.given[side.name] for address in own)

    def was_given_back(self, side: SideView, leaves: Sequence[Leaf]) -> bool:
        """Tell whether an answer lies in memory that the host gave to store at any time: it had it in its hands."""
        own = [leaf.tensor.data_ptr() for leaf in leaves if leaf.tensor.numel()]
        return any(given.covers(address) for given in self.given[side.name] for address in own)

    def truth(self, stored: Stored) -> list[Leaf] | None:
        """Return the leaves of an entry that is still what was stored, from whichever side keeps one."""
        for side in (self.control, self.candidate):
            found = side.intact(stored)
            if found is not None:
                return found
        return None

    def _policies_part(
        self,
        seen: Observation,
        expected: tuple[Stored | None, Stored | None],
        hits: list[bool],
        leaves: tuple[LeafDifference, ...],
    ) -> Charge:
        key, env_id = seen.key, seen.env_id
        assert key is not None
        for index, side in enumerate((self.control, self.candidate)):
            if side.model.policy.kind not in ("legacy_ring", "legacy_dict"):
                continue
            for spot in side.model.places.asked(seen.operation.pool, env_id):
                gone = side.model.pool(*spot).gone.get(key)
                if gone is not None and gone.reason in words.QUIRKS and (not hits[index] or leaves):
                    return against(side, Finding(words.QUIRKS[gone.reason], {"op": gone.op_index}), leaves)
            own, other = expected[index], expected[1 - index]
            if (self.control, self.candidate)[1 - index].model.evicts_as_it_likes(seen.operation.pool, env_id):
                continue
            pools = side.model.places.pools_of(seen.operation.pool)
            if own is not None and (other is None or pools.index(own.pool) < pools.index(other.pool)):
                return against(side, Finding(words.STILL_HELD), leaves)
        if hits[0] and hits[1]:
            return of_nobody(words.KNOWN_TO_DIFFER)._replace(leaves=leaves)
        for side in (self.control, self.candidate):
            if side.model.evicts_as_it_likes(seen.operation.pool, env_id):
                answered, missed = ("control", "candidate") if hits[0] else ("candidate", "control")
                facts = {"answered": answered, "missed": missed, "unknown": side.name}
                return of_nobody(words.NOBODY_KNOWS, facts)._replace(leaves=leaves)
        kinds = {side.name: side.model.policy.kind for side in (self.control, self.candidate)}
        return of_nobody(words.POLICIES_DIFFER, kinds)._replace(leaves=leaves)

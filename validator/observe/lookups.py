"""Judges the lookups of one pair, each at once.

The usual answer (both sides hit, equal bits, what was stored; or both miss, as they should) is decided here with as
little as possible. Everything else goes to the referee.
"""

from __future__ import annotations

import random
from typing import Any

from reports.record.words import Fault
from shadow.operation import Observation
from validator.device.looks import DeviceLooks
from validator.entries.compare import agreement, equal
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.judge.charge import Charge, Place, of_nobody
from validator.judge.counters import CANDIDATE_ONLY, CONTROL_ONLY, DIFFER, EQUAL, ERROR, MISS, OUTCOMES
from validator.judge.custody import Custody
from validator.judge.keyed import KeyedCase
from validator.judge.roots import rooted
from validator.models.stored import Stored
from validator.observe.handed_out import HandedOut

_NAMED = tuple(outcome.value for outcome in OUTCOMES)
_RAREST = 16  # lookups of which at least one is compared where they may be sampled


class Lookups:
    """What a pair makes of its lookups.

    Attributes:
        compare_each: Lookup of which one is compared.
    """

    def __init__(self, case: KeyedCase, custody: Custody, looks: DeviceLooks, handed_out: HandedOut) -> None:
        self.compare_each = 1
        self._case = case
        self._custody = custody
        self._looks = looks
        self._handed_out = handed_out
        self._control = case.control
        self._candidate = case.candidate
        self._counters = case.counters
        self._ledger = case.ledger
        self._in_place = case.in_place
        self._first = {asked: pools[0] for asked, pools in case.places.searched.items()}
        self._digest_share = case.config.digest_share
        self._random = random.Random(case.config.seed).random
        self._suspect = False

    def keep_to_budget(self, kept: bool) -> None:
        """Compare fewer, down to one in ``_RAREST``, while that is what it takes; more again after."""
        each = self.compare_each
        self.compare_each = max(1, each // 2) if kept else min(_RAREST, 2 * each)

    def looks_at_digest(self) -> bool:
        """Tell whether what both sides agree on is held against the digest of what was stored, this time."""
        return self._random() < self._digest_share

    def got(self, seen: Observation, stays: bool = True) -> None:
        """Count and judge one lookup; ``stays`` says whether both sides still hold what they answered."""
        op_index, operation, env_id, key, control, candidate, control_error, candidate_error, _, _ = seen
        case, pool = self._case, operation.pool
        assert key is not None
        if env_id is not None:
            self._counters.envs[env_id] += 1
        one, other = case.expected(pool, env_id, key)
        if pool in self._first and (one is None or one.pool != self._first[pool]):
            self._counters.coverage["lookups_of_both_pools"] += 1
        self._suspect = False
        if control_error is not None or candidate_error is not None:
            outcome = ERROR
        elif control is None:
            outcome = MISS if candidate is None else CANDIDATE_ONLY
        elif candidate is None:
            outcome = CONTROL_ONLY
        elif self.compare_each > 1 and self._random() * self.compare_each >= 1:
            self._counters.dropped["lookups not compared, for the budget"] += 1
            return
        elif (
            self._looks.active
            and one is other
            and one is not None
            and (late := self._looks.lookup(seen, one, self._digest_share >= 1 or self.looks_at_digest())) is not None
        ):
            if stays:
                self._handed_out.answered(control, candidate, one, op_index, late)
            if one.weight_version != case.weight_version or one.env_id is not None:
                self._look_for_staleness(seen, one)
            return
        else:
            outcome = self._compare(control, candidate, one)
        self._counters.lookups[pool][outcome] += 1
        self._ledger.recent.append((op_index, operation.name, env_id, key, _NAMED[outcome]))
        if one is other:
            if one is None:
                if outcome == MISS:
                    return
            elif outcome == EQUAL and (one.key is key or one.key == key) and not self._suspect:
                if stays:
                    self._handed_out.answered(control, candidate, one, op_index)
                if one.weight_version != case.weight_version or one.env_id is not None:
                    self._look_for_staleness(seen, one)
                return
        if self._looks.begun:  # what is still under way comes first, and may mend what the models hold
            self._looks.flush()
            one, other = case.expected(pool, env_id, key)
        self._judge(seen, outcome, (one, other))

    def _compare(self, control: Any, candidate: Any, stored: Stored | None) -> int:
        """Return the outcome of a lookup that both sides answered; suspect it if nobody stored what they agree on."""
        hashed = stored is not None and (self._digest_share >= 1 or self.looks_at_digest())
        agreed = agreement(control, candidate, hashed) if self._in_place else None
        if agreed is not None:
            if stored is not None and hashed:
                layout, size, whole = agreed
                known = stored.digest
                self._suspect = known.whole != whole or known.layout != layout.at(size)[1]
            return EQUAL
        mine, theirs = entry_leaves(control), entry_leaves(candidate)
        if mine is None or theirs is None:
            self._suspect = True
            return DIFFER
        if not equal(mine, theirs):
            if not self._case.closeness.covers(mine, theirs):
                return DIFFER
            self._counters.coverage["equal only within tolerance"] += 1
        elif stored is not None and hashed:
            self._suspect = self._control.digest(mine) != stored.digest
        return EQUAL

    def _judge(self, seen: Observation, outcome: int, expected: tuple[Stored | None, Stored | None]) -> None:
        place = Place.of(seen, outcome)
        answers, errors = (seen.control, seen.candidate), (seen.control_error, seen.candidate_error)
        if outcome == EQUAL and expected == (None, None):
            self._look_for_older(seen)
        own = 0 if self._case.primary is self._control else 1
        charges = self._case.referee.judge(seen, expected)
        if outcome == EQUAL and not charges and None in expected:
            self._take_over(seen, expected)
        elif outcome == DIFFER and not charges:
            self._counters.lookups[seen.operation.pool][DIFFER] -= 1
            self._counters.dropped["lookups of what is no entry"] += 1
        for found in charges:
            charge = rooted(self._case, self._custody.doubted_answer(found, answers[own], expected[own]), place)
            if self._ledger.repeats(charge, place):
                continue
            self._case.charge(charge, place, answers, errors)
            self._follow(seen, expected, charge)
        for side, held in zip(self._case.sides, expected, strict=True):
            if held is not None and not side.holds(held):
                self._case.evicted(side)  # as it likes: seen by its absence

    def _look_for_older(self, seen: Observation) -> None:
        """Judge pools by agreement in which an answer that nobody stored may have been from the beginning."""
        case, key = self._case, seen.key
        assert key is not None
        if case.env_num is not None and (self._control.lists_keys or self._candidate.lists_keys):
            return  # it would have been read in
        places = case.places.asked(seen.operation.pool, seen.env_id)
        if all(side.model.pool(*place).may_be_from_before(key) for place in places for side in case.sides):
            for place in places:
                case.agree(*place)

    def _take_over(self, seen: Observation, expected: tuple[Stored | None, Stored | None]) -> None:
        """Remember what both sides agree on under a key that one of them, or both, was never seen to be given."""
        key, case = seen.key, self._case
        assert key is not None
        pool, env_id = case.places.asked(seen.operation.pool, seen.env_id)[-1]
        stored = expected[0] or expected[1]
        if stored is None:
            digest = self._control.digest(entry_leaves(seen.control) or [])
            now = (case.episodes[env_id] if env_id is not None else 0, case.searches, case.sink.env_step)
            stored = Stored(key, pool, env_id, digest, seen.op_index, *now, case.weight_version)
            self._counters.coverage["entries from before that both sides agree on"] += 1
        for side in case.sides:
            model = side.model.pool(stored.pool, stored.env_id)
            if model.evicts_as_it_likes and model.peek(key) is None:
                model.set(key, stored)

    def _follow(self, seen: Observation, expected: tuple[Stored | None, Stored | None], charge: Charge) -> None:
        """Note or repair what follows from a charge."""
        key, spots = seen.key, self._case.places.asked(seen.operation.pool, seen.env_id)
        assert key is not None
        for index, side in enumerate(self._case.sides):
            own, theirs = expected[index], expected[1 - index]
            if charge.by_policy or charge.fault in (Fault.UNKNOWN, Fault.HOST):
                # Nobody broke a promise: a repair would only shift ages and set off further differences.
                for spot in spots:
                    self._ledger.set_apart(side.name, *spot, key, charge)
            elif charge.fault in (side.fault, Fault.BOTH):
                held = own or theirs
                spot = spots[-1] if held is None else (held.pool, held.env_id)
                self._case.repair(side, charge, *spot, key, own)

    def _look_for_staleness(self, seen: Observation, stored: Stored) -> None:
        case = self._case
        older = stored.weight_version != case.weight_version
        if not older and (stored.env_id is None or stored.episode == case.episodes[stored.env_id]):
            return
        if not (case.promises.weight_update_clears if older else case.promises.episode_end_clears):
            self._counters.coverage["hits on older entries, which the host allows"] += 1
            return
        if older:
            facts = {"op": stored.op_index, "update": stored.weight_version + 1}
            charge = of_nobody(words.CROSSES_UPDATE, facts, Fault.HOST)
        else:
            ended = {"op": stored.op_index, "episode": stored.episode, "env_id": stored.env_id}
            charge = of_nobody(words.CROSSES_EPISODE, ended, Fault.HOST)
        case.charge(charge, Place.of(seen, EQUAL))

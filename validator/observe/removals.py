"""Follows what takes entries out of one pair of keyed caches, and what only asks whether there is one."""

from __future__ import annotations

from typing import Any

from reports.record.words import Fault
from shadow.operation import Observation
from validator.judge import words
from validator.judge.charge import Finding, Place, of_nobody
from validator.judge.counters import DIFFER, ERROR, MISS
from validator.judge.keyed import KeyedCase
from validator.judge.presence import lost, still_there
from validator.judge.side_view import SideView
from validator.observe.audits import Audits
from validator.observe.lookups import Lookups

Errors = tuple[BaseException | None, BaseException | None]


class Removals:
    """What a pair makes of removals and of questions for presence."""

    def __init__(self, case: KeyedCase, lookups: Lookups, audits: Audits) -> None:
        self._case = case
        self._lookups = lookups
        self._audits = audits

    def had(self, seen: Observation) -> None:
        """Judge what both sides said of whether they hold a key."""
        self._case.counters.coverage["questions for presence"] += 1
        self._judge_presence(seen, (bool(seen.control), bool(seen.candidate)))

    def deleted(self, seen: Observation) -> None:
        """Judge a removal that answers nothing: who had no such key said so by a KeyError."""
        absent = [isinstance(error, KeyError) for error in (seen.control_error, seen.candidate_error)]
        named = seen._replace(
            control_error=None if absent[0] else seen.control_error,
            candidate_error=None if absent[1] else seen.candidate_error,
        )
        self._judge_presence(named, (not absent[0], not absent[1]))
        self._case.ledger.recent.append((seen.op_index, seen.operation.name, seen.env_id, seen.key, ""))
        self._removed(named)

    def taken(self, seen: Observation) -> None:
        """Judge a removal that answers the entry: as a lookup, and as a removal after."""
        if seen.key is None:
            found = self._chosen(seen)
            if found is None:
                return
            seen = found
        self._lookups.got(seen, stays=False)
        self._removed(seen)

    def _chosen(self, seen: Observation) -> Observation | None:
        """Return the removal of a key that both sides chose; None if they chose none, or different ones."""
        case, (pool, env_id) = self._case, (seen.operation.pool, seen.env_id)
        counts, errors = case.counters.lookups[pool], (seen.control_error, seen.candidate_error)
        pairs = [answer if type(answer) is tuple and len(answer) == 2 else None for answer in seen[4:6]]
        chosen = [None if pair is None else pair[0] for pair in pairs]
        one, other = pairs
        if one is not None and other is not None and _same(one[0], other[0]):
            return seen._replace(key=one[0], control=one[1], candidate=other[1])
        if one is None and other is None and errors == (None, None):  # both are empty
            counts[MISS] += 1
            return None
        counts[DIFFER if errors == (None, None) else ERROR] += 1
        if not any(side.model.policy.kind == "expiring" for side in case.sides):
            self._charge_choice(seen, chosen, errors)
        for side, key in zip(case.sides, chosen, strict=True):
            if key is not None:
                side.model.pool(pool, env_id).delete(key, seen.op_index)
        return None

    def _charge_choice(self, seen: Observation, chosen: list[Any], errors: Errors) -> None:
        """Charge whoever chose what was not next, from either end, by its model; nobody where both or none did."""
        case, place = self._case, Place.of(seen)
        turns = [self._out_of_turn(side, seen, key) for side, key in zip(case.sides, chosen, strict=True)]
        facts = {"control": _said(chosen[0], errors[0]), "candidate": _said(chosen[1], errors[1])}
        for charge in case.referee.charges(turns, ()) or [of_nobody(words.CHOSE_OTHERS, facts)]:
            if not case.ledger.repeats(charge, place):
                case.charge(charge, place, errors=errors)
            for side, key in zip(case.sides, chosen, strict=True):
                case.ledger.keys_part(side.name, seen.operation.pool, seen.env_id, key, charge)

    def _out_of_turn(self, side: SideView, seen: Observation, key: Any) -> Finding | None:
        model = side.model.pool(seen.operation.pool, seen.env_id)
        live = list(model.live())
        if model.evicts_as_it_likes or not live or key is None or any(_same(key, live[i].key) for i in (0, -1)):
            return None
        if side.read(seen.operation.pool, seen.env_id, live[0].key) is None:
            return lost(side, live[0], self._case.referee.suspects(side, live[0]))
        return Finding(words.OUT_OF_TURN, {"key": key, "other_key": live[0].key})

    def _judge_presence(self, seen: Observation, present: tuple[bool, bool]) -> None:
        case, (pool, env_id) = self._case, (seen.operation.pool, seen.env_id)
        errors = (seen.control_error, seen.candidate_error)
        found = [self._finding(*each, seen) for each in zip(case.sides, present, errors, strict=True)]
        for charge in case.referee.charges(found, ()):
            place = Place.of(seen)
            if case.ledger.repeats(charge, place):
                continue
            case.charge(charge, place, errors=errors)
            for side in case.sides:
                if charge.fault in (side.fault, Fault.BOTH):
                    case.ledger.keys_part(side.name, pool, env_id, seen.key, charge)

    def _finding(self, side: SideView, present: bool, error: BaseException | None, seen: Observation) -> Finding | None:
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        assert key is not None
        if error is not None:
            return Finding(words.RAISED_IN, {"error": type(error).__name__, "method": seen.operation.method})
        model = side.model.pool(pool, env_id)
        stored = model.peek(key)
        if present == (stored is not None):
            return None
        if stored is None:
            known = model.may_hold(key) is not None or not model.told_all
            return None if known else still_there(side, pool, env_id, key)
        if model.lets_go(key, seen.op_index):
            return None
        if side.intact(stored) is not None:
            return Finding(words.MISSED)
        return lost(side, stored, self._case.referee.suspects(side, stored))

    def _removed(self, seen: Observation) -> None:
        """Take a key out of the models, and look whether it is gone."""
        case, (pool, env_id, key) = self._case, (seen.operation.pool, seen.env_id, seen.key)
        assert key is not None
        case.counters.coverage["removals"] += 1
        if (seen.control_error, seen.candidate_error) == (None, None):
            case.ledger.was_set(pool, env_id, key)  # what was known of it is over, as after a set
        for side, error in zip(case.sides, (seen.control_error, seen.candidate_error), strict=True):
            if error is None:
                side.model.pool(pool, env_id).delete(key, seen.op_index)
                self._audits.look_for(side, pool, env_id, key)


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(one == other)


def _said(key: Any, error: BaseException | None) -> str:
    if error is not None:
        return f"raised {type(error).__name__}"
    return "nothing" if key is None else words.key_text(key)

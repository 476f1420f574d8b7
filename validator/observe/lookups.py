"""Judges the lookups of one pair, each at once.

The usual answer (both sides hit, equal bits, what was stored; or both miss, as they should) is decided here with as
little as possible. Everything else goes to the referee.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from reports.record.records import Cause, Dimension, Fault
from shadow.entry import leaves
from shadow.lent import readable
from shadow.operation import Observation
from validator.entries.compare import agreement, differences, equal
from validator.judge.counters import CANDIDATE_ONLY, CONTROL_ONLY, DIFFER, EQUAL, ERROR, MISS, OUTCOMES
from validator.judge.ledger import Charge, Place
from validator.judge.repair import settle
from validator.judge.values import pools_of
from validator.models.side_model import Stored

if TYPE_CHECKING:
    from validator.observe.pair import Pair

_NAMED = tuple(outcome.value for outcome in OUTCOMES)
_RAREST = 16  # lookups of which at least one is compared where they may be sampled


class Lookups:
    """What a pair makes of its lookups.

    Attributes:
        compare_each: Lookup of which one is compared.
    """

    def __init__(self, pair: Pair) -> None:
        self.compare_each = 1
        self._pair = pair
        self._control = pair.control
        self._candidate = pair.candidate
        self._counters = pair.counters
        self._ledger = pair.ledger
        self._held = pair.auditor.held
        self._plain = pair.plain
        self._digest_share = pair.config.digest_share
        self._random = random.Random(pair.config.seed).random
        self._suspect = False

    def keep_to_budget(self, kept: bool) -> None:
        """Compare fewer, down to one in ``_RAREST``, while that is what it takes; more again after."""
        each = self.compare_each
        self.compare_each = max(1, each // 2) if kept else min(_RAREST, 2 * each)

    def looks_at_digest(self) -> bool:
        """Tell whether what both sides agree on is held against the digest of what was stored, this time."""
        return self._digest_share >= 1 or self._random() < self._digest_share

    def got(self, seen: Observation) -> None:
        """Count and judge one lookup."""
        op_index, operation, env_id, key, control, candidate, control_error, candidate_error, _, _ = seen
        pair, pool = self._pair, operation.pool
        assert key is not None
        if env_id is not None:
            self._counters.envs[env_id] += 1
        one = self._control.model.get(pool, env_id, key)
        other = self._candidate.model.get(pool, env_id, key)
        if pool == "hierarchical" and (one is None or one.pool != "init"):
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
        elif pair.late is not None and one is other and one is not None and pair.late.lookup(seen, one):
            self._held.answered(control, candidate, one, op_index)
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
            elif outcome == EQUAL and one.key == key and not self._suspect:
                self._held.answered(control, candidate, one, op_index)
                if one.weight_version != pair.weight_version or one.env_id is not None:
                    self._look_for_staleness(seen, one)
                return
        if pair.late is not None:  # what is still under way comes first, and may mend what the models hold
            pair.late.flush()
            one = self._control.model.get(pool, env_id, key)
            other = self._candidate.model.get(pool, env_id, key)
        self._judge(seen, outcome, (one, other))

    def _compare(self, control: Any, candidate: Any, stored: Stored | None) -> int:
        """Return the outcome of a lookup that both sides answered; suspect it if nobody stored what they agree on."""
        hashed = stored is not None and self.looks_at_digest()
        agreed = agreement(control, candidate, hashed) if self._plain else None
        if agreed is not None:
            if stored is not None and hashed:
                layout, size, whole = agreed
                known = stored.digest
                self._suspect = known.whole != whole or known.layout != layout.at(size)[1]
            return EQUAL
        try:
            mine, theirs = leaves(readable(control)), leaves(readable(candidate))
            same = equal(mine, theirs)
        except (AttributeError, TypeError):
            self._suspect = True
            return DIFFER
        if not same:
            tolerance = self._pair.referee.tolerance
            if tolerance is None or differences(mine, theirs, tolerance):
                return DIFFER
            self._counters.coverage["equal only within tolerance"] += 1
        elif stored is not None and hashed:
            self._suspect = self._control.digest(mine) != stored.digest
        return EQUAL

    def _judge(self, seen: Observation, outcome: int, expected: tuple[Stored | None, Stored | None]) -> None:
        place = Place.of(seen, outcome)
        answers, errors = (seen.control, seen.candidate), (seen.control_error, seen.candidate_error)
        for charge in self._pair.referee.judge(seen, expected):
            if self._ledger.repeats(charge, place):
                continue
            self._pair.charge(charge, place, answers, errors)
            self._settle(seen, expected, charge)

    def _settle(self, seen: Observation, expected: tuple[Stored | None, Stored | None], charge: Charge) -> None:
        key = seen.key
        assert key is not None
        for index, side in enumerate((self._control, self._candidate)):
            own, theirs = expected[index], expected[1 - index]
            if charge.by_policy or charge.fault is Fault.UNKNOWN:
                # Nobody broke a promise: a repair would only shift ages and set off further differences.
                for pool in pools_of(seen.operation.pool):
                    self._ledger.part(side.name, pool, seen.env_id if pool == "init" else None, key, charge)
            elif charge.fault in (Fault(side.name), Fault.BOTH):
                held = own or theirs
                pool = held.pool if held is not None else pools_of(seen.operation.pool)[-1]
                other = self._candidate if side is self._control else self._control
                env_id = seen.env_id if pool == "init" else None
                settle(self._ledger, side, other, self._pair.primary.name, pool, env_id, key, own, charge)

    def _look_for_staleness(self, seen: Observation, stored: Stored) -> None:
        pair = self._pair
        older = stored.weight_version != pair.weight_version
        if not older and (stored.env_id is None or stored.episode == pair.episodes[stored.env_id]):
            return
        if not (pair.promises.weight_update_clears if older else pair.promises.episode_end_clears):
            self._counters.coverage["hits on older entries, which the host allows"] += 1
            return
        if older:
            cause, crossed = Cause.STALE_WEIGHTS, f"weight update {stored.weight_version + 1}"
        else:
            cause, crossed = Cause.STALE_EPISODE, f"the end of episode {stored.episode} of env {stored.env_id}"
        text = (
            f"Both sides answer what operation {stored.op_index} stored before {crossed}; the host did not clear it "
            "in between."
        )
        pair.charge(Charge(Dimension.STALENESS, cause, Fault.HOST, text), Place.of(seen, EQUAL))

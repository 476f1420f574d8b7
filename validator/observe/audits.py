"""Looks at what nobody asked for: live keys, contents, shared memory, and the host's life cycle.

A lookup only shows the entry that is looked up. Audits read every live entry at clears, weight updates, episode ends
and close, and a rotating share of them in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reports.record.words import Cause, Dimension, Fault
from shadow.entry import region
from shadow.operation import Pool
from validator.entries.digest import digest_region
from validator.judge.ledger import Charge, Place, covers
from validator.judge.presence import lost, not_stored, uncalled
from validator.judge.repair import settle
from validator.judge.side import SideView, Unreadable, entry_leaves, storages
from validator.judge.values import Finding, wrong_value
from validator.models.side_model import PoolModel, Stored
from validator.observe.handed_out import HeldResults

if TYPE_CHECKING:
    from validator.observe.pair import Pair

_RAREST = 16  # recurrent clears of which at least one is audited, whatever the budget
_ALWAYS = 64  # sets of a pair that are always looked at closely, before a share of them is


class Auditor:
    """Audits one pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.held = HeldResults(pair)
        self._sets = 0
        self._recur_clears = 0
        self._every = 1  # recurrent clear that is audited
        self._share = pair.config.audit_share  # of sets, at present
        self._credit = 0.0
        self._rotation: Iterator[tuple[Pool, int | None, int]] = iter(())

    # -- when ---------------------------------------------------------------------------------------------------------

    def audit_all(self) -> None:
        """Audit every live entry of both sides, and every result still held."""
        self.held.check(keep=0)
        for side in self._sides():
            for pool, env_id, model in side.model.pools():
                self._audit_pool(side, pool, env_id, model)
        self._look_for_sharing()
        self._pair.counters.coverage["audits_full"] += 1

    def before_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Audit what is about to be cleared, the last chance to see it."""
        self.held.check(keep=0)
        if cleared == "recur":
            self._recur_clears += 1
            if self._recur_clears % self._every:
                self._pair.counters.coverage["audits_left_out_for_budget"] += 1
                return
        for side in self._sides():
            for pool, env, model in side.model.pools():
                if covers(cleared, env_id, pool, env):
                    self._audit_pool(side, pool, env, model)

    def after_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Look whether what should be gone is gone, and nothing else is."""
        referee = self._pair.referee
        referee.clearing = True
        try:
            for side in self._sides():
                for pool, env, model in side.model.pools():
                    keys = side.keys(pool, env)
                    if keys is not None and len(keys) != len(model):
                        self._audit_pool(side, pool, env, model)
                    elif keys is None and covers(cleared, env_id, pool, env):
                        self._look_for_extra(side, pool, env, model, list(model.gone)[-4:])
        finally:
            referee.clearing = False

    def keep_to_budget(self, share_of_wall: float, budget: float) -> bool:
        """Audit rarer while the harness takes more of the wall time than it may, and more often again after.

        Returns:
            Whether that is enough: False if audits are as rare as they may be and the budget is exceeded still.
        """
        exhausted = self._every == _RAREST
        if share_of_wall > budget:
            self._every = min(_RAREST, 2 * self._every)
        elif share_of_wall < 0.8 * budget:
            self._every = max(1, self._every // 2)
        self._share = self._pair.config.audit_share / self._every
        return share_of_wall <= budget or not exhausted

    def begin_set(self) -> bool:
        """Tell whether the coming look at a set is a close one: all at first, then a share."""
        self._sets += 1
        self._credit += self._share
        return self._sets <= _ALWAYS or self._credit >= 1

    def arrival(self, side: SideView, stored: Stored, given: Any) -> Finding | None:
        """Look closely whether a set arrived as it was given, and as a copy.

        Args:
            side: The side.
            stored: The set; the side's model does not know of it yet.
            given: The very object the side was given.

        Returns:
            What is wrong, or None.
        """
        held = side.read(stored.pool, stored.env_id, stored.key)
        if held is None:
            return not_stored(side, stored) if side.may_ask or not side.reads_copies else None
        given_leaves, found = entry_leaves(given), entry_leaves(held)
        late = self._pair.late
        if late is not None and late.arrived(side, stored, given_leaves, found):
            return None
        if given_leaves is None or not (_plainly(given, stored) or side.digest(given_leaves) == stored.digest):
            text = f"changed the entry it was given to store at operation {stored.op_index}"
            return Finding(Dimension.ISOLATION, Cause.INPUT_EDITED, text)
        if isinstance(held, Unreadable) or found is None:
            return None
        if storages(found) & storages(given_leaves):
            text = (
                f"stored a reference to its input instead of a copy at operation {stored.op_index}: both live in the "
                "same memory"
            )
            return Finding(Dimension.ISOLATION, Cause.ALIASED_ON_SET, text)
        if _plainly(held, stored) or side.digest(found) == stored.digest:
            return None
        if self._pair.referee.lossy(given_leaves, found):
            return None
        return wrong_value(side, stored.pool, stored.env_id, stored, found, given_leaves)

    def end_set(self) -> None:
        """Audit the next entries of the rotation."""
        while self._credit >= 1:
            self._credit -= 1
            self._audit_next()

    def episode_ended(self, env_id: int, last_clear: tuple[str, int | None, list[int]] | None) -> None:
        """Look whether the host cleared this env and no other."""
        pair = self._pair
        if not 0 <= env_id < pair.env_num:
            return
        left = min(len(side.model.init[env_id]) for side in self._sides())
        if left:
            text = f"The host ended an episode of env {env_id} and left {left} entries of it alive."
            self._charge_host(Cause.EPISODE_NOT_CLEARED, text, "init", env_id)
        if last_clear is not None:
            name, cleared, wiped = last_clear
            others = [env for env in wiped if env != env_id and cleared in (None, env)]
            if others:
                text = f"The host ended an episode of env {env_id}, and its {name} wiped live entries of envs {others}."
                self._charge_host(Cause.CLEAR_TOO_WIDE, text, "init", env_id)

    def search_started(self) -> None:
        """Look whether the host cleared the nodes of the search before."""
        left = min(len(side.model.recur) for side in self._sides())
        if left:
            text = f"The host began a search with {left} entries of the search before still alive."
            self._charge_host(Cause.SEARCH_NOT_CLEARED, text, "recur", None)

    # -- what ---------------------------------------------------------------------------------------------------------

    def _audit_pool(self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel) -> None:
        if self._pair.ledger.parted(side.name, pool, env_id, None):
            return
        # First everything is looked at, then named, then settled: a repair would change what the next name rests on.
        late = self._pair.late
        live = model.live() if late is None else late.examine(side, model.live())
        found = [(stored, finding) for stored in live if (finding := self.examine(side, stored)) is not None]
        keys = side.keys(pool, env_id)
        if keys is not None:
            self._look_for_extra(side, pool, env_id, model, [key for key in keys if model.peek(key) is None])
        for stored, finding in found:
            self.charge_and_settle(side, stored, finding)

    def examine(self, side: SideView, stored: Stored) -> Finding | None:
        """Hold what a side keeps under a live key against what was stored there."""
        pair = self._pair
        pool, env_id, key = stored.pool, stored.env_id, stored.key
        if pair.ledger.parted(side.name, pool, env_id, key):
            return None
        pair.counters.coverage["entries_audited"] += 1
        entry = side.read(pool, env_id, key)
        if entry is None:
            return lost(side, stored, pair.referee.suspects(side)) if side.may_ask else None
        if _plainly(entry, stored):
            return None
        found = entry_leaves(entry)
        if found is not None and side.digest(found) == stored.digest:
            return None
        asked = side.ask(pool, env_id, key)
        answer = None if asked is None else entry_leaves(asked)
        if answer is not None and side.digest(answer) == stored.digest:
            side.distrust_peek()  # it looks elsewhere than the cache answers from
            return None
        if isinstance(entry, Unreadable):
            text = f"raised {type(entry.error).__name__} when an entry was read back"
            return Finding(Dimension.ERROR, Cause.RAISED, text)
        if found is None:
            text = f"holds a {type(entry).__name__}, which is no entry"
            return Finding(Dimension.STRUCTURE, Cause.SHAPE_OFF, text)
        truth = pair.referee.truth(stored)
        if pair.referee.lossy(truth, found):
            return None
        if pair.referee.lives_in_input(side, found):
            text = "stored a reference to its input instead of a copy, and the input changed"
            return Finding(Dimension.ISOLATION, Cause.ALIASED_ON_SET, text)
        return wrong_value(side, pool, env_id, stored, found, truth)

    def _look_for_extra(
        self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel, keys: list[int]
    ) -> None:
        ledger = self._pair.ledger
        for key in keys:
            if model.peek(key) is not None or ledger.parted(side.name, pool, env_id, key):
                continue
            entry = side.read(pool, env_id, key)
            found = None if entry is None else entry_leaves(entry)
            if found is None:
                continue
            charge = as_charge(side, uncalled(side, pool, env_id, key, side.digest(found)))
            self._pair.charge(charge, Place(-1, "audit", pool, env_id, key))
            ledger.part(side.name, pool, env_id, key, charge)
            ledger.force(pool, env_id, charge)

    def _look_for_sharing(self) -> None:
        """Look for two entries, of one side or of both, whose buffers begin at the same address."""
        owners: dict[int, tuple[SideView, Stored]] = {}
        for side in self._sides():
            if side.reads_copies:
                continue
            for _, _, model in side.model.pools():
                for stored in model.live():
                    for address in _begins(side.read(stored.pool, stored.env_id, stored.key)):
                        owner = owners.setdefault(address, (side, stored))
                        if owner[1] is stored and owner[0] is side:
                            continue
                        self._charge_sharing(owner[0], owner[1], side, stored)
                        break

    def _charge_sharing(self, one: SideView, first: Stored, other: SideView, second: Stored) -> None:
        if one is other:
            fault = Fault(one.name)
            text = f"The {one.label} keeps the entries of keys {first.key:016x} and {second.key:016x} in one memory."
        else:
            fault = Fault.UNKNOWN
            text = f"Control and candidate keep the entry of key {second.key:016x} in the same memory."
        charge = Charge(Dimension.ISOLATION, Cause.SHARED_SLOT, fault, text)
        self._pair.charge(charge, Place(second.op_index, "audit", second.pool, second.env_id, second.key))

    def _audit_next(self) -> None:
        for _ in range(2):
            place = next(self._rotation, None)
            if place is None:
                pools = self._pair.control.model.pools()
                self._rotation = iter([(p, env, stored.key) for p, env, model in pools for stored in model.live()])
                continue
            pool, env_id, key = place
            for side in self._sides():
                stored = side.model.pool(pool, env_id).peek(key)
                late = self._pair.late
                if stored is None or (late is not None and not late.examine(side, [stored])):
                    continue
                finding = self.examine(side, stored)
                if finding is not None:
                    self.charge_and_settle(side, stored, finding)
            return

    # -- helpers ------------------------------------------------------------------------------------------------------

    def charge(self, side: SideView, stored: Stored, finding: Finding, operation: str = "audit") -> Charge:
        """Put a finding about one entry on record."""
        charge = as_charge(side, finding)
        place = Place(stored.op_index, operation, stored.pool, stored.env_id, stored.key)
        self._pair.charge(charge, place)
        return charge

    def charge_and_settle(
        self, side: SideView, stored: Stored, finding: Finding, operation: str = "audit", gone: bool = False
    ) -> None:
        """Charge a side with what it was found to hold, and settle what follows, unless that is ``gone`` already."""
        pair = self._pair
        open_cause = finding.cause in (Cause.CORRUPTED, Cause.UNKNOWN)
        unclear = open_cause and side is pair.primary and self.held.may_be_the_hosts(stored)
        if unclear:
            finding = finding._replace(
                text=finding.text + "; it hands out what it stores, so the host may have done it"
            )
        charge = as_charge(side, finding)
        if unclear:
            charge = charge._replace(fault=Fault.UNKNOWN)
        pair.charge(charge, Place(stored.op_index, operation, stored.pool, stored.env_id, stored.key))
        if gone:
            return
        other = pair.candidate if side is pair.control else pair.control
        settle(pair.ledger, side, other, pair.primary.name, stored.pool, stored.env_id, stored.key, stored, charge)

    def _charge_host(self, cause: Cause, text: str, pool: Pool, env_id: int | None) -> None:
        self._pair.charge(Charge(Dimension.LIFE_CYCLE, cause, Fault.HOST, text), Place(-1, "audit", pool, env_id))

    def _sides(self) -> tuple[SideView, SideView]:
        return self._pair.control, self._pair.candidate


def _begins(entry: Any) -> Sequence[int]:
    """List the addresses at which the buffers of an entry begin; none for what is no entry."""
    plain = region(entry)
    if plain is not None:
        return plain.addresses
    return [leaf.tensor.data_ptr() for leaf in entry_leaves(entry) or () if leaf.tensor.numel()]


def _plainly(entry: Any, stored: Stored) -> bool:
    """Tell whether an entry is plain and holds what was stored; False says nothing of any other."""
    plain = region(entry)
    return plain is not None and digest_region(plain) == stored.digest


def as_charge(side: SideView, finding: Finding) -> Charge:
    """Charge a side with a finding."""
    return Charge(finding.dimension, finding.cause, Fault(side.name), f"The {side.label} {finding.text}.")

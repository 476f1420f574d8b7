"""Looks at what nobody asked for: live keys, contents, shared memory, and the host's life cycle.

A lookup only shows the entry that is looked up. Audits read every live entry at clears, weight updates, episode ends
and close, and a rotating share of them in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shadow.entry import Leaf
from shadow.operation import Pool
from validator.diagnose import lost, not_stored, uncalled
from validator.digest import digest
from validator.findings import Finding, wrong_value
from validator.models import PoolModel, Stored
from validator.records import Cause, Dimension, Fault
from validator.referee import Charge
from validator.side import SideView, Unreadable, entry_leaves, storages

if TYPE_CHECKING:
    from validator.pair import Pair

_ALWAYS = 64  # sets of a pair that are always looked at for shared memory, before a share of them is


class Auditor:
    """Audits one pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._sets = 0
        self._credit = 0.0
        self._gets = 0
        self._held: deque[tuple[SideView, list[Leaf], Stored]] = deque()
        self._rotation: Iterator[tuple[Pool, int | None, int]] = iter(())

    # -- when ---------------------------------------------------------------------------------------------------------

    def audit_all(self) -> None:
        """Audit every live entry of both sides, and every result still held."""
        self._check_held(0)
        for side in self._sides():
            for pool, env_id, model in side.model.pools():
                self._audit_pool(side, pool, env_id, model)
        self._look_for_sharing()
        self._pair.counters.coverage["audits_full"] += 1

    def before_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Audit what is about to be cleared, the last chance to see it."""
        self._check_held(0)
        for side in self._sides():
            for pool, env, model in side.model.pools():
                if _covers(cleared, env_id, pool, env):
                    self._audit_pool(side, pool, env, model)

    def after_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Look whether what should be gone is gone, and nothing else is."""
        for side in self._sides():
            for pool, env, model in side.model.pools():
                keys = side.keys(pool, env)
                if keys is not None and len(keys) != len(model):
                    self._audit_pool(side, pool, env, model)
                elif keys is None and _covers(cleared, env_id, pool, env):
                    recent = list(model.gone)[-4:]
                    self._look_for_extra(side, pool, env, model, recent)

    def after_set(self, stored: Stored, entry: Any, staged: Any, raised: tuple[bool, bool]) -> None:
        """Look whether a set arrived, for shared memory, and at the next entries of the rotation.

        Args:
            stored: The set.
            entry: What the primary was given.
            staged: What the secondary was given.
            raised: Whether control and candidate raised.
        """
        self._sets += 1
        self._credit += self._pair.config.audit_share
        closely = self._sets <= _ALWAYS or self._credit >= 1
        for side, failed in zip(self._sides(), raised, strict=True):
            if failed or self._is_parted(side, stored.pool, stored.env_id, stored.key):
                continue
            held = side.read(stored.pool, stored.env_id, stored.key) if closely or not side.reads_copies else entry
            if held is None:
                if side.may_ask:
                    self._charge(side, stored, not_stored(side, stored))
            elif closely:
                self._look_at_set(side, stored, held, entry if side.name == self._pair.primary else staged)
        while self._credit >= 1:
            self._credit -= 1
            self._audit_next()

    def hold(self, answer: Any, stored: Stored) -> None:
        """Keep one answer of the secondary in sixteen, to see whether it changes under the hands that hold it."""
        self._gets += 1
        if self._gets % 16:
            return
        side = self._secondary()
        if side.model.policy.live_results:
            return  # declared: a caller must copy before its slot is reused
        found = entry_leaves(answer)
        if found is not None:
            self._held.append((side, [Leaf(tensor, size) for tensor, size in found], stored))
            self._check_held(16)

    def episode_ended(self, env_id: int, last_clear: tuple[str, int | None, list[int]] | None) -> None:
        """Look whether the host cleared this env and no other."""
        pair = self._pair
        if not 0 <= env_id < pair.env_num:
            return
        model = pair.control.model.init[env_id]
        if len(model):
            text = f"The host ended an episode of env {env_id} and left {len(model)} entries of it alive."
            self._charge_host(Cause.EPISODE_NOT_CLEARED, text, "init", env_id)
        if last_clear is not None:
            name, cleared, wiped = last_clear
            others = [env for env in wiped if env != env_id and cleared in (None, env)]
            if others:
                text = f"The host ended an episode of env {env_id}, and its {name} wiped live entries of envs {others}."
                self._charge_host(Cause.CLEAR_TOO_WIDE, text, "init", env_id)

    def search_started(self) -> None:
        """Look whether the host cleared the nodes of the search before."""
        left = len(self._pair.control.model.recur)
        if left:
            text = f"The host began a search with {left} entries of the search before still alive."
            self._charge_host(Cause.SEARCH_NOT_CLEARED, text, "recur", None)

    # -- what ---------------------------------------------------------------------------------------------------------

    def _audit_pool(self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel) -> None:
        if self._is_parted(side, pool, env_id, None):
            return
        # First everything is looked at, then named, then repaired: a repair would change what the next name rests on.
        found = [(stored, finding) for stored in model.live() if (finding := self._examine(side, stored)) is not None]
        keys = side.keys(pool, env_id)
        if keys is not None:
            self._look_for_extra(side, pool, env_id, model, [key for key in keys if model.peek(key) is None])
        for stored, finding in found:
            self._charge(side, stored, finding)

    def _examine(self, side: SideView, stored: Stored) -> Finding | None:
        """Hold what a side keeps under a live key against what was stored there."""
        pair = self._pair
        pool, env_id, key = stored.pool, stored.env_id, stored.key
        if self._is_parted(side, pool, env_id, key):
            return None
        pair.counters.coverage["entries_audited"] += 1
        entry = side.read(pool, env_id, key)
        if entry is None:
            return lost(side, stored, tuple(pair.referee.clears)) if side.may_ask else None
        found = entry_leaves(entry)
        if found is not None and digest(found) == stored.digest:
            return None
        asked = side.ask(pool, env_id, key)
        answer = None if asked is None else entry_leaves(asked)
        if answer is not None and digest(answer) == stored.digest:
            side.distrust_peek()  # it looks elsewhere than the cache answers from
            return None
        if isinstance(entry, Unreadable):
            text = f"raised {type(entry.error).__name__} when an entry was read back"
            return Finding(Dimension.ERROR, Cause.RAISED, text)
        if found is None:
            text = f"holds a {type(entry).__name__}, which is no entry"
            return Finding(Dimension.STRUCTURE, Cause.SHAPE_OFF, text)
        other = pair.candidate if side is pair.control else pair.control
        theirs = other.read(pool, env_id, key)
        truth = None if theirs is None else entry_leaves(theirs)
        if truth is not None and digest(truth) != stored.digest:
            truth = None
        if pair.referee.lossy(truth, found):
            return None
        if pair.referee.lives_in_input(side, found):
            text = "stored a reference to its input instead of a copy, and the input changed"
            return Finding(Dimension.ISOLATION, Cause.ALIASED_ON_SET, text)
        if side.name == pair.primary and answer is not None and storages(answer) & storages(found):
            text = (
                f"hands out what it stores, and the host wrote into the entry that operation {stored.op_index} stored"
            )
            return Finding(Dimension.ISOLATION, Cause.ALIASED_ON_GET, text)
        return wrong_value(side, pool, env_id, stored, found, truth)

    def _look_for_extra(
        self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel, keys: list[int]
    ) -> None:
        for key in keys:
            if model.peek(key) is not None or self._is_parted(side, pool, env_id, key):
                continue
            entry = side.read(pool, env_id, key)
            found = None if entry is None else entry_leaves(entry)
            if found is None:
                continue
            finding = uncalled(side, pool, env_id, key, digest(found))
            charge = self._as_charge(side, finding)
            self._pair.charge(charge, -1, "audit", pool, env_id, key)
            self._pair.referee.parted[(side.name, pool, env_id, key)] = charge

    def _look_at_set(self, side: SideView, stored: Stored, held: Any, given: Any) -> None:
        given_leaves, found = entry_leaves(given), entry_leaves(held)
        if given_leaves is None:
            return
        finding = None
        if digest(given_leaves) != stored.digest:
            text = f"changed the entry it was given to store at operation {stored.op_index}"
            finding = Finding(Dimension.ISOLATION, Cause.INPUT_EDITED, text)
        elif found is not None and storages(found) & storages(given_leaves):
            text = (
                f"stored a reference to its input instead of a copy at operation {stored.op_index}: both live in the "
                "same memory"
            )
            finding = Finding(Dimension.ISOLATION, Cause.ALIASED_ON_SET, text)
        if finding is not None:
            self._pair.charge(
                self._as_charge(side, finding),
                stored.op_index,
                f"set.{stored.pool}",
                stored.pool,
                stored.env_id,
                stored.key,
            )

    def _look_for_sharing(self) -> None:
        """Look for two entries, of one side or of both, whose buffers begin at the same address."""
        owners: dict[int, tuple[SideView, Stored]] = {}
        for side in self._sides():
            if side.reads_copies:
                continue
            for pool, env_id, model in side.model.pools():
                for stored in model.live():
                    entry = side.read(pool, env_id, stored.key)
                    for leaf in (entry_leaves(entry) or ()) if entry is not None else ():
                        if not leaf.tensor.numel():
                            continue
                        owner = owners.setdefault(leaf.tensor.data_ptr(), (side, stored))
                        if owner[1] is stored and owner[0] is side:
                            continue
                        self._charge_sharing(owner[0], owner[1], side, stored)
                        break

    def _charge_sharing(self, one: SideView, first: Stored, other: SideView, second: Stored) -> None:
        if one is other:
            fault = Fault(one.name)
            text = (
                f"The {one.name} ({type(one.cache).__name__}) keeps the entries of keys {first.key:016x} and "
                f"{second.key:016x} in the same memory."
            )
        else:
            fault = Fault.UNKNOWN
            text = f"Control and candidate keep the entry of key {second.key:016x} in the same memory."
        self._pair.charge(
            Charge(Dimension.ISOLATION, Cause.SHARED_SLOT, fault, text),
            second.op_index,
            "audit",
            second.pool,
            second.env_id,
            second.key,
        )

    def _check_held(self, keep: int) -> None:
        while len(self._held) > keep:
            side, found, stored = self._held.popleft()
            if digest(found) != stored.digest:
                text = (
                    f"A result that the {side.name} ({type(side.cache).__name__}) had handed out changed while it "
                    "was held: a later set reused its memory."
                )
                self._pair.charge(
                    Charge(Dimension.ISOLATION, Cause.ALIASED_ON_GET, Fault(side.name), text),
                    stored.op_index,
                    "audit",
                    stored.pool,
                    stored.env_id,
                    stored.key,
                )

    def _audit_next(self) -> None:
        for _ in range(2):
            place = next(self._rotation, None)
            if place is None:
                self._rotation = iter(
                    [
                        (pool, env_id, stored.key)
                        for pool, env_id, model in self._pair.control.model.pools()
                        for stored in model.live()
                    ]
                )
                continue
            pool, env_id, key = place
            for side in self._sides():
                stored = side.model.pool(pool, env_id).peek(key)
                finding = None
                if stored is not None and not self._is_parted(side, pool, env_id, None):
                    finding = self._examine(side, stored)
                if stored is not None and finding is not None:
                    self._charge(side, stored, finding)
            return

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _charge(self, side: SideView, stored: Stored, finding: Finding) -> None:
        charge = self._as_charge(side, finding)
        self._pair.charge(charge, stored.op_index, "audit", stored.pool, stored.env_id, stored.key)
        self._pair.repair(side, stored, charge)

    def _as_charge(self, side: SideView, finding: Finding) -> Charge:
        # A cache that says it hands out what it stores leaves it to the host to copy first.
        documented = finding.cause is Cause.ALIASED_ON_GET and side.model.policy.live_results
        text = f"The {side.name} ({type(side.cache).__name__}) {finding.text}."
        return Charge(finding.dimension, finding.cause, Fault.HOST if documented else Fault(side.name), text)

    def _charge_host(self, cause: Cause, text: str, pool: Pool, env_id: int | None) -> None:
        self._pair.charge(Charge(Dimension.LIFE_CYCLE, cause, Fault.HOST, text), -1, "audit", pool, env_id, None)

    def _is_parted(self, side: SideView, pool: Pool, env_id: int | None, key: int | None) -> bool:
        parted = self._pair.referee.parted
        return bool(parted) and ((side.name, pool, env_id, key) in parted or (side.name, pool, env_id, None) in parted)

    def _sides(self) -> tuple[SideView, SideView]:
        return self._pair.control, self._pair.candidate

    def _secondary(self) -> SideView:
        return self._pair.candidate if self._pair.primary == "control" else self._pair.control


def _covers(cleared: Pool, env_id: int | None, pool: Pool, env: int | None) -> bool:
    return cleared == "all" or (cleared == pool and (env_id is None or env_id == env))

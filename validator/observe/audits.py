"""Looks at what nobody asked for: live keys, contents, shared memory, and the host's life cycle.

A lookup only shows the entry that is looked up. Audits read every live entry at clears, weight updates, episode ends
and close, and a rotating share of them in between.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from reports.record.words import Fault
from shadow.located import region
from shadow.operation import Pool
from validator.device.looks import DeviceLooks
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.judge.charge import Finding, Place, against, of_nobody
from validator.judge.examination import Examination
from validator.judge.keyed import KeyedCase
from validator.judge.presence import uncalled
from validator.judge.roots import rooted
from validator.judge.side_view import SideView
from validator.models.places import covers
from validator.models.stored import PoolModel, Stored
from validator.observe.handed_out import HandedOut
from validator.observe.memory import Memory

LastClear = tuple[
    str, int | None, list[tuple[Pool, int]]
]  # the operation, its env, and the pools of envs that held something

_GONE_ASKED = 16  # keys of a pool that should be gone, asked for at its audit
_RAREST = 16  # clears of a search's pool of which at least one is audited, whatever the budget
_ALWAYS = 64  # sets of a pair that are always looked at closely, before a share of them is,
_ALWAYS_NBYTES = 1 << 30  # as long as they come to no more than that


class Audits:
    """Audits one pair.

    Attributes:
        memory: What each side holds, as counted at audits.
    """

    def __init__(self, case: KeyedCase, examination: Examination, looks: DeviceLooks, handed_out: HandedOut) -> None:
        self._case = case
        self._examination = examination
        self._looks = looks
        self._handed_out = handed_out
        self.memory = Memory(case)
        self._draw = random.Random(case.config.seed)
        self._sets = self._early_nbytes = 0
        self._search_clears = 0
        self._every = 1  # clear of a search's pool that is audited
        self._share = case.config.audit_share  # of sets, at present
        self._credit = 0.0
        self._rotation: Iterator[tuple[Pool, int | None, int]] = iter(())

    # -- when ---------------------------------------------------------------------------------------------------------

    def audit_all(self) -> None:
        """Audit every live entry of both sides, and every result still held."""
        self.memory.look()
        for side in self._case.sides:
            for pool, env_id, model in side.model.pools():
                self._audit_pool(side, pool, env_id, model)
        self._handed_out.check(keep=0)
        self._look_for_sharing()
        self._case.counters.coverage["audits_full"] += 1

    def before_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Audit what is about to be cleared, the last chance to see it."""
        of_search = cleared in self._case.places.of_search
        self._search_clears += of_search
        if of_search and self._search_clears % self._every:
            self._case.counters.coverage["audits_left_out_for_budget"] += 1
        else:
            self.memory.look()
            for side in self._case.sides:
                for pool, env, model in side.model.pools():
                    if covers(cleared, env_id, pool, env):
                        self._audit_pool(side, pool, env, model)
        self._handed_out.check(keep=0)

    def after_clear(self, cleared: Pool, env_id: int | None) -> None:
        """Look whether what should be gone is gone, and nothing else is."""
        for side in self._case.sides:
            for pool, env, model in side.model.pools():
                keys = side.keys(pool, env)
                if keys is not None and len(keys) != len(model):
                    self._audit_pool(side, pool, env, model, just_cleared=True)
                elif keys is None and covers(cleared, env_id, pool, env):
                    self._look_for_extra(side, pool, env, model, list(model.gone)[-4:])

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
        self._share = self._case.config.audit_share / self._every
        return share_of_wall <= budget or not exhausted

    def begin_set(self, digest: Digest) -> bool:
        """Tell whether the coming look at a set is a close one: all at first, then a share."""
        self._sets += 1
        self._credit += self._share
        if self._sets <= _ALWAYS and self._early_nbytes < _ALWAYS_NBYTES:
            self._early_nbytes += digest.nbytes
            return True
        return self._credit >= 1

    def end_set(self) -> None:
        """Audit the next entries of the rotation."""
        while self._credit >= 1:
            self._credit -= 1
            self._audit_next()

    def episode_ended(self, env_id: int, last_clear: LastClear | None) -> None:
        """Look whether the host cleared this env and no other."""
        if not 0 <= env_id < (self._case.env_num or env_id + 1):
            return
        for pool in self._case.places.per_env:
            left = min(len(side.model.pool(pool, env_id)) for side in self._case.sides)
            if left:
                self._charge_host(words.EPISODE_LEFT_ENTRIES, {"env_id": env_id, "left": left}, pool, env_id)
        if last_clear is not None:
            name, cleared, wiped = last_clear
            others = [env for _, env in wiped if env != env_id and cleared in (None, env)]
            if others:
                facts = {"env_id": env_id, "operation": name, "others": others}
                self._charge_host(words.EPISODE_WIPED_OTHERS, facts, wiped[0][0], env_id)

    def search_started(self) -> None:
        """Look whether the host cleared the nodes of the search before."""
        for pool in self._case.places.of_search:
            left = min(len(side.model.pool(pool, None)) for side in self._case.sides)
            if left:
                self._charge_host(words.SEARCH_LEFT_ENTRIES, {"left": left}, pool, None)

    # -- what ---------------------------------------------------------------------------------------------------------

    def _audit_pool(
        self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel, just_cleared: bool = False
    ) -> None:
        if self._case.ledger.apart(side.name, pool, env_id, None):
            return
        # First everything is looked at, then named, then repaired: a repair would change what the next name rests on.
        found = [
            (stored, finding)
            for stored in self._looks.examine(side, model.live())
            if (finding := self._examination.of_live(side, stored, just_cleared)) is not None
        ]
        keys = side.unexpected(pool, env_id, model)
        if keys is not None:
            self._look_for_extra(side, pool, env_id, model, keys, listed=True)
        if side is self._case.secondary:
            self._ask_for_gone(pool, env_id, model, _GONE_ASKED)
        for stored, finding in found:
            self._examination.charge_and_repair(side, stored, finding)

    def _ask_for_gone(self, pool: Pool, env_id: int | None, model: PoolModel, most: int) -> None:
        """Ask the secondary for some keys that should be gone; whether it lists them or not, it may still answer them.

        Half are those that went last, the others are drawn. A miss changes no age, so LRU is asked as well.
        """
        gone = list(model.gone)
        if len(gone) > most:
            late = (most + 1) // 2
            gone = [*gone[-late:], *self._draw.sample(gone[:-late], most - late)]
        self._look_for_extra(self._case.secondary, pool, env_id, model, gone)

    def _look_for_extra(
        self, side: SideView, pool: Pool, env_id: int | None, model: PoolModel, keys: list[int], listed: bool = False
    ) -> None:
        ledger = self._case.ledger
        for key in keys:
            if model.peek(key) is not None or ledger.apart(side.name, pool, env_id, key):
                continue
            asked = side.answers if side is self._case.secondary else side.read
            answer = asked(pool, env_id, key)
            if answer is None and listed and side.lists_keys and not side.model.policy.misses_count:
                side.distrust_keys()
                side.misbehaved("live_keys", "a key that it does not hold")
            found = entry_leaves(answer)
            finding = None if found is None else uncalled(side, pool, env_id, key, side.digest(found))
            if finding is None:
                continue
            place = Place(-1, "audit", pool, env_id, key)
            charge = rooted(self._case, against(side, finding), place)
            if ledger.repeats(charge, place):
                continue
            self._case.charge(charge, place)
            ledger.keys_part(side.name, pool, env_id, key, charge)

    def _look_for_sharing(self) -> None:
        """Look for two entries, of one side or of both, whose buffers begin at the same address."""
        owners: dict[int, tuple[SideView, Stored]] = {}
        for side in self._case.sides:
            if side.reads_copies:
                continue
            for _, _, model in side.model.pools():
                for stored in model.live():
                    for address in _begins(side.read(stored.pool, stored.env_id, stored.key)):
                        owner = owners.setdefault(address, (side, stored))
                        if owner[0] is side and (owner[1] is stored or side.keeps_the_hosts):
                            continue
                        self._charge_sharing(owner[0], owner[1], side, stored)
                        break

    def look_for(self, side: SideView, pool: Pool, env_id: int | None, key: int) -> None:
        """Look whether a key that was removed is gone."""
        self._look_for_extra(side, pool, env_id, side.model.pool(pool, env_id), [key])

    def _charge_sharing(self, one: SideView, first: Stored, other: SideView, second: Stored) -> None:
        charge = (
            against(one, Finding(words.ONE_MEMORY, {"key": first.key, "other_key": second.key}))
            if one is other
            else of_nobody(words.MEMORY_OF_BOTH, {"key": second.key})
        )
        place = Place(second.op_index, "audit", second.pool, second.env_id, second.key)
        self._case.charge(rooted(self._case, charge, place), place)

    def _audit_next(self) -> None:
        for _ in range(2):
            place = next(self._rotation, None)
            if place is None:
                pools = self._case.control.model.pools()
                self._rotation = iter([(p, env, stored.key) for p, env, model in pools for stored in model.live()])
                continue
            pool, env_id, key = place
            secondary = self._case.secondary
            self._ask_for_gone(pool, env_id, secondary.model.pool(pool, env_id), 1)
            for side in self._case.sides:
                stored = side.model.pool(pool, env_id).peek(key)
                if stored is None or not self._looks.examine(side, [stored]):
                    continue
                finding = self._examination.of_live(side, stored)
                if finding is not None:
                    self._examination.charge_and_repair(side, stored, finding)
            return

    def _charge_host(self, kind: words.Kind, facts: dict[str, Any], pool: Pool, env_id: int | None) -> None:
        self._case.charge(of_nobody(kind, facts, Fault.HOST), Place(-1, "audit", pool, env_id))


def _begins(entry: Any) -> Sequence[int]:
    """List the addresses at which the buffers of an entry begin; none for what is no entry."""
    dense = region(entry)
    if dense is not None:
        return dense.addresses
    return [leaf.tensor.data_ptr() for leaf in entry_leaves(entry) or () if leaf.tensor.numel()]

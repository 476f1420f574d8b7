"""Results that a side handed out: whether they change while they are held, and who changed them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

from reports.record.words import Fault
from shadow.lent import readable
from shadow.located import region
from shadow.memory.buffers import Leaf
from shadow.memory.regions import Region
from validator.device.looks import DeviceLooks
from validator.entries.digest import Digest, digest_region, holds
from validator.entries.readable import entry_leaves, storages
from validator.judge import words
from validator.judge.case import Case
from validator.judge.charge import Finding, Place, against
from validator.judge.side import SideView
from validator.models.stored import Stored

_EACH = 16  # answers of the secondary of which one is held, after the first ones; divides _WATCH_EACH
_MOST_HELD = 16
_WATCH_FIRST = 64  # answers that are all looked at, one after the other
_WATCH_EACH = 64
_WATCH_FOR = 4  # operations; of the first ones, until memory may well have been reused:
_WATCH_FIRST_FOR = 32


class Snapshot(NamedTuple):
    """The tensors and lengths of one answer at one moment.

    Attributes:
        leaves: Its leaves.
        origin: What a lent answer reads from, held so that the cache leaves it as it is; None for any other.
        region: Where it lies, if it is dense.
    """

    leaves: list[Leaf]
    origin: Any
    region: Region | None

    def digest(self, side: SideView) -> Digest:
        """Digest what these tensors hold now."""
        region = self.region
        return side.digest(self.leaves) if region is None or not region.steady else digest_region(region)

    def holds(self, side: SideView, before: Digest) -> bool:
        """Tell whether these tensors still hold what they did."""
        region = self.region
        return side.digest(self.leaves) == before if region is None or not region.steady else holds(region, before)


@dataclass(slots=True)
class Watch:
    """An answer of the primary that is looked at before and after each of the next operations.

    Attributes:
        found: The answer.
        before: What it held when it was given.
        stored: What was looked up.
        until: Ordinal of the operation after which it is let go.
        thread: Who was given it. In the hands of one thread while another one operates, nobody can tell who changed it.
        over: Whether it is known to have changed; what it holds later is no news.
    """

    found: Snapshot
    before: Digest
    stored: Stored
    until: int
    thread: int
    over: bool = False


class HandedOut:
    """Holds some answers of both sides and looks at them again.

    Nobody but the secondary itself can change what the secondary answered. What the primary answered is in the host's
    hands: a change between two operations is the host's, a change during one is the cache's.
    """

    def __init__(self, case: Case, looks: DeviceLooks) -> None:
        self._case = case
        self._looks = looks
        self._live = case.primary.model.policy.live_results
        self._answers = 0
        self._held: deque[tuple[Snapshot, Digest, Stored]] = deque()
        self.watched: Watch | None = None

    def answered(self, control: Any, candidate: Any, stored: Stored, op_index: int) -> None:
        """See a right answer of both sides."""
        case = self._case
        self._answers += 1
        if self._live:
            case.handed_out.append(stored.op_index)
        early = self._answers <= _WATCH_FIRST
        if not early and self._answers % _EACH:
            return
        primary, secondary = (control, candidate) if case.primary is case.control else (candidate, control)
        if not case.secondary.model.policy.live_results:
            found = _snapshot(secondary, case.in_place)
            # What was not held against the digest to the bit may differ from it without having changed since.
            exact = case.referee.tolerance is None and case.config.digest_share >= 1 and not self._looks.begun
            self._held.append((found, stored.digest if exact else found.digest(case.secondary), stored))
            self.check(keep=_MOST_HELD)
        if self.watched is None and (early or self._answers % _WATCH_EACH == 0):
            found = _snapshot(primary, case.in_place)
            until = op_index + (_WATCH_FIRST_FOR if early else _WATCH_FOR)
            self.watched = Watch(found, found.digest(case.primary), stored, until, get_ident())

    def before_operation(self) -> None:
        """Look whether the host wrote into what it was given; only while there is something ``watched``."""
        watch = self.watched
        assert watch is not None
        looks, side, found = self._looks, self._case.primary, watch.found
        if looks.active:
            wrote = partial(self._host_wrote, watch, self._is_stored(watch))
            if looks.holds(found.leaves, watch.before, wrote):
                return
        if not found.holds(side, watch.before):
            self._host_wrote(watch, self._is_stored(watch))

    def after_operation(self, op_index: int) -> None:
        """Look whether the operation itself changed what the primary had handed out; only while ``watched``."""
        watch = self.watched
        assert watch is not None
        side, found = self._case.primary, watch.found
        taken = self._looks.holds(found.leaves, watch.before, partial(self._cache_wrote, watch))
        if not taken and not found.holds(side, watch.before):
            self._cache_wrote(watch)
        if watch.over or op_index >= watch.until:
            self.watched = None

    def check(self, keep: int) -> None:
        """Look at the answers of the secondary held longest, until only so many are left."""
        looks, side = self._looks, self._case.secondary
        while len(self._held) > keep:
            found, before, stored = self._held.popleft()
            if looks.holds(found.leaves, before, partial(self._charge_change, side, stored)):
                continue
            if not found.holds(side, before):
                self._charge_change(side, stored)

    def _is_stored(self, watch: Watch) -> bool:
        """Tell whether what was handed out is the memory that the primary stores."""
        primary, stored = self._case.primary, watch.stored
        # One that can be looked into is not asked as well: this is between a host's question and the answer.
        if primary.shows_nothing(stored.pool, stored.env_id, stored.key):
            return False
        held = primary.held(stored)
        return held is not None and bool(storages(held) & storages(watch.found.leaves))

    def _host_wrote(self, watch: Watch, is_stored: bool) -> None:
        if watch.over:
            return
        watch.over = True
        if self.watched is watch:
            self.watched = None
        if not is_stored:
            return  # it was the host's own copy
        case, stored = self._case, watch.stored
        side = case.primary
        charge = against(side, Finding(words.HOST_WROTE, {"op": stored.op_index}))
        if self._live:
            charge = charge._replace(fault=Fault.HOST)
        case.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))
        if side.holds(stored):
            case.ledger.set_apart(side.name, stored.pool, stored.env_id, stored.key, charge)

    def _cache_wrote(self, watch: Watch) -> None:
        if watch.over:
            return
        watch.over = True
        if watch.thread != get_ident():
            self._case.counters.coverage["changes of answers that another thread may have made"] += 1
        elif not self._live:
            self._charge_change(self._case.primary, watch.stored)

    def _charge_change(self, side: SideView, stored: Stored) -> None:
        charge = against(side, Finding(words.RESULT_CHANGED))
        self._case.charge(charge, Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key))


def _snapshot(answer: Any, in_place: bool) -> Snapshot:
    found = region(answer) if in_place else None
    origin = readable(answer)
    return Snapshot(
        entry_leaves(answer) or [], None if origin is answer else origin, None if found is None else found.copy()
    )

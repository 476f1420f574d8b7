"""Results that a side handed out: whether they change while they are held, who changed them, and whose memory it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

from reports.record.words import Fault
from shadow.located import region
from shadow.memory.regions import Region
from validator.device.looks import DeviceLooks
from validator.device.results import Compared
from validator.entries.compare import LARGE
from validator.entries.digest import Digest, digest_region, holds
from validator.entries.readable import entry_leaves, in_one_memory
from validator.judge import words
from validator.judge.charge import Finding, Place, against
from validator.judge.custody import Answer, Custody
from validator.judge.keyed import KeyedCase
from validator.judge.side_view import SideView
from validator.models.stored import Stored

_EACH = 16  # answers of which about one is looked at, after the first ones
_MOST_HELD = 16
_TOGETHER = 4  # answers that are looked at in one: a device looks at several as quickly as at one
_MOST_WATCHED = 4
_WATCH_FIRST = 64  # answers that are all looked at, as far as so many can be at once,
_WATCH_FIRST_NBYTES = 1 << 30  # and as long as they come to no more than that
_WATCH_EACH = 64
_WATCH_FOR = 4  # operations at most; of the first ones, until memory may well have been reused:
_WATCH_FIRST_FOR = 32


@dataclass(slots=True)
class Watch:
    """An answer of the primary that is looked at before and after each of the next operations.

    Attributes:
        answer: The answer.
        until: Ordinal of the operation after which it is let go.
        thread: Who was given it. In the hands of one thread while another one operates, nobody can tell who changed it.
        over: Whether it is known to have changed; what it holds later is no news.
    """

    answer: Answer
    until: int
    thread: int
    over: bool = False


class HandedOut:
    """Holds some answers of both sides and looks at them again.

    Nobody but the secondary itself can change what the secondary answered. What the primary answered is in the host's
    hands: a change between two operations is the host's, a change during one is the cache's. A side that hands out
    the memory it stores is at the mercy of its host: that is charged where it declares not to, and wherever the host
    is seen to write into what it was given. A host may do that under a primary that hands out copies, and would have
    written into the store of such a secondary.
    """

    def __init__(self, case: KeyedCase, custody: Custody, looks: DeviceLooks) -> None:
        self._case = case
        self._custody = custody
        self._looks = looks
        self._answers = self._early_nbytes = 0
        # Drawn, since hosts look up in patterns that any fixed step could keep pace with.
        self._draw = random.Random(case.config.seed).random
        self.watched: list[Watch] = []  # this very list, which a pair looks at

    def answered(
        self, control: Any, candidate: Any, stored: Stored, op_index: int, late: Compared | None = None
    ) -> None:
        """See a right answer of both sides; or one of which a device will say whether it is, that is ``late``."""
        case, custody = self._case, self._custody
        self._answers += 1
        if custody.primary_lends:
            custody.in_hands.append(stored.op_index)
        early = self._answers <= _WATCH_FIRST and self._early_nbytes < _WATCH_FIRST_NBYTES
        if not early and self._draw() * _EACH >= 1:
            return
        nbytes = stored.digest.nbytes
        self._early_nbytes += nbytes
        primary, secondary = (control, candidate) if case.primary is case.control else (candidate, control)
        if early or not custody.primary_lends:
            custody.look(case.primary, primary, stored, op_index)
        most = 1 if nbytes > LARGE else _MOST_WATCHED
        watches = len(self.watched) < most and (early or self._draw() * _WATCH_EACH < _EACH)
        live = case.secondary.model.policy.live_results
        if watches or not live:
            custody.look(case.secondary, secondary, stored, op_index)
        # What was not held against the digest to the bit may differ from it without having changed since.
        exact = live or (case.referee.tolerance is None and case.config.digest_share >= 1 and not self._looks.begun)
        held = stored.digest if exact else self._digest(case.secondary, secondary, stored, late)
        custody.held.append(Answer(secondary, held, stored))
        self.check(keep=_MOST_HELD)
        if watches:
            until = op_index + 1 + int(self._draw() * (_WATCH_FIRST_FOR if early and most > 1 else _WATCH_FOR))
            answer = Answer(primary, self._digest(case.primary, primary, stored, late), stored)
            self.watched.append(Watch(answer, until, get_ident()))

    def before_operation(self) -> None:
        """Look whether the host wrote into what it was given; only while there is something ``watched``."""
        looks = []
        for watch in self.watched:
            # By the time that a device says so, what the side stores may be something else.
            is_stored = self._is_the_store(watch.answer) if self._looks.active else None
            looks.append((watch.answer, partial(self._host_wrote, watch, is_stored)))
        self._look(self._case.primary, looks)

    def after_operation(self, op_index: int) -> None:
        """Look whether the operation itself changed what the primary had handed out; only while ``watched``."""
        self._look(self._case.primary, [(watch.answer, partial(self._cache_wrote, watch)) for watch in self.watched])
        self.watched[:] = [watch for watch in self.watched if not watch.over and op_index < watch.until]

    def check(self, keep: int) -> None:
        """Look at the answers of the secondary held longest, some at a time, until only so many are left."""
        side, held = self._case.secondary, self._custody.held
        if keep and len(held) < keep + _TOGETHER:
            return
        answers = [held.popleft() for _ in range(len(held) - keep)]
        if not side.model.policy.live_results:
            self._look(side, [(answer, partial(self._charge_change, side, answer.stored)) for answer in answers])

    # -- looking ------------------------------------------------------------------------------------------------------

    def _digest(self, side: SideView, found: Any, stored: Stored, late: Compared | None) -> Digest:
        if late is not None and late.structure.hashed:
            return stored.digest._replace(contents=late.hashes(int(side is self._case.candidate)))
        dense = region(found) if self._case.in_place else None
        return side.digest(entry_leaves(found) or []) if dense is None else digest_region(dense)

    def _look(self, side: SideView, answers: Iterable[tuple[Answer, Callable[[], None]]]) -> None:
        """Look whether answers hold what they did, and call what is to be done about each that does not.

        That is done at once, or where a device has to be asked, when it answers.
        """
        late: list[tuple[Region, Digest, Callable[[], None]]] = []
        for (found, before, _), changed in answers:
            dense = region(found) if self._case.in_place else None
            if dense is not None and before.whole is not None:
                same = holds(dense, before)
            elif (there := self._looks.like(found, before)) is not None:
                late.append((there, before, changed))
                continue
            else:
                same = side.digest(entry_leaves(found) or []) == before
            if not same:
                changed()
        self._looks.hold(late)

    def _is_the_store(self, answer: Answer) -> bool:
        """Tell whether what the primary handed out is the memory that it stores."""
        primary, stored = self._case.primary, answer.stored
        # One that can be looked into is not asked as well: this is between a host's question and the answer.
        if primary.shows_nothing(stored.pool, stored.env_id, stored.key):
            return False
        return in_one_memory(answer.found, primary.read(stored.pool, stored.env_id, stored.key))

    # -- charging -----------------------------------------------------------------------------------------------------

    def _host_wrote(self, watch: Watch, is_stored: bool | None) -> None:
        if watch.over:
            return
        watch.over = True
        if is_stored is None:
            is_stored = self._is_the_store(watch.answer)
        case, stored = self._case, watch.answer.stored
        place = Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key)
        if not is_stored:  # it was the host's own copy
            if self._custody.secondary_lends and case.secondary.holds(stored):
                self._custody.charge(
                    against(case.secondary, Finding(words.HOST_WOULD_WRITE, {"op": stored.op_index})), place
                )
            return
        side, finding = case.primary, Finding(words.HOST_WROTE, {"op": stored.op_index})
        charge = against(side, finding)
        if side.model.policy.live_results:
            charge = charge._replace(fault=Fault.HOST)
        self._custody.host_wrote = charge = self._custody.charge(charge, place)
        if side.holds(stored):
            case.ledger.set_apart(side.name, stored.pool, stored.env_id, stored.key, charge)

    def _cache_wrote(self, watch: Watch) -> None:
        if watch.over:
            return
        watch.over = True
        if watch.thread != get_ident():
            self._case.counters.coverage["changes of answers that another thread may have made"] += 1
        elif not self._case.primary.model.policy.live_results:
            self._charge_change(self._case.primary, watch.answer.stored)

    def _charge_change(self, side: SideView, stored: Stored) -> None:
        place = Place(stored.op_index, "audit", stored.pool, stored.env_id, stored.key)
        self._custody.charge(against(side, Finding(words.RESULT_CHANGED)), place)

"""Observes one pair of keyed caches: counts every operation, and hands it to whoever looks at its kind."""

from __future__ import annotations

import copy
import sys
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any

from reports.record.words import Fault
from shadow.memory.regions import Regions
from shadow.operation import Observation, Operation
from validator.device.looks import DeviceLooks
from validator.device.queue import DeferredQueue
from validator.judge import words
from validator.judge.case import Pairing
from validator.judge.charge import Finding, Place, against, of_nobody
from validator.judge.counters import ERROR
from validator.judge.custody import Custody
from validator.judge.examination import Examination
from validator.judge.keyed import KeyedCase
from validator.judge.presence import Clear
from validator.judge.shape import KeyedShape
from validator.models.places import covers
from validator.observe.audits import Audits, LastClear
from validator.observe.handed_out import HandedOut
from validator.observe.held_before import Held, held_before, read_in
from validator.observe.lookups import Lookups
from validator.observe.pair import CHECK_CLOCK_EVERY, Pair, Session
from validator.observe.removals import Removals
from validator.observe.sets import Pending, Sets

_KEYLESS = ("clear", "take")  # operations that may have no key
_OTHERS = {"has": Removals.had, "delete": Removals.deleted, "take": Removals.taken}
_BAD_KEY = "operations under keys that can't be told apart"


class KeyedPair(Pair):
    """Observer of one pair of keyed caches.

    Args:
        pairing: The two caches.
        shape: The shape of both.
        session: Where they belong.
    """

    case: KeyedCase

    def __init__(self, pairing: Pairing, shape: KeyedShape, session: Session) -> None:
        queue = DeferredQueue(pairing.config.deferred)
        case = KeyedCase(pairing, shape, session, queue.digest)
        super().__init__(case, session)
        self._shape = shape
        # Each knows only those before it.
        custody = Custody(case)
        examination = Examination(case, custody)
        self.looks = DeviceLooks(case, examination, queue)
        self._handed_out = HandedOut(case, custody, self.looks)
        self.watching = self._handed_out.watched
        self.audits = Audits(case, examination, self.looks, self._handed_out)
        self.sets = Sets(case, examination, self.looks, self.audits)
        self.lookups = Lookups(case, custody, self.looks, self._handed_out)
        self.removals = Removals(case, self.lookups, self.audits)
        self._env_num = case.env_num or sys.maxsize  # not said: any that comes
        self._unobserved: set[str] = set()
        self._last_clear: LastClear | None = None
        self._updated = -1  # at which operation the weights were updated last
        self._held: tuple[Held, Held] | None = None  # by both sides, before the first operation
        if not case.in_place:
            self.looks.begin()

    # -- the observer's side ------------------------------------------------------------------------------------------

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, regions: Regions
    ) -> Pending | None:
        """Digest what is about to be stored, and return it for ``observed``; audit what is about to be cleared."""
        kind = operation.kind
        if self.watching:
            self._handed_out.before_operation()
        if kind == "set":
            pending = self.sets.begin(entry, staged, regions)
            if self.oracle is not None:
                self.oracle.storing(operation, env_id, key, entry)
            if self.keep is not None:
                self.keep(pending.digest, staged)
            return pending
        if kind == "clear" and not self._torn:
            self.audits.before_clear(operation.pool, env_id)
        return None

    def observed(self, seen: Observation, pending: Pending | None) -> None:
        """Count and judge one operation; ``pending`` is what ``before`` returned."""
        op_index, operation, env_id, key, _, _, _, _, control_ns, candidate_ns = seen
        self.case.now = op_index + 1
        if self.note is not None:
            self.note((op_index, operation, env_id, key, None if pending is None else pending.digest))
        _, kind, _, name, _ = operation
        if type(control_ns) is int or not self.looks.timed(name, control_ns, candidate_ns):
            times = self._times[name]
            times += (control_ns, candidate_ns)
        if self.watching:
            self._handed_out.after_operation(op_index)
        if env_id is not None and not (type(env_id) is int and 0 <= env_id < self._env_num):
            self._bad_env(seen)
        elif type(key) is not int and not (key is None and kind in _KEYLESS) and not words.can_be_told_apart(key):
            self._bad_key(seen)
        elif kind == "get":
            self.lookups.got(seen)
            if self.oracle is not None:
                self.oracle.looked_up(seen)
        elif kind == "set":
            self._last_clear = None
            self.sets.was_set(seen, pending)
        elif kind == "clear":
            self._cleared(seen)
        else:
            self._last_clear = None
            _OTHERS[kind](self.removals, seen)
        if not (op_index + 1) % CHECK_CLOCK_EVERY:
            self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        """Do what is to be done now and then, and less of it where that took too long."""
        config = self.case.config
        if config.overhead_budget:
            share = self.harness_ns / (perf_counter_ns() - self._began_ns)
            kept = self.audits.keep_to_budget(share, config.overhead_budget)
            if config.sample_lookups:
                self.lookups.keep_to_budget(kept)
        super().look_at_the_clock()

    def advised(self, operation: Operation, env_id: int | None) -> None:
        """Judge a pool whose side goes by priorities by agreement, once the host passes some."""
        self.lived("advised", env_id)
        if env_id is not None and not (type(env_id) is int and 0 <= env_id < self._env_num):
            return  # it is judged as such
        for side in self.case.sides:
            model = side.model
            if model.policy.kind == "priority" and not model.evicts_as_it_likes(operation.pool, env_id):
                model.agree(operation.pool, env_id, keep=True)
                model.pool(operation.pool, env_id).told_all = True
                self.case.agreed = True
                self.case.models_replaced()

    def unobserved(self, method: str) -> None:
        """Note that the host called a method of the primary that is no operation; what it holds is not known after."""
        self.lived("unobserved")
        self.looks.flush()
        if method not in self._unobserved:
            self._unobserved.add(method)
            told = "the primary alone was called, and what it held by then is judged by agreement until it is cleared"
            self.case.sink.event("unobserved_call", f"{method}: {told}")
        self.counters.coverage["calls that were not observed"] += 1
        self.case.lose_track(self.case.primary)

    def copied(self, control: Any, candidate: Any) -> KeyedPair:
        """Register the observer of a deep copy, which begins with what the original holds."""
        fork = self._session.fork(self, control, candidate)
        assert isinstance(fork, KeyedPair)
        own, theirs = self.case, fork.case
        for side, copied in zip(own.sides, theirs.sides, strict=True):
            copied.model = copy.deepcopy(side.model)
        theirs.models_replaced()
        if self.looks.begun:
            fork.looks.begin()
        theirs.ledger.begin_as(own.ledger)
        theirs.weight_version, theirs.searches = own.weight_version, own.searches
        theirs.episodes.update(own.episodes)
        return fork

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def weights_updated(self) -> None:
        """Entries computed before are of an older version from here on; audit them, unless nothing was done since."""
        self._last_clear = None
        if self._updated != self.case.now:
            self._updated = self.case.now
            self.audit()
        super().weights_updated()

    def episode_ended(self, env_id: int) -> None:
        """Nothing of this env may be alive any more."""
        self.lived("episode_ended", env_id)
        case = self.case
        if case.promises.episode_end_clears:
            self.audits.episode_ended(env_id, self._last_clear)
        self._last_clear = None
        if 0 <= env_id < self._env_num:
            case.episodes[env_id] += 1
        self.counters.coverage["episodes"] += 1

    def search_started(self) -> None:
        """The pools of a search must be empty."""
        self._last_clear = None
        if self.case.promises.search_start_clears:
            self.audits.search_started()
        super().search_started()

    def audit(self) -> None:
        """Audit every live entry of both sides, unless an interrupt left them half-way."""
        self.case.charge_early()
        if not self._torn:
            self.audits.audit_all()
        self.looks.flush()

    def about(self) -> dict[str, Any]:
        """Return shape, policies, environments, promises, and what had to be assumed."""
        case = self.case
        policies = {side.name: asdict(side.model.policy) for side in case.sides}
        bounded = any(model.capacity < sys.maxsize for side in case.sides for _, _, model in side.model.pools())
        return {
            "shape": self._shape.name,
            "spared": [*self._shape.spared, *([] if bounded else ("evictions", "ring_wraps"))],
            "policy": policies,
            "env_num": case.env_num,
            "assumed": case.assumed,
            "promises": asdict(case.promises),
        }

    def look_before(self) -> None:
        """Look which entries both sides hold; ValueError if they can't be listed."""
        self._held = held_before(self.case)

    def take_over(self) -> None:
        """Read in what both held."""
        if self._held is not None:
            self.lived("held_before")
            read_in(self.case, self._held)

    @property
    def under_way(self) -> bool:
        """Whether something is launched on a device whose result is not here yet."""
        return self.looks.under_way

    def flush(self) -> None:
        """Wait for what is under way on a device."""
        self.looks.flush()

    def bytes_counted(self) -> dict[str, int]:
        """Return what each side was counted to hold, in bytes, where it was."""
        return self.audits.memory.held

    # -- judging ------------------------------------------------------------------------------------------------------

    def _cleared(self, seen: Observation) -> None:
        case, operation, env_id = self.case, seen.operation, seen.env_id
        pool = operation.pool
        case.ledger.recent.append((seen.op_index, operation.name, env_id, None, ""))
        self.counters.coverage[operation.name.replace("clear.", "clears_")] += 1
        case.referee.clears.append(Clear(seen.op_index, pool, env_id))
        if pool == "all" or pool in case.places.per_env:
            wiped = [(each, env) for each, env, model in case.control.model.pools() if env is not None and len(model)]
            self._last_clear = (operation.name, env_id, wiped)
        errors = (seen.control_error, seen.candidate_error)
        if errors == (None, None):
            case.ledger.was_cleared(pool, env_id)
        for side, error in zip(case.sides, errors, strict=True):
            if error is None:
                side.model.clear(pool, env_id, seen.op_index)
                if case.agreed:
                    case.models_replaced()
                continue
            charge = against(side, Finding(words.RAISED_ON_CLEAR, {"error": type(error).__name__}))
            case.charge(charge, Place.of(seen), errors=errors)
            for each, env, _ in side.model.pools():
                if covers(pool, env_id, each, env):  # cleared or not: nobody can tell
                    case.ledger.keys_part(side.name, each, env, None, charge)
        if not self._torn:
            self.audits.after_clear(pool, env_id)
        self.looks.ship()

    def _bad_env(self, seen: Observation) -> None:
        case = self.case
        if seen.operation.kind == "get":
            self.counters.lookups[seen.operation.pool][ERROR] += 1
        env_id, errors = seen.env_id, (seen.control_error, seen.candidate_error)
        control, candidate = map(_did, errors)
        facts = {"env_id": env_id, "env_num": case.env_num or "inf", "control": control, "candidate": candidate}
        place = Place.of(seen if type(env_id) is int else seen._replace(env_id=None))
        case.charge(of_nobody(words.ENV_OUT_OF_RANGE, facts, Fault.HOST), place, errors=errors)

    def _bad_key(self, seen: Observation) -> None:
        """Pass over an operation whose key no model can follow; where it did something, the run can't pass."""
        case, kind, control, candidate = self.case, type(seen.key).__name__, seen.control_error, seen.candidate_error
        if control is not None or candidate is not None:
            facts = {"type": kind, "control": _did(control), "candidate": _did(candidate)}
            charge = of_nobody(words.KEY_NOT_TOLD_APART, facts, Fault.HOST)
            case.charge(charge, Place.of(seen._replace(key=None)), errors=(control, candidate))
        if control is None or candidate is None:
            self.counters.dropped[_BAD_KEY] += 1
            if seen.operation.kind == "set":
                case.agree(seen.operation.pool, seen.env_id)


def _did(error: BaseException | None) -> str:
    return "accepted it" if error is None else f"raised {type(error).__name__}"

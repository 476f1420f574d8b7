"""Observes one shadowed pair: counts every operation, judges every lookup, and sends what it found to the session.

The usual answer (both sides hit, equal bits, what was stored; or both miss, as they should) is decided here with as
little as possible. Everything else goes to the referee.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from typing import Any, Protocol

from shadow.entry import KeysValues, Leaf, leaves
from shadow.operation import Observation, Operation, Pool
from validator.audit import Auditor
from validator.compare import Tolerance, differences, equal
from validator.config import ValidationConfig
from validator.counters import CANDIDATE_ONLY, CONTROL_ONLY, DIFFER, EQUAL, ERROR, MISS, OUTCOMES, Counters
from validator.diagnose import Clear
from validator.digest import Digest, digest
from validator.findings import pools_of
from validator.models import Stored
from validator.records import Cause, Dimension, Fault, Window
from validator.referee import Charge, Referee
from validator.side import SideView, entry_leaves, policies, storages

_CHECK_CLOCK_EVERY = 256  # operations between two looks at the clock


class Sink(Protocol):
    """Where a pair sends what it found; the session implements it."""

    train_iter: int
    env_step: int

    def diverged(self, pair: Pair, charge: Charge, about: dict[str, Any], answers: tuple[Any, Any]) -> bool:
        """Record one divergence; return False if it could only be counted."""

    def window(self, pair: Pair, *, force: bool) -> None:
        """Write a window, at once or if it is due."""

    def fault(self, fault: Exception) -> None:
        """Note that the harness itself failed."""

    def fork(self, pair: Pair, control: Any, candidate: Any) -> Pair:
        """Register a deep copy of a pair."""


class Pair:
    """Observer of one shadowed pair.

    Args:
        name: What the report calls it.
        control: Trusted cache.
        candidate: New cache.
        primary: Whose answers the host receives.
        config: Settings.
        sink: The session.

    Raises:
        ValueError: If nothing says how large the caches are.
    """

    def __init__(
        self, name: str, control: Any, candidate: Any, primary: str, config: ValidationConfig, sink: Sink
    ) -> None:
        control_policy, candidate_policy, env_num, self.assumed = policies(control, candidate)
        self.name = name
        self.primary = primary
        self.config = config
        self.control = SideView("control", control, control_policy, env_num)
        self.candidate = SideView("candidate", candidate, candidate_policy, env_num)
        self.env_num = env_num
        tolerance = None if config.rtol is None or config.atol is None else Tolerance(config.rtol, config.atol)
        self.referee = Referee(self.control, self.candidate, tolerance)
        self.counters = Counters()
        self.auditor = Auditor(self)
        self.seq = 0
        self.weight_version = 0
        self.searches = 0
        self.episodes = [0] * env_num
        self._sink = sink
        self._random = random.Random(config.seed).random
        self._recent: deque[tuple[int, str, int | None, int | None, str]] = deque(maxlen=512)
        self._pending: tuple[Digest, Any, Any] | None = None
        self._known: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        self._writes = {"init": 0, "recur": 0, "wm": 0}
        self._env_writes = [0] * env_num
        self._until_clock = _CHECK_CLOCK_EVERY
        self._last_clear: tuple[str, int | None, list[int]] | None = None

    # -- the observer's side ------------------------------------------------------------------------------------------

    def before(self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any) -> None:
        """Digest what is about to be stored; audit what is about to be cleared."""
        if operation.kind == "clear":
            self.auditor.before_clear(operation.pool, env_id)
            return
        self._pending = None
        found = leaves(entry)
        self._pending = (digest(found), entry, staged)
        self.referee.given[self.primary].append(storages(found))
        self.referee.given["candidate" if self.primary == "control" else "control"].append(storages(leaves(staged)))

    def observed(self, seen: Observation) -> None:
        """Count and judge one operation."""
        operation = seen.operation
        kind = operation.kind
        self.counters.timed(operation.name, seen.control_ns, seen.candidate_ns)
        env_id = seen.env_id
        if env_id is not None and not 0 <= env_id < self.env_num:
            self._bad_env(seen)
        elif kind == "get":
            self._got(seen)
        elif kind == "set":
            self._was_set(seen)
        else:
            self._cleared(seen)
        self._until_clock -= 1
        if not self._until_clock:
            self._until_clock = _CHECK_CLOCK_EVERY
            self._sink.window(self, force=False)

    def spent(self, harness_ns: int) -> None:
        """Add to the time beyond the primary's own."""
        self.counters.harness_ns += harness_ns

    def faulted(self, fault: Exception) -> None:
        """Count a fault of the harness; such a run can't pass."""
        self.counters.dropped["harness faults"] += 1
        self._sink.fault(fault)

    def meddled(self, changed: list[str]) -> None:
        """Charge the secondary with having changed process-wide state."""
        side = self.candidate if self.primary == "control" else self.control
        fault = Fault.CANDIDATE if side is self.candidate else Fault.CONTROL
        text = (
            f"The {side.name} ({type(side.cache).__name__}) changed {', '.join(changed)} during a call; it was put "
            "back, but calls are looked at only now and then until the first such change."
        )
        self.charge(Charge(Dimension.ISOLATION, Cause.MEDDLED, fault, text), -1, "audit", "all", None, None)

    def copied(self, control: Any, candidate: Any) -> Pair:
        """Register the observer of a deep copy."""
        return self._sink.fork(self, control, candidate)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def weights_updated(self) -> None:
        """Entries computed before are of an older version from here on."""
        self._last_clear = None
        self.auditor.audit_all()
        self.weight_version += 1
        self.counters.coverage["weight_updates"] += 1

    def episode_ended(self, env_id: int) -> None:
        """Nothing of this env may be alive any more."""
        self.auditor.episode_ended(env_id, self._last_clear)
        self._last_clear = None
        if 0 <= env_id < self.env_num:
            self.episodes[env_id] += 1
        self.counters.coverage["episodes"] += 1

    def search_started(self) -> None:
        """The recurrent pool must be empty."""
        self._last_clear = None
        self.auditor.search_started()
        self.searches += 1
        self.counters.coverage["searches"] += 1

    # -- judging ------------------------------------------------------------------------------------------------------

    def _got(self, seen: Observation) -> None:
        _, operation, env_id, key, control, candidate, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        if env_id is not None:
            self.counters.envs[env_id] += 1
        expected = (self.control.model.get(pool, env_id, key), self.candidate.model.get(pool, env_id, key))
        counts = self.counters.lookups[pool]
        if control_error is not None or candidate_error is not None:
            outcome = ERROR
        elif control is None:
            outcome = MISS if candidate is None else CANDIDATE_ONLY
        elif candidate is None:
            outcome = CONTROL_ONLY
        else:
            outcome = self._compare(control, candidate, expected)
        counts[outcome] += 1
        self._recent.append((seen.op_index, operation.name, env_id, key, OUTCOMES[outcome].value))
        stored = expected[0]
        if stored is expected[1]:
            if stored is None:
                if outcome == MISS:
                    return
            elif outcome == EQUAL and not self._suspect:
                self.auditor.hold(candidate if self.primary == "control" else control, stored)
                if stored.weight_version == self.weight_version and (
                    stored.pool != "init" or stored.episode == self.episodes[stored.env_id or 0]
                ):
                    return
                self._stale(seen, stored)
                return
        self._judge(seen, outcome, expected)

    _suspect = False

    def _compare(self, control: Any, candidate: Any, expected: tuple[Stored | None, Stored | None]) -> int:
        self._suspect = False
        try:
            one, other = leaves(control), leaves(candidate)
            same = equal(one, other)
        except (AttributeError, TypeError):
            self._suspect = True
            return DIFFER
        if not same:
            tolerance = self.referee.tolerance
            if tolerance is None or differences(one, other, tolerance):
                return DIFFER
            self.counters.coverage["equal only within tolerance"] += 1
        elif expected[0] is not None and (self.config.digest_share >= 1 or self._random() < self.config.digest_share):
            self._suspect = digest(one) != expected[0].digest
        return EQUAL

    def _judge(self, seen: Observation, outcome: int, expected: tuple[Stored | None, Stored | None]) -> None:
        key, env_id, pool = seen.key, seen.env_id, seen.operation.pool
        charges = self.referee.judge(seen, expected)
        news = []
        for charge in charges:
            known = self._known_apart(charge, seen)
            if known is not None:
                self.counters.divergences[_group(known)] += 1
                continue
            news.append(charge)
            self.charge(
                charge,
                seen.op_index,
                seen.operation.name,
                pool,
                env_id,
                key,
                outcome=outcome,
                answers=(seen.control, seen.candidate),
                errors=(seen.control_error, seen.candidate_error),
            )
        if news:
            self._reconcile(seen, expected, news[0])

    def _stale(self, seen: Observation, stored: Stored) -> None:
        if stored.weight_version != self.weight_version:
            cause, crossed = Cause.STALE_WEIGHTS, f"weight update {stored.weight_version + 1}"
        else:
            cause, crossed = Cause.STALE_EPISODE, f"the end of episode {stored.episode} of env {stored.env_id}"
        text = (
            f"Both sides answer what operation {stored.op_index} stored before {crossed}; the host did not clear it "
            "in between."
        )
        self.charge(
            Charge(Dimension.STALENESS, cause, Fault.HOST, text),
            seen.op_index,
            seen.operation.name,
            seen.operation.pool,
            seen.env_id,
            seen.key,
            outcome=EQUAL,
        )

    def _was_set(self, seen: Observation) -> None:
        op_index, operation, env_id, key, _, _, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        self._last_clear = None
        self._recent.append(
            (op_index, operation.name, env_id, key, "raised" if control_error or candidate_error else "")
        )
        pending, self._pending = self._pending, None
        if control_error is not None or candidate_error is not None:
            self._set_raised(seen)
        if pending is None:
            return
        control_pool = self.control.model.pool(pool, env_id)
        overwritten = control_pool.peek(key) or self.candidate.model.pool(pool, env_id).peek(key)
        previous = control_pool.versions(key) or self.candidate.model.pool(pool, env_id).versions(key)
        stored = Stored(
            key,
            pool,
            env_id,
            pending[0],
            op_index,
            self.episodes[env_id] if env_id is not None else 0,
            self.searches,
            self._sink.env_step,
            self.weight_version,
            previous,
        )
        coverage = self.counters.coverage
        if overwritten is not None:
            coverage["overwrites"] += 1
        for side, error in ((self.control, control_error), (self.candidate, candidate_error)):
            if error is None:
                if self.referee.parted:
                    self.referee.parted.pop((side.name, pool, env_id, key), None)
                if side.model.pool(pool, env_id).set(key, stored) is not None:
                    coverage[f"evictions_{side.name}"] += 1
                    if side is self.candidate:
                        coverage["evictions"] += 1
        if self._known:
            self._forget(pool, env_id, key)
        self._count_wrap(pool, env_id, control_pool.capacity)
        raised = (control_error is not None, candidate_error is not None)
        self.auditor.after_set(stored, pending[1], pending[2], raised)

    def _set_raised(self, seen: Observation) -> None:
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        sides = ((self.control, seen.control_error), (self.candidate, seen.candidate_error))
        for side, error in sides:
            if error is None:
                continue
            both = all(e is not None for _, e in sides)
            fault = Fault.HOST if both else Fault(side.name)
            text = (
                f"Both sides refused to store this: {error}."
                if both
                else f"The {side.name} ({type(side.cache).__name__}) raised {type(error).__name__} instead of storing."
            )
            charge = Charge(Dimension.ERROR, Cause.RAISED, fault, text)
            self.charge(
                charge,
                seen.op_index,
                seen.operation.name,
                pool,
                env_id,
                key,
                errors=(seen.control_error, seen.candidate_error),
            )
            if both:
                return
            # What this side holds from here on is not what its model says, until the pool is cleared.
            self.referee.parted[(side.name, pool, env_id, None)] = charge

    def _count_wrap(self, pool: Pool, env_id: int | None, capacity: int) -> None:
        if env_id is not None:
            self._env_writes[env_id] += 1
            writes = self._env_writes[env_id]
        else:
            self._writes[pool] += 1
            writes = self._writes[pool]
        if writes % capacity == 0:
            self.counters.coverage["ring_wraps"] += 1

    def _cleared(self, seen: Observation) -> None:
        operation, env_id = seen.operation, seen.env_id
        self._recent.append((seen.op_index, operation.name, env_id, None, ""))
        self.counters.coverage[operation.name.replace("clear.", "clears_")] += 1
        self.referee.clears.append(Clear(seen.op_index, operation.pool, env_id))
        wiped = [each for each, model in enumerate(self.control.model.init) if len(model)]
        self._last_clear = (operation.name, env_id, wiped) if operation.pool in ("all", "init") else self._last_clear
        for side, error in ((self.control, seen.control_error), (self.candidate, seen.candidate_error)):
            if error is None:
                side.model.clear(operation.pool, env_id, seen.op_index)
                for place in [
                    p for p in self.referee.parted if p[0] == side.name and _within(p, operation.pool, env_id)
                ]:
                    if place[3] is None:
                        del self.referee.parted[place]
            else:
                text = (
                    f"The {side.name} ({type(side.cache).__name__}) raised {type(error).__name__} instead of clearing."
                )
                charge = Charge(Dimension.ERROR, Cause.RAISED, Fault(side.name), text)
                for each, env, _ in side.model.pools():
                    if _within((side.name, each, env, None), operation.pool, env_id):
                        self.referee.parted[(side.name, each, env, None)] = charge
                self.charge(
                    charge,
                    seen.op_index,
                    operation.name,
                    operation.pool,
                    env_id,
                    None,
                    errors=(seen.control_error, seen.candidate_error),
                )
        self.auditor.after_clear(operation.pool, env_id)

    def _bad_env(self, seen: Observation) -> None:
        if seen.operation.kind == "get":
            self.counters.lookups[seen.operation.pool][ERROR] += 1
        text = (
            f"The host passed env_id {seen.env_id} where [0, {self.env_num}) is possible; the control "
            f"{_did(seen.control_error)}, the candidate {_did(seen.candidate_error)}."
        )
        self.charge(
            Charge(Dimension.ERROR, Cause.BAD_ENV, Fault.HOST, text),
            seen.op_index,
            seen.operation.name,
            seen.operation.pool,
            seen.env_id,
            seen.key,
            errors=(seen.control_error, seen.candidate_error),
        )

    # -- what follows from a divergence -------------------------------------------------------------------------------

    def charge(
        self,
        charge: Charge,
        op_index: int,
        operation: str,
        pool: Pool,
        env_id: int | None,
        key: int | None,
        *,
        outcome: int | None = None,
        answers: tuple[Any, Any] = (None, None),
        errors: tuple[Exception | None, Exception | None] = (None, None),
    ) -> None:
        """Count a divergence, and record it in full unless this very fault is on record already."""
        self.counters.divergences[_group(charge)] += 1
        mark = (pool, env_id, None if charge.cause is Cause.RAISED else key, charge.cause, charge.fault)
        if mark in self._known:
            return
        self._known[mark] = None
        if len(self._known) > 4096:
            self._known.popitem(last=False)
        about = {
            "op_index": op_index,
            "operation": operation,
            "pool": pool,
            "env_id": env_id,
            "key": key,
            "outcome": None if outcome is None else OUTCOMES[outcome],
            "errors": errors,
            "episode": self.episodes[env_id] if env_id is not None and 0 <= env_id < self.env_num else -1,
            "weight_version": self.weight_version,
            "history": self.history(pool, env_id, key),
        }
        if not self._sink.diverged(self, charge, about, answers):
            self.counters.dropped["divergences only counted"] += 1

    def history(self, pool: Pool, env_id: int | None, key: int | None) -> tuple[str, ...]:
        """Tell the last operations that matter for a key, oldest first: its own, and clears of its pool."""
        found = []
        for op_index, name, env, each, outcome in reversed(self._recent):
            if (each == key and key is not None) or (each is None and (env is None or env == env_id)) or key is None:
                where = "" if env is None else f"[{env}]"
                what = "" if each is None else f" {each & (1 << 64) - 1:016x}"
                found.append(f"#{op_index} {name}{where}{what}" + (f" -> {outcome}" if outcome else ""))
            if len(found) == self.config.history:
                break
        return tuple(reversed(found))

    def _known_apart(self, charge: Charge, seen: Observation) -> Charge | None:
        """Return the charge under which this departure is on record already, or None if it is news."""
        parted = self.referee.parted
        if not parted or charge.cause is Cause.RAISED:
            return None
        sides = (charge.fault.value,) if charge.fault in (Fault.CONTROL, Fault.CANDIDATE) else ("control", "candidate")
        pool = seen.operation.pool
        for each in pools_of(pool):
            env_id = seen.env_id if each == "init" else None
            for side in sides:
                for key in (seen.key, None):
                    known = parted.get((side, each, env_id, key))
                    if known is not None:
                        return known
        return None

    def _reconcile(self, seen: Observation, expected: tuple[Stored | None, Stored | None], charge: Charge) -> None:
        """Bring both sides back to the same contents, without ever touching the primary.

        Where both do what they declare, nothing is repaired: it would only shift ages and set off further differences.
        They are known to be apart there until the key is set again.
        """
        key = seen.key
        assert key is not None
        if charge.by_policy:
            for each in pools_of(seen.operation.pool):
                for side in ("control", "candidate"):
                    self.referee.parted[(side, each, seen.env_id if each == "init" else None, key)] = charge
            return
        control_leads = self.primary == "control"
        answer = seen.control if control_leads else seen.candidate
        own, other = expected if control_leads else (expected[1], expected[0])
        primary, secondary = (self.control, self.candidate) if control_leads else (self.candidate, self.control)
        held = own or other
        pool: Pool = (
            held.pool
            if held is not None
            else ("recur" if seen.operation.pool == "hierarchical" else seen.operation.pool)
        )
        env_id = seen.env_id if pool == "init" else None
        found = None if answer is None else entry_leaves(answer)
        if found is None:
            primary.model.pool(pool, env_id).rebase(key, None)
            self.referee.parted[(secondary.name, pool, env_id, key)] = charge
            return
        base = own or other
        if base is None:
            base = Stored(key, pool, env_id, digest(found), seen.op_index, 0, self.searches, -1, self.weight_version)
        now = base._replace(digest=digest(found))
        primary.model.pool(pool, env_id).rebase(key, now)
        self._copy_to(secondary, now, found, charge)

    def repair(self, side: SideView, stored: Stored, charge: Charge) -> None:
        """Put right what an audit found wrong on one side; the primary is left alone, and known to be apart."""
        primary = self.control if self.primary == "control" else self.candidate
        if side is not primary:
            entry = primary.read(stored.pool, stored.env_id, stored.key)
            found = None if entry is None else entry_leaves(entry)
            if found is not None and digest(found) == stored.digest:
                self._copy_to(side, stored, found, charge)
                return
        self.referee.parted[(side.name, stored.pool, stored.env_id, stored.key)] = charge

    def _copy_to(self, secondary: SideView, stored: Stored, found: list[Leaf], charge: Charge) -> None:
        pool, env_id, key = stored.pool, stored.env_id, stored.key
        try:
            held_before = secondary.read(pool, env_id, key) is not None
            copy = KeysValues.empty_like(found)
            copy.copy_from(found)
            getattr(secondary.cache, f"set_{pool}_cache")(*((env_id,) if pool == "init" else ()), key, copy)
            model = secondary.model.pool(pool, env_id)
            if not held_before:
                model.rebase(key, None)  # it comes back as the youngest
            model.set(key, stored)
            again = secondary.read(pool, env_id, key)
            held = None if again is None else entry_leaves(again)
            agreed = held is not None and digest(held) == stored.digest
        except Exception:  # whatever a broken side raises: it stays apart, and is known to
            agreed = False
        if not agreed:
            self.referee.parted[(secondary.name, pool, env_id, key)] = charge

    def _forget(self, pool: Pool, env_id: int | None, key: int) -> None:
        for mark in [m for m in self._known if m[2] == key and m[0] in (pool, "hierarchical")]:
            del self._known[mark]

    def drain(self, t_s: float) -> Window:
        """Return the window since the last one."""
        held = {}
        for side in (self.control, self.candidate):
            size = getattr(side.cache, "nbytes", None)
            if isinstance(size, int):
                held[side.name] = size
        window = self.counters.drain(self.name, self.seq, t_s, held, self._sink.train_iter, self._sink.env_step)
        self.seq += 1
        return window


def _group(charge: Charge) -> str:
    return f"{charge.dimension.value}|{charge.cause.value}|{charge.fault.value}"


def _did(error: Exception | None) -> str:
    return "accepted it" if error is None else f"raised {type(error).__name__}"


def _within(place: tuple[str, Pool, int | None, int | None], pool: Pool, env_id: int | None) -> bool:
    return pool == "all" or (place[1] == pool and (env_id is None or place[2] == env_id))

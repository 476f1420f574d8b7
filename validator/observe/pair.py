"""Observes one shadowed pair: counts every operation, has it judged, and sends what was found to the session."""

from __future__ import annotations

import copy
from time import perf_counter_ns
from typing import Any, Protocol

from reports.record import histogram
from reports.record.records import ONLY_COUNTED, Cause, Dimension, Fault, Window
from shadow.memory.regions import Regions
from shadow.operation import Observation, Operation
from shadow.switch import HostPromises
from validator.config import ValidationConfig
from validator.device.looks import LateLooks
from validator.entries.compare import Tolerance
from validator.judge.counters import BATCH, ERROR, Counters
from validator.judge.ledger import Charge, Ledger, Place
from validator.judge.presence import Clear
from validator.judge.referee import Referee
from validator.judge.side import SideView, policies
from validator.observe.audits import Auditor
from validator.observe.lookups import Lookups
from validator.observe.sets import Pending, Sets

_CHECK_CLOCK_EVERY = 256  # operations between two looks at the clock


class Sink(Protocol):
    """Where a pair sends what it found; the session implements it."""

    train_iter: int
    env_step: int

    def diverged(self, pair: Pair, charge: Charge, about: dict[str, Any], answers: tuple[Any, Any]) -> bool:
        """Record one divergence; return False if it could only be counted."""

    def window(self, pair: Pair, *, force: bool) -> None:
        """Write a window, at once or if it is due."""

    def event(self, name: str, detail: str = "") -> None:
        """Note what happened."""

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
        promises: What the host promises about its own clears; None for everything.

    Attributes:
        harness_ns: Time that operations took beyond the primary's own, nanoseconds; the shadow adds to it.

    Raises:
        ValueError: If nothing says how large the caches are.
    """

    def __init__(
        self,
        name: str,
        control: Any,
        candidate: Any,
        primary: str,
        config: ValidationConfig,
        sink: Sink,
        promises: HostPromises | None = None,
    ) -> None:
        control_policy, candidate_policy, env_num, self.assumed = policies(control, candidate)
        self.name = name
        self.promises = promises or HostPromises()
        self.config = config
        self.control = SideView("control", control, control_policy, env_num)
        self.candidate = SideView("candidate", candidate, candidate_policy, env_num)
        self.primary, self.secondary = (
            (self.control, self.candidate) if primary == "control" else (self.candidate, self.control)
        )
        self.env_num = env_num
        tolerance = None if config.rtol is None or config.atol is None else Tolerance(config.rtol, config.atol)
        self.referee = Referee(self.control, self.candidate, tolerance)
        self.counters = Counters()
        self._times = self.counters.times
        self.ledger = Ledger(self.counters, config.history)
        self.auditor = Auditor(self)
        self._held = self.auditor.held
        self.plain = config.deferred != "always"  # whether plain entries are looked at where they lie
        self.late = None if self.plain else LateLooks(self, sink, everywhere=True)
        self.lookups = Lookups(self)
        self.sets = Sets(self)
        self.seq = 0
        self.weight_version = 0
        self.searches = 0
        self.episodes = [0] * env_num
        self.sink = sink
        self._torn = False
        self._began_ns = perf_counter_ns()
        self.harness_ns = 0
        self._drained_ns = 0  # of it, up to the last window
        self._last_clear: tuple[str, int | None, list[int]] | None = None

    # -- the observer's side ------------------------------------------------------------------------------------------

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, lie: Regions
    ) -> Pending | None:
        """Digest what is about to be stored, and return it; audit what is about to be cleared."""
        kind = operation.kind
        if self._held.watched is not None:
            self._held.before_operation()
        if kind == "set":
            return self.sets.begin(entry, staged, lie)
        if kind == "clear" and not self._torn:
            self.auditor.before_clear(operation.pool, env_id)
        return None

    def observed(self, seen: Observation, token: Pending | None) -> None:
        """Count and judge one operation; of a set the token is what ``before`` saw."""
        op_index, operation, env_id, _, _, _, _, _, control_ns, candidate_ns = seen
        _, kind, _, name = operation
        if self.late is None or not self.late.timed(name, control_ns, candidate_ns):
            times = self._times[name]
            times += (control_ns, candidate_ns)
            if len(times) >= BATCH:
                self.counters.sort_in(name)
        if self._held.watched is not None:
            self._held.after_operation(op_index)
        if env_id is not None and not 0 <= env_id < self.env_num:
            self._bad_env(seen)
        elif kind == "get":
            self.lookups.got(seen)
        elif kind == "set":
            self._last_clear = None
            self.sets.was_set(seen, token)
        else:
            self._cleared(seen)
        if not (op_index + 1) % _CHECK_CLOCK_EVERY:
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        budget = self.config.overhead_budget
        if budget:
            share = self.harness_ns / (perf_counter_ns() - self._began_ns)
            kept = self.auditor.keep_to_budget(share, budget)
            if self.config.sample_lookups:
                self.lookups.keep_to_budget(kept)
        self.sink.window(self, force=False)

    def harness_failed(self, step: str, error: Exception) -> None:
        """Count a failure of the harness itself; such a run can't pass."""
        self.counters.dropped["harness faults"] += 1
        self.sink.fault(error)

    def torn(self) -> None:
        """Note that an operation was interrupted half-way: what the sides hold from here on proves nothing."""
        self._torn = True
        self.counters.dropped["operations interrupted half-way"] += 1

    def meddled(self, changed: list[str], by_primary: bool) -> None:
        """Charge a side with having changed process-wide state."""
        side = self.primary if by_primary else self.secondary
        then = (
            "it was left as it is, as it would be without validation"
            if by_primary
            else "it was put back; until the first such change only some calls are looked at"
        )
        text = f"The {side.label} changed {', '.join(changed)} during a call; {then}."
        charge = Charge(Dimension.ISOLATION, Cause.MEDDLED, Fault(side.name), text)
        self.charge(charge, Place(-1, "audit", "all"))

    def copied(self, control: Any, candidate: Any) -> Pair:
        """Register the observer of a deep copy, which begins with what the original holds."""
        fork = self.sink.fork(self, control, candidate)
        for own, theirs in ((self.control, fork.control), (self.candidate, fork.candidate)):
            theirs.model = copy.deepcopy(own.model)
        if self.late is not None and fork.late is None:
            fork.late = LateLooks(fork, self.sink)
        fork.weight_version, fork.searches, fork.episodes = self.weight_version, self.searches, [*self.episodes]
        return fork

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def weights_updated(self) -> None:
        """Entries computed before are of an older version from here on."""
        self._last_clear = None
        self.audit()
        self.weight_version += 1
        self.counters.coverage["weight_updates"] += 1

    def episode_ended(self, env_id: int) -> None:
        """Nothing of this env may be alive any more."""
        if self.promises.episode_end_clears:
            self.auditor.episode_ended(env_id, self._last_clear)
        self._last_clear = None
        if 0 <= env_id < self.env_num:
            self.episodes[env_id] += 1
        self.counters.coverage["episodes"] += 1

    def search_started(self) -> None:
        """The recurrent pool must be empty."""
        self._last_clear = None
        if self.promises.search_start_clears:
            self.auditor.search_started()
        self.searches += 1
        self.counters.coverage["searches"] += 1

    def audit(self) -> None:
        """Audit every live entry of both sides, unless an interrupt left them half-way."""
        if not self._torn:
            self.auditor.audit_all()
        if self.late is not None:
            self.late.flush()

    # -- judging ------------------------------------------------------------------------------------------------------

    def _cleared(self, seen: Observation) -> None:
        operation, env_id = seen.operation, seen.env_id
        pool = operation.pool
        self.ledger.recent.append((seen.op_index, operation.name, env_id, None, ""))
        self.counters.coverage[operation.name.replace("clear.", "clears_")] += 1
        self.referee.clears.append(Clear(seen.op_index, pool, env_id))
        if pool in ("all", "init"):
            wiped = [each for each, model in enumerate(self.control.model.init) if len(model)]
            self._last_clear = (operation.name, env_id, wiped)
        errors = (seen.control_error, seen.candidate_error)
        if errors == (None, None):
            self.ledger.was_cleared(pool, env_id)
        for side, error in zip((self.control, self.candidate), errors, strict=True):
            if error is None:
                side.model.clear(pool, env_id, seen.op_index)
                continue
            text = f"The {side.label} raised {type(error).__name__} instead of clearing."
            charge = Charge(Dimension.ERROR, Cause.RAISED, Fault(side.name), text)
            self.charge(charge, Place.of(seen), errors=errors)
            for each, env in side.covered(pool, env_id):  # cleared or not: nobody can tell
                self.ledger.part(side.name, each, env, None, charge)
                self.ledger.force(each, env, charge)
        if not self._torn:
            self.auditor.after_clear(pool, env_id)
        if self.late is not None:
            self.late.ship()

    def _bad_env(self, seen: Observation) -> None:
        if seen.operation.kind == "get":
            self.counters.lookups[seen.operation.pool][ERROR] += 1
        text = (
            f"The host passed env_id {seen.env_id} where [0, {self.env_num}) is possible; the control "
            f"{_did(seen.control_error)}, the candidate {_did(seen.candidate_error)}."
        )
        charge = Charge(Dimension.ERROR, Cause.BAD_ENV, Fault.HOST, text)
        self.charge(charge, Place.of(seen), errors=(seen.control_error, seen.candidate_error))

    # -- what goes on record ------------------------------------------------------------------------------------------

    def charge(
        self,
        charge: Charge,
        place: Place,
        answers: tuple[Any, Any] = (None, None),
        errors: tuple[Exception | None, Exception | None] = (None, None),
    ) -> None:
        """Count a divergence, and record it in full unless this very fault is on record already."""
        if not self.ledger.is_news(charge, place):
            return
        env_id = place.env_id
        about = self.ledger.about(place)
        about["errors"] = errors
        about["episode"] = self.episodes[env_id] if env_id is not None and 0 <= env_id < self.env_num else -1
        about["weight_version"] = self.weight_version
        if not self.sink.diverged(self, charge, about, answers):
            self.counters.dropped[ONLY_COUNTED] += 1

    def drain(self, t_s: float, last: bool = False) -> Window:
        """Return the window since the last one; the last one brings everything that waits."""
        if self.late is not None:
            self.late.flush()
        held = {}
        for side in (self.control, self.candidate):
            size = getattr(side.cache, "nbytes", None)
            if isinstance(size, int):
                held[side.name] = size
        with_latency = last or histogram.is_due(self.seq)
        progress = self.sink.train_iter, self.sink.env_step
        self.counters.harness_ns, self._drained_ns = self.harness_ns - self._drained_ns, self.harness_ns
        window = self.counters.drain(self.name, self.seq, t_s, held, *progress, with_latency)
        self.seq += 1
        return window


def _did(error: Exception | None) -> str:
    return "accepted it" if error is None else f"raised {type(error).__name__}"

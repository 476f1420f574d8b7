"""Observes one shadowed pair: counts every operation, judges every lookup, and sends what it found to the session.

The usual answer (both sides hit, equal bits, what was stored; or both miss, as they should) is decided here with as
little as possible. Everything else goes to the referee.
"""

from __future__ import annotations

import copy
import random
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

from shadow.entry import Lent, leaves, readable, region
from shadow.memory import Plain, Region
from shadow.operation import Observation, Operation, Pool
from shadow.switch import HostPromises
from validator.audit import Auditor
from validator.compare import Tolerance, differences, equal, equal_regions
from validator.config import ValidationConfig
from validator.counters import BATCH, CANDIDATE_ONLY, CONTROL_ONLY, DIFFER, EQUAL, ERROR, MISS, OUTCOMES, Counters
from validator.diagnose import Clear
from validator.digest import Digest, contents, digest_region
from validator.findings import pools_of
from validator.late import LateLooks
from validator.ledger import Charge, Ledger, Place
from validator.models import Stored
from validator.records import ONLY_COUNTED, Cause, Dimension, Fault, Window
from validator.referee import Referee
from validator.settle import settle
from validator.side import SideView, policies

_NAMED = tuple(outcome.value for outcome in OUTCOMES)
_CHECK_CLOCK_EVERY = 256  # operations between two looks at the clock
_RAREST = 16  # lookups of which at least one is compared where they may be sampled
_LATENCY_SHARE = 64  # histograms come with every window of a short run, and with each 64th part of a long one


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


class Pending(NamedTuple):
    """A set that has begun: what is stored, and what either side is given, each with where it lies if it is plain."""

    digest: Digest
    own: tuple[Any, Region | None]
    staged: tuple[Any, Region | None]


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
        self.ledger = Ledger(self.counters, config.history)
        self.auditor = Auditor(self)
        self._held = self.auditor.held
        self.plain = config.deferred != "always"  # whether plain entries are looked at where they lie
        self.late = None if self.plain else LateLooks(self, sink, everywhere=True)
        self.seq = 0
        self.weight_version = 0
        self.searches = 0
        self.episodes = [0] * env_num
        self._sink = sink
        self._random = random.Random(config.seed).random
        self._pending: Pending | None = None
        self._compare_each = 1  # lookup of which one is compared
        self._suspect = False
        self._torn = False
        self._writes: dict[tuple[Pool, int | None], int] = {}
        self._began_ns = perf_counter_ns()
        self._drained_ns = 0  # time beyond the primary's own up to the last window
        self._last_clear: tuple[str, int | None, list[int]] | None = None

    # -- the observer's side ------------------------------------------------------------------------------------------

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, plain: Plain
    ) -> None:
        """Digest what is about to be stored; audit what is about to be cleared."""
        kind = operation.kind
        if self._held.watched is not None:
            self._held.before_operation()
        if kind == "set":
            self._pending = None
            own, copy = plain if self.plain else (None, None)
            digest = self._digest(staged) if copy is None else digest_region(copy)
            self._pending = Pending(digest, (entry, own), (staged, copy))
            self.referee.was_given(self.secondary, staged, copy)
            if type(entry) is not Lent:  # that lives in the cache's own memory, and is told from it by no address
                self.referee.was_given(self.primary, entry, own)
        elif kind == "clear" and not self._torn:
            self.auditor.before_clear(operation.pool, env_id)

    def observed(self, seen: Observation) -> None:
        """Count and judge one operation."""
        op_index, operation, env_id, _, _, _, _, _, control_ns, candidate_ns = seen
        counters = self.counters
        if self.late is None or not self.late.timed(operation.name, control_ns, candidate_ns):
            times = counters.times[operation.name]
            times += (control_ns, candidate_ns)
            if len(times) >= BATCH:
                counters.sort_in(operation.name)
        if self._held.watched is not None:
            self._held.after_operation(op_index)
        if env_id is not None and not 0 <= env_id < self.env_num:
            self._bad_env(seen)
        elif operation.kind == "get":
            self._got(seen)
        elif operation.kind == "set":
            self._was_set(seen)
        else:
            self._cleared(seen)
        if not (op_index + 1) % _CHECK_CLOCK_EVERY:
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        budget = self.config.overhead_budget
        if budget:
            share = (self._drained_ns + self.counters.harness_ns) / (perf_counter_ns() - self._began_ns)
            kept = self.auditor.keep_to_budget(share, budget)
            if self.config.sample_lookups:
                each = self._compare_each
                self._compare_each = max(1, each // 2) if kept else min(_RAREST, 2 * each)
        self._sink.window(self, force=False)

    def spent(self, harness_ns: int) -> None:
        """Add to the time beyond the primary's own."""
        self.counters.harness_ns += harness_ns

    def faulted(self, fault: Exception) -> None:
        """Count a fault of the harness; such a run can't pass."""
        self.counters.dropped["harness faults"] += 1
        self._sink.fault(fault)

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
        fork = self._sink.fork(self, control, candidate)
        for own, theirs in ((self.control, fork.control), (self.candidate, fork.candidate)):
            theirs.model = copy.deepcopy(own.model)
        if self.late is not None and fork.late is None:
            fork.late = LateLooks(fork, self._sink)
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

    def _got(self, seen: Observation) -> None:
        op_index, operation, env_id, key, control, candidate, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        if env_id is not None:
            self.counters.envs[env_id] += 1
        one = self.control.model.get(pool, env_id, key)
        other = self.candidate.model.get(pool, env_id, key)
        self._suspect = False
        if control_error is not None or candidate_error is not None:
            outcome = ERROR
        elif control is None:
            outcome = MISS if candidate is None else CANDIDATE_ONLY
        elif candidate is None:
            outcome = CONTROL_ONLY
        elif self._compare_each > 1 and self._random() * self._compare_each >= 1:
            self.counters.dropped["lookups not compared, for the budget"] += 1
            return
        elif self.late is not None and one is other and one is not None and self.late.lookup(seen, one):
            self._held.answered(control, candidate, one, op_index)
            self._look_for_staleness(seen, one)
            return
        else:
            outcome = self._compare(control, candidate, one)
        self.counters.lookups[pool][outcome] += 1
        if pool == "hierarchical" and (one is None or one.pool != "init"):
            self.counters.coverage["lookups_of_both_pools"] += 1
        self.ledger.recent.append((op_index, operation.name, env_id, key, _NAMED[outcome]))
        if one is other:
            if one is None:
                if outcome == MISS:
                    return
            elif outcome == EQUAL and one.key == key and not self._suspect:
                self._held.answered(control, candidate, one, op_index)
                if one.weight_version != self.weight_version or one.env_id is not None:
                    self._look_for_staleness(seen, one)
                return
        if self.late is not None:  # what is still under way comes first, and may mend what the models hold
            self.late.flush()
            one = self.control.model.get(pool, env_id, key)
            other = self.candidate.model.get(pool, env_id, key)
        self._judge(seen, outcome, (one, other))

    def _compare(self, control: Any, candidate: Any, stored: Stored | None) -> int:
        """Return the outcome of a lookup that both sides answered; suspect it if nobody stored what they agree on."""
        here, there = (region(control), region(candidate)) if self.plain else (None, None)
        if here is not None and there is not None and equal_regions(here, there):
            if stored is not None and self.looks_at_digest():
                known = stored.digest
                same = contents(here) == known.contents and here.layout.described(here.size) == known.layout
                self._suspect = not same
            return EQUAL
        try:
            mine, theirs = leaves(readable(control)), leaves(readable(candidate))
            same = equal(mine, theirs)
        except (AttributeError, TypeError):
            self._suspect = True
            return DIFFER
        if not same:
            tolerance = self.referee.tolerance
            if tolerance is None or differences(mine, theirs, tolerance):
                return DIFFER
            self.counters.coverage["equal only within tolerance"] += 1
        elif stored is not None and self.looks_at_digest():
            self._suspect = self.control.digest(mine) != stored.digest
        return EQUAL

    def _digest(self, staged: Any) -> Digest:
        """Digest what is about to be stored; the first entry on a device begins the late looks."""
        if self.plain and (plain := region(staged)) is not None:
            return digest_region(plain)
        found = leaves(readable(staged))
        if self.late is None and self.config.deferred != "never" and any(leaf.tensor.is_cuda for leaf in found):
            self.late = LateLooks(self, self._sink)
        return self.control.digest(found)

    def looks_at_digest(self) -> bool:
        return self.config.digest_share >= 1 or self._random() < self.config.digest_share

    def _judge(self, seen: Observation, outcome: int, expected: tuple[Stored | None, Stored | None]) -> None:
        place = Place.of(seen, outcome)
        answers, errors = (seen.control, seen.candidate), (seen.control_error, seen.candidate_error)
        for charge in self.referee.judge(seen, expected):
            if self.ledger.repeats(charge, place):
                continue
            self.charge(charge, place, answers, errors)
            self._settle(seen, expected, charge)

    def _settle(self, seen: Observation, expected: tuple[Stored | None, Stored | None], charge: Charge) -> None:
        key = seen.key
        assert key is not None
        for index, side in enumerate((self.control, self.candidate)):
            own, theirs = expected[index], expected[1 - index]
            if charge.by_policy or charge.fault is Fault.UNKNOWN:
                # Nobody broke a promise: a repair would only shift ages and set off further differences.
                for pool in pools_of(seen.operation.pool):
                    self.ledger.part(side.name, pool, seen.env_id if pool == "init" else None, key, charge)
            elif charge.fault in (Fault(side.name), Fault.BOTH):
                held = own or theirs
                pool = held.pool if held is not None else pools_of(seen.operation.pool)[-1]
                other = self.candidate if side is self.control else self.control
                env_id = seen.env_id if pool == "init" else None
                settle(self.ledger, side, other, self.primary.name, pool, env_id, key, own, charge)

    def _look_for_staleness(self, seen: Observation, stored: Stored) -> None:
        if stored.weight_version == self.weight_version and (
            stored.env_id is None or stored.episode == self.episodes[stored.env_id]
        ):
            return
        allowed = (
            not self.promises.weight_update_clears
            if stored.weight_version != self.weight_version
            else not self.promises.episode_end_clears
        )
        if allowed:
            self.counters.coverage["hits on older entries, which the host allows"] += 1
            return
        if stored.weight_version != self.weight_version:
            cause, crossed = Cause.STALE_WEIGHTS, f"weight update {stored.weight_version + 1}"
        else:
            cause, crossed = Cause.STALE_EPISODE, f"the end of episode {stored.episode} of env {stored.env_id}"
        text = (
            f"Both sides answer what operation {stored.op_index} stored before {crossed}; the host did not clear it "
            "in between."
        )
        self.charge(Charge(Dimension.STALENESS, cause, Fault.HOST, text), Place.of(seen, EQUAL))

    def _was_set(self, seen: Observation) -> None:
        op_index, operation, env_id, key, _, _, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        self._last_clear = None
        failed = control_error is not None or candidate_error is not None
        self.ledger.recent.append((op_index, operation.name, env_id, key, "raised" if failed else ""))
        self.ledger.was_set(pool, env_id, key)
        pending, self._pending = self._pending, None
        if failed:
            self._set_raised(seen)
        if pending is None:
            return
        models = self.control.model.pool(pool, env_id), self.candidate.model.pool(pool, env_id)
        stored = Stored(
            key,
            pool,
            env_id,
            pending.digest,
            op_index,
            self.episodes[env_id] if env_id is not None else 0,
            self.searches,
            self._sink.env_step,
            self.weight_version,
            models[0].versions(key) or models[1].versions(key),
        )
        coverage = self.counters.coverage
        if stored.previous and stored.previous[0].alive:
            coverage["overwrites"] += 1
        self.counters.layers[pending.digest.layers] += 1
        closely = self.auditor.begin_set()
        for side, model, error in zip(
            (self.control, self.candidate), models, (control_error, candidate_error), strict=True
        ):
            if error is not None:
                continue
            given, lies = pending.own if side is self.primary else pending.staged
            finding = self.auditor.arrival(side, stored, given, lies, closely)
            if finding is not None and finding.cause in (Cause.SET_IGNORED, Cause.RESET_IGNORED):
                # The side goes on as if nothing had been set, and so does its model.
                charge = self.auditor.charge(side, stored, finding, operation.name)
                self.ledger.part(side.name, pool, env_id, key, charge)
                self.ledger.force(pool, env_id, charge)
                continue
            if model.set(key, stored) is not None:
                coverage[f"evictions_{side.name}"] += 1
                if side is self.candidate:
                    coverage["evictions"] += 1
            if finding is not None:
                charge = self.auditor.charge(side, stored, finding, operation.name)
                if finding.dimension is not Dimension.ISOLATION:
                    other = self.candidate if side is self.control else self.control
                    settle(self.ledger, side, other, self.primary.name, pool, env_id, key, stored, charge)
        self._count_wrap(pool, env_id, models[0].capacity)
        self.auditor.end_set()

    def _set_raised(self, seen: Observation) -> None:
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        assert key is not None
        errors = (seen.control_error, seen.candidate_error)
        if errors[0] is not None and errors[1] is not None:
            text = f"Both sides refused to store this: {errors[0]}."
            self.charge(Charge(Dimension.ERROR, Cause.RAISED, Fault.HOST, text), Place.of(seen), errors=errors)
            return
        side, error = (self.control, errors[0]) if errors[0] is not None else (self.candidate, errors[1])
        text = f"The {side.label} raised {type(error).__name__} instead of storing."
        charge = Charge(Dimension.ERROR, Cause.RAISED, Fault(side.name), text)
        self.charge(charge, Place.of(seen), errors=errors)
        self.ledger.part(side.name, pool, env_id, key, charge)
        self.ledger.force(pool, env_id, charge)

    def _count_wrap(self, pool: Pool, env_id: int | None, capacity: int) -> None:
        writes = self._writes.get((pool, env_id), 0) + 1
        self._writes[(pool, env_id)] = writes
        if writes % capacity == 0:
            self.counters.coverage["ring_wraps"] += 1

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
        if not self._sink.diverged(self, charge, about, answers):
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
        # Histograms are nine tenths of a window on disk.
        with_latency = last or self.seq % max(1, self.seq // _LATENCY_SHARE) == 0
        progress = self._sink.train_iter, self._sink.env_step
        self._drained_ns += self.counters.harness_ns
        window = self.counters.drain(self.name, self.seq, t_s, held, *progress, with_latency)
        self.seq += 1
        return window


def _did(error: Exception | None) -> str:
    return "accepted it" if error is None else f"raised {type(error).__name__}"

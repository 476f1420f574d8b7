"""Observes one shadowed pair, whatever its shape: its counters, its clock, and what befalls both sides."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol

from reports.record import histogram
from reports.record.records import Window
from reports.record.words import STATE_LOOKS
from shadow.memory.regions import Regions
from shadow.operation import Observation, Operation
from validator.entries.digest import Digest
from validator.judge import words
from validator.judge.case import Case, Sink
from validator.observe.running import interrupted
from validator.replay.recording import Moment, Row, life

_NO_ENTRY = "sets of what is no entry"
CHECK_CLOCK_EVERY = 256  # operations between two looks at the clock


class Session(Sink, Protocol):
    """What a pair needs of the session that it belongs to."""

    def window(self, pair: Pair, *, force: bool) -> None:
        """Write a window, at once or if it is due."""

    def used_in_fork(self) -> None:
        """Leave a mark that a forked child used the cache."""

    def fork(self, pair: Pair, control: Any, candidate: Any) -> Pair:
        """Register a deep copy of a pair."""


class Recomputing(Protocol):
    """Who recomputes what the host stores; see ``validator.oracle``."""

    def storing(self, operation: Operation, env_id: int | None, key: int | None, given: Any) -> None:
        """See a set before either side does it."""

    def looked_up(self, seen: Observation) -> None:
        """See a lookup."""


class Pair(ABC):
    """Observer of one shadowed pair.

    Args:
        case: Both sides and what is known of them.
        session: Where it belongs.

    Attributes:
        case: As given.
        counters: What was counted since the last window.
        harness_ns: Time that operations, and what the host tells of, took beyond the primary's own, nanoseconds.
        watching: Whether lookups are to be told before they are done.
        state_looks: Operations around which process-wide state was looked at since the last window; the shadow adds.
        lock: Held during every operation; whoever calls anything of this from elsewhere holds it too.
        note: Takes a row for the trace; None where nothing is recorded.
        oracle: Told of sets and lookups; None where nothing is recomputed.
        keep: Takes an entry for the trace, after its digest; None where none are kept.
    """

    case: Case[Any]
    note: Callable[[Row], None] | None = None
    oracle: Recomputing | None = None
    keep: Callable[[Digest, Any], None] | None = None
    watching: Any = True

    def __init__(self, case: Case[Any], session: Session) -> None:
        self.name = case.name
        self.case = case
        self.lock: Any = threading.RLock()
        self.harness_ns = self.state_looks = 0
        self.counters = case.counters
        self._session = session
        self._times = case.counters.times
        self._began_ns = perf_counter_ns()
        self._drained_ns = 0  # of the harness's time, up to the last window
        self._windows = 0
        self._torn = False

    # -- what each shape does -----------------------------------------------------------------------------------------

    @abstractmethod
    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, regions: Regions
    ) -> Any:
        """See an operation before either side does; see ``shadow.operation.Observer``."""

    @abstractmethod
    def observed(self, seen: Observation, token: Any) -> None:
        """Count and judge one operation; ``token`` is what ``before`` returned."""

    @abstractmethod
    def audit(self) -> None:
        """Look at everything that both sides hold."""

    @abstractmethod
    def copied(self, control: Any, candidate: Any) -> Pair:
        """Register the observer of a deep copy, which begins with what the original holds."""

    def advised(self, operation: Operation, env_id: int | None) -> None:  # noqa: B027  # mostly nothing to do
        """Take note that a set passes more than key and entry."""

    @abstractmethod
    def unobserved(self, method: str) -> None:
        """Take note that the host called a method of the primary that is no operation."""

    def weights_updated(self) -> None:
        """Take note that the weights moved."""
        self.lived("weights_updated")
        self.case.weight_version += 1
        self.counters.coverage["weight_updates"] += 1

    def episode_ended(self, env_id: int) -> None:
        """Take note that an env's episode is over."""
        self.lived("episode_ended", env_id)
        self.case.episodes[env_id] += 1
        self.counters.coverage["episodes"] += 1

    def search_started(self) -> None:
        """Take note that a search begins."""
        self.lived("search_started")
        self.case.searches += 1
        self.counters.coverage["searches"] += 1

    def lived(self, verb: str, env_id: int | None = None) -> None:
        """Record what is no operation and yet decides what comes of later ones."""
        if self.note is not None:
            sink = self.case.sink
            self.note((self.case.now, life(verb), env_id, Moment(sink.train_iter, sink.env_step), None))

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what the record of this pair says of what both sides declare, and what had to be assumed."""

    def built_of(self) -> dict[str, Any]:
        """Return what is known of how its caches are built, for who builds them again."""
        return {}

    def watches(self, cache: Any) -> bool:
        """Tell whether this is the observer of what a host holds."""
        return getattr(cache, "observer", None) is self

    def look_before(self) -> None:  # noqa: B027  # of some shapes nothing has to be asked
        """Look at what both sides hold before their first operation.

        Raises:
            ValueError: If they hold what can't be looked at.
        """

    def take_over(self) -> None:  # noqa: B027
        """Take what both sides held before for what was stored; the pair is on record by now."""

    @property
    def under_way(self) -> bool:
        """Whether something is launched on a device whose result is not here yet."""
        return False

    def flush(self) -> None:  # noqa: B027
        """Wait for what is under way on a device."""

    @property
    def ended(self) -> bool:
        """Whether nothing can happen any more: the host let go of its cache, and all of it was looked at."""
        return False

    def close(self) -> None:
        """Watch nothing any more: the session ends. How far apart was what counted as equal goes on record."""
        if said := self.case.closeness.told():
            self.case.sink.event("within_tolerance", f"{self.name}: {said}")

    def bytes_counted(self) -> dict[str, int]:
        """Return what each side was counted to hold, in bytes, where it was."""
        return {}

    # -- the observer's side ------------------------------------------------------------------------------------------

    def look_at_the_clock(self) -> None:
        """Do what is to be done now and then; every ``CHECK_CLOCK_EVERY`` operations."""
        self.counters.sort_in_full()
        self._session.window(self, force=False)

    def harness_failed(self, step: str, error: Exception) -> None:
        """Count a failure of the harness itself; such a run can't pass."""
        self.case.harness_failed(step, error)

    def passed_over(self, why: str) -> None:
        """Note that something was stored that can't be compared; such a run can't pass."""
        if not self.counters.dropped[_NO_ENTRY]:
            self.case.sink.event("no_entry", f"a set was not looked at: {why}")
        self.counters.dropped[_NO_ENTRY] += 1

    def torn(self, cut: BaseException) -> None:
        """Note that an operation was interrupted half-way: what the sides hold from here on proves nothing."""
        self._torn = True
        self.lived("torn")
        self.counters.dropped["operations interrupted half-way"] += 1
        self._session.event("interrupted", f"{self.name}: {type(cut).__name__} {interrupted(cut)}".rstrip())

    def used_in_fork(self) -> None:
        """Note, in a forked child, that the cache is used there, where nobody watches."""
        self._session.used_in_fork()

    def misbehaved(self, method: str, what: BaseException | str) -> None:
        """Charge the secondary with what it raised, or with the odd thing that it answered."""
        case = self.case
        case.charge_early()
        case.misbehaved(case.secondary.name, method, what)
        if method == "__deepcopy__":
            self.counters.dropped["deep copies not observed"] += 1
            case.sink.event("copy_not_observed", f"{self.name}: the host got a copy of the {case.primary.name} alone")

    def meddled(self, changed: list[str], by_primary: bool, left: list[str]) -> None:
        """Charge a side with having changed process-wide state."""
        self.case.charge_early()
        side = self.case.primary if by_primary else self.case.secondary
        self.case.meddled(side.name, changed, words.LEFT_AS_IT_IS if by_primary else words.put_back(left))

    def drain(self, t_s: float, last: bool = False) -> Window:
        """Return the window since the last one; the last one brings everything that waits."""
        self.flush()
        self.case.charge_early()
        held = {side.name: size for side in self.case.sides if (size := side.nbytes()) is not None}
        held.update({f"{name}_counted": size for name, size in self.bytes_counted().items()})
        if self.state_looks:  # a count of nothing would be a record that nothing bears out
            self.counters.coverage[STATE_LOOKS] += self.state_looks
        self.state_looks = 0
        seq = self._windows
        self._windows = seq + 1
        sink = self.case.sink
        self.counters.harness_ns, self._drained_ns = self.harness_ns - self._drained_ns, self.harness_ns
        with_latency = last or histogram.is_due(seq)
        return self.counters.drain(self.case.name, seq, t_s, held, sink.train_iter, sink.env_step, with_latency)

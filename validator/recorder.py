"""What goes on record of what the pairs find, and when: divergences at once, counts in windows."""

from __future__ import annotations

import copy
import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from reports.aloud import say
from reports.disk.trace import Room, TraceFile, index_file
from reports.record.records import Divergence, Window
from reports.record.redaction import in_a_log
from reports.record.totals import Totals, joined, summarise
from reports.record.trace import RECORD
from reports.record.words import SCHEMA
from reports.writer import RunWriter
from validator.config import ValidationConfig
from validator.entries.evidence import evidence
from validator.judge.counters import Counters
from validator.replay.recording import Recording
from validator.tensorboard import LiveFigures

logger = logging.getLogger(__name__)

_PER_GROUP = 100  # divergences of one dimension, cause and fault that are written in full
_FIRST_COUNT_S = 0.2
_COUNT_SHARE = 0.1  # of the run so far, until ``window_s`` is reached
_EARLY = 0.3  # of ``window_s``: what is due so soon is counted by those who look at the clock seldom
_MOST_OPEN = 32  # traces of one rank: each holds two files open
_MOST_TRACES = 1000  # of one rank
_WINDOWS = 256  # a window is as long as the run so far divided by this, once that is more than ``window_s``


class Counted(Protocol):
    """A pair, as far as its counts are concerned."""

    name: str
    counters: Counters

    def drain(self, t_s: float, last: bool = False) -> Window:
        """Return what was counted since the last time."""


@dataclass(slots=True)
class Schedule:
    """When a pair is counted, and when that becomes a window of its own on disk.

    Until a window is due, counts are added to the open one. So what is told of a run is never older than ``window_s``,
    and a run of any length has few windows: fewer than 2,500 in a week.

    Attributes:
        window_s: Longest time between two counts, seconds.
        window_ops: Most operations between two counts.
        now_s: When the pair began, seconds since the run began.
    """

    window_s: float
    window_ops: int
    now_s: float
    _n_ops: int = 0  # counted so far
    _count_s: float = field(init=False)
    _window_s: float = field(init=False)
    _window_n_ops: int = field(init=False)

    def __post_init__(self) -> None:
        self._plan_window(self.now_s)
        self._count_s = self._window_s = self.now_s + min(self.window_s, _FIRST_COUNT_S)

    def count_is_due(self, now_s: float, n_ops: int) -> bool:
        """Say whether to count now, given the operations since the last count."""
        return now_s >= self._count_s or n_ops >= self.window_ops

    def counted(self, now_s: float, n_ops: int) -> bool:
        """Note a count of so many operations; say whether a window ends with it."""
        self._n_ops += n_ops
        self._count_s = now_s + self._interval_s(now_s)
        is_due = now_s >= self._window_s - _EARLY * self.window_s or self._n_ops >= self._window_n_ops
        if is_due:
            self._plan_window(now_s)
        return is_due

    def _plan_window(self, now_s: float) -> None:
        self._window_s = now_s + max(self._interval_s(now_s), now_s / _WINDOWS)
        self._window_n_ops = self._n_ops + max(self.window_ops, self._n_ops // _WINDOWS)

    def _interval_s(self, now_s: float) -> float:
        # Early ones are shorter, so that a short run has curves too.
        return min(self.window_s, max(_FIRST_COUNT_S, now_s * _COUNT_SHARE))


class Recorder:
    """The sink of all pairs of one session.

    Args:
        writer: The pen of this rank.
        config: Settings.
        fork: Registers a deep copy of a pair.

    Attributes:
        train_iter: Training iteration, -1 until the host tells.
        env_step: Environment steps, -1 until the host tells.
        fork: What was given.
        counted: What was counted so far, which goes on changing; ``totals`` returns what stays.
    """

    def __init__(self, writer: RunWriter, config: ValidationConfig, fork: Callable[[Any, Any, Any], Any]) -> None:
        self.train_iter = -1
        self.env_step = -1
        self.fork = fork
        self._writer = writer
        self._config = config
        self._lock = threading.RLock()
        self.counted = Totals()
        self._schedules: dict[str, Schedule] = {}
        self._n_windows: dict[str, int] = {}
        self._open: dict[str, Window] = {}
        self._boards: list[LiveFigures] = []
        self._n_divergences = 0
        self._per_group: dict[str, int] = {}
        self._first: Divergence | None = None
        self._harness_failures: dict[str, int] = {}
        self._room = Room(int(config.record_mb * 1e6))
        self._traces: dict[str, Recording] = {}
        self._n_traces = self._n_unrecorded = 0

    def cache(self, name: str, **about: Any) -> None:
        """Note that a pair is shadowed."""
        self._schedules[name] = Schedule(self._config.window_s, self._config.window_ops, self._writer.elapsed_s())
        self._writer.cache(name, **about)

    def trace(self, name: str, about: dict[str, Any]) -> Recording | None:
        """Begin to record a pair; None if nothing of it is to be recorded."""
        if self._config.record == "off":
            return None
        if len(self._traces) >= _MOST_OPEN or self._n_traces >= _MOST_TRACES:
            if not self._n_unrecorded:
                limit = f"{_MOST_OPEN} at once" if len(self._traces) >= _MOST_OPEN else f"{_MOST_TRACES} in all"
                self._writer.event("not_recorded", f"{name} and perhaps later pairs: there are {limit} already")
            self._n_unrecorded += 1
            return None
        index = index_file(self._writer.rank, self._n_traces)
        self._n_traces += 1
        recording = Recording(
            TraceFile(self._writer.path, index, about, RECORD.itemsize, self._room), self._config.record
        )
        self._traces[name] = recording
        return recording

    def end_trace(self, name: str) -> None:
        """Close the trace of a pair to which nothing can happen any more, if it has one."""
        trace = self._traces.pop(name, None)
        if trace is not None:
            trace.close()
            for kind, said in trace.remarks():
                self._writer.event(kind, f"{name}: {said}")

    def event(self, name: str, detail: str = "") -> None:
        """Note what happened."""
        self._writer.event(name, detail)

    def stalled(self, text: str) -> None:
        """Note that a call hangs, and say so on standard error."""
        self._writer.event("stalled", text)
        say(f"{text}; nothing is ended")

    def diverged(self, divergence: Divergence, answers: tuple[Any, Any]) -> bool:
        """Record one divergence, at once; False if only its count is kept."""
        with self._lock:
            group = divergence.group
            self._per_group[group] = self._per_group.get(group, 0) + 1
            if self._per_group[group] > _PER_GROUP or self._n_divergences >= self._config.max_divergences:
                return False
            ident = self._n_divergences
            self._n_divergences += 1
            file, note = self._kept(ident, answers)
            divergence = replace(divergence, id=ident, evidence=file, evidence_note=note, t_s=self._writer.elapsed_s())
            self._first = self._first or divergence
            self._writer.divergence(divergence)
            if (trace := self._traces.get(divergence.cache)) is not None:
                trace.diverged()
            if self._config.on_divergence == "log":
                logger.warning("KV cache divergence %d: %s", ident, in_a_log(divergence.explanation))
            return True

    def window(self, pair: Counted, *, force: bool, from_outside: bool = False) -> None:
        """Count a pair if it is due.

        Args:
            pair: The pair, whose lock is held.
            force: Whether its last window ends here.
            from_outside: Whether this is a thread of our own: it looks at the clock seldom, so what is due soon is
                counted too, and it leaves the host's TensorBoard writer alone.
        """
        name, schedule, now = pair.name, self._schedules[pair.name], self._writer.elapsed_s()
        n_ops = sum(pair.counters.ops.values())
        by_then = now + _EARLY * self._config.window_s if from_outside else now
        is_due = force or schedule.count_is_due(by_then, n_ops)
        self._write_trace(name, at_once=is_due)
        if not is_due:
            return
        counted = pair.drain(now, last=force)
        is_window = schedule.counted(now, n_ops) or force
        with self._lock:
            self._show(counted, last=force, now=not from_outside)
            # Kept folded: the memory of the harness must not grow with the length of the run.
            self.counted.add(counted)
            begun = self._open.pop(name, None)
            window = joined((begun, counted)) if begun else replace(counted, seq=self._n_windows.get(name, 0))
            if is_window and self._writer.window(window):
                self._n_windows[name] = window.seq + 1
            else:  # as well where the disk is full: a later line may still tell of it
                self._open[name] = window
            self._writer.open_windows([*self._open.values()])

    def harness_failed(self, step: str, error: Exception) -> None:
        """Note that the harness itself failed, and at which step; the first time each kind does, with the place."""
        kind = type(error).__name__
        self._harness_failures[kind] = self._harness_failures.get(kind, 0) + 1
        if self._harness_failures[kind] == 1:
            detail = f"at the step {step!r}: " + "".join(traceback.format_exception(error)[-6:])
            self._writer.event("harness_fault", detail)
            logger.error("kv-lockstep itself failed, training goes on, this run can't pass: %s", in_a_log(detail))

    def live(self, tb_logger: Any) -> None:
        """Show what is counted from here on in this TensorBoard writer."""
        self._boards.append(LiveFigures(tb_logger))

    def totals(self) -> Totals:
        """Return what was counted so far."""
        with self._lock:
            return copy.deepcopy(self.counted)

    def used_in_fork(self) -> None:
        """Leave a mark that a forked child used a cache."""
        self._writer.used_in_fork()

    def in_forked_child(self) -> None:
        """Have locks that nobody holds; nothing is written there."""
        self._lock = threading.RLock()
        self._writer.in_forked_child()

    @property
    def losses(self) -> str:
        """What is not on disk, and why; empty for nothing."""
        return self._writer.losses

    def close(self, run_id: str, state: str, ended: str) -> None:
        """Write the summary, after the last windows: in which state the run is, and how the host ended."""
        first = self._first
        for name in list(self._traces):
            self.end_trace(name)
        self._writer.close(
            summarise(
                self.counted,
                schema=SCHEMA,
                run_id=run_id,
                state=state,
                ended=ended,
                first_divergence=None if first is None else {"id": first.id, "explanation": first.explanation},
                harness_faults=self._harness_failures,
            )
        )

    def _kept(self, ident: int, answers: tuple[Any, Any]) -> tuple[str, str]:
        """Keep the tensors of both sides; return their file and why something is missing there."""
        if all(answer is None for answer in answers):
            return "", ""
        blob, note = evidence(*answers, limit_bytes=int(self._config.evidence_each_mb * 1e6))
        file = self._writer.evidence(f"divergence-{ident:06d}.safetensors", blob) if blob else ""
        return file, note or (self._writer.evidence_reason if blob else "")

    def _write_trace(self, name: str, at_once: bool) -> None:
        trace = self._traces.get(name)
        if trace is not None and (at_once or trace.is_due):
            trace.write()

    def _show(self, window: Window, last: bool, now: bool) -> None:
        for figures in list(self._boards):
            try:
                figures(window, last=last, now=now)
            except Exception as problem:  # a writer that was closed, say; what is on disk does not suffer
                self._boards.remove(figures)
                self._writer.event("live_figures_stopped", f"{type(problem).__name__}: {problem}"[:400])

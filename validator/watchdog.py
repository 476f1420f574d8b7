"""Looks at a session from outside of its operations: does one of them hang, and is what was counted on disk in time?

A thread of its own, which ends nothing and holds nobody up. While a process forks there is none.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from weakref import WeakSet

from validator.observe.pair import Pair
from validator.observe.running import outwards, running, since_s
from validator.recorder import Recorder

_LEAST_S = 0.05
_MOST_S = 1.0


class Watchdog:
    """The thread of one session.

    Args:
        pairs: Its pairs, which may become more.
        recorder: Its recorder.
        window_s: Longest time between two counts, seconds.
        stall_warning_s: From when on a call counts as hanging, seconds; 0 for never.
    """

    def __init__(self, pairs: Sequence[Pair], recorder: Recorder, window_s: float, stall_warning_s: float) -> None:
        self._pairs = pairs
        self._recorder = recorder
        self._stall_ns = int(stall_warning_s * 1e9)
        self._every_s = min(max(min(window_s, stall_warning_s or window_s) / 4, _LEAST_S), _MOST_S)
        self._seen: dict[tuple[int, int, str], tuple[int, bool]] = {}  # calls at the last look: since when, and if told
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        _running.add(self)

    def start(self) -> None:
        """Begin to look."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._end,), name="kv-lockstep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for what it does just now, though not for long."""
        self._end.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_MOST_S)
        self._thread = None

    def close(self) -> None:
        """End for good."""
        _running.discard(self)
        self.stop()

    def _watch(self, end: threading.Event) -> None:
        steps: tuple[Callable[[], None], ...] = (self._look_for_stalls, self._count)
        while not end.wait(self._every_s):
            for step in steps:
                try:
                    step()
                except Exception as error:  # never the host's concern
                    self._recorder.harness_failed(step.__name__, error)
                    return

    def _look_for_stalls(self) -> None:
        if not self._stall_ns:
            return
        now, before, self._seen = perf_counter_ns(), self._seen, {}
        for thread, frame in sys._current_frames().items():
            found = running(outwards(frame))
            pair = next((pair for pair in self._pairs if found and found.of in (pair, *pair.case.sides)), None)
            if found is None or pair is None:
                continue
            call = (thread, found.op_index, found.where)
            was_elsewhere = any(each[:2] == call[:2] for each in before)  # in an earlier part of the same operation
            began_ns, is_told = before.get(call, (now if was_elsewhere else found.began_ns or now, False))
            if not is_told and now - began_ns >= self._stall_ns:
                which = f"operation {found.op_index:,}" if found.op_index >= 0 else "a look"
                self._recorder.stalled(
                    f"{pair.name}: {which} hangs in the {found.where}, after {since_s(began_ns):.1f} s"
                )
                is_told = True
            self._seen[call] = began_ns, is_told

    def _count(self) -> None:
        for pair in list(self._pairs):
            if pair.counters.has_any and pair.lock.acquire(timeout=self._every_s):
                try:
                    if not pair.under_way:  # else the host's own thread waits for the device, when it likes
                        self._recorder.window(pair, force=False, from_outside=True)
                finally:
                    pair.lock.release()


_running: WeakSet[Watchdog] = WeakSet()
_paused: list[Watchdog] = []


def _before_fork() -> None:
    _paused[:] = _running
    for one in _paused:
        one.stop()


def _after_fork() -> None:
    for one in _paused:
        one.start()
    _paused.clear()


def _in_child() -> None:
    _paused.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)

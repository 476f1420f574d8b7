"""One attempt at a job as a process of its own: how it is started, how it ended, and whose fault that was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reports.record.campaign import LOG_FILE, Fate
from reports.record.words import EXIT_CODE
from validator.campaign.matrix import SEED_VARIABLE

COMMAND = (sys.executable, "-m", "validator.campaign.one")
LAST_WORDS = 300  # characters of what a failed job printed
_GRACE_S = 10.0  # between asking a job to end and ending it
_POLL_S = 0.02
# What ends a process from outside: a person, a scheduler, the kernel when memory is short.
_OF_THE_MACHINE = ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM", "SIGPWR", "SIGXCPU")


class End(NamedTuple):
    """How an attempt ended.

    Attributes:
        fate: What became of it.
        code: Its exit code, negative for a signal; None where nobody can know it.
        reason: Why, where it did not end with a verdict.
        host: The machine on which it ran.
        seconds: How long it took.
    """

    fate: Fate
    code: int | None
    reason: str = ""
    host: str = ""
    seconds: float = 0.0


class Child:
    """A job's process, in a process group of its own, that does not outlive whoever started it.

    Args:
        words: What to type after ``kv-lockstep``.
        directory: Where its log goes.
        threads: Cores that it may use.
        seed: Its seed, for its environment; None for none.
        timeout_s: Seconds that it may take; 0 for no limit.
    """

    def __init__(self, words: Sequence[str], directory: Path, threads: int, seed: int | None, timeout_s: float) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if seed is not None:
            environment[SEED_VARIABLE] = str(seed)
        self._log = directory / LOG_FILE
        self._begun = time.monotonic()
        self._timeout_s = timeout_s
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a Ctrl-C is the campaign's to hear, not the job's
            )

    def poll(self) -> End | None:
        """Return how it ended, or None while it runs; one past its time limit is ended."""
        code = self._process.poll()
        if code is not None:
            return ended(code, self._log, self._seconds())
        if self._timeout_s and self._seconds() > self._timeout_s:
            self.stop()
            reason = f"past its time limit of {self._timeout_s:g} s"
            return End(Fate.LOST, self._process.returncode, reason, seconds=self._seconds())
        return None

    def wait(self) -> End:
        """Return how it ended, once it has."""
        while (end := self.poll()) is None:
            time.sleep(_POLL_S)
        return end

    def stop(self) -> None:
        """End it and whatever it started: first it is asked, so that it can close its run."""
        self.ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def ask(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _seconds(self) -> float:
        return time.monotonic() - self._begun


def ended(code: int, log: Path, seconds: float) -> End:
    """Say what became of a process by its exit code, and why by what it printed last."""
    if code in EXIT_CODE.values():
        return End(Fate.JUDGED, code, seconds=seconds)
    name = _signal_name(-code) if code < 0 else ""
    if name in _OF_THE_MACHINE:
        return End(Fate.LOST, code, f"killed by {name}", seconds=seconds)
    how = f"ended by {name}" if name else f"ended with exit code {code}"
    return End(Fate.FAILED, code, f"{how}: {last_words(log)}", seconds=seconds)


def last_words(log: Path) -> str:
    """Return the end of what a job printed, on one line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2000))
            words = " ".join(file.read().decode(errors="replace").split())
    except OSError:
        words = ""
    return words[-LAST_WORDS:] or "it printed nothing"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

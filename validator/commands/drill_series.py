"""Runs a user's own program over and over, with one planted fault at a time, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from reports.errors import RunUnreadable
from reports.reader import find_runs, read_run
from reports.record.run import Run
from validator.proof.drill.exercised import AnyPlanted
from validator.proof.drill.planting import FAULT, OUT

PRINTED = "printed.log"
_MOST_SAID = 300  # characters of what a program printed
_EVERY_S = 0.2

Command = Callable[[Path], Sequence[str]]
"""Makes the command line of a program, given the folder for what it writes."""


class Ended(NamedTuple):
    """How one run of the program ended.

    Attributes:
        runs: What it left.
        seconds: How long it took.
        problem: What stopped it, or why it left nothing; empty where it ended by itself with something on record.
    """

    runs: list[Run]
    seconds: float
    problem: str


class Series:
    """Runs the program.

    Args:
        command: Makes its command line.
        folder: Where every run gets a folder of its own.
        timeout: Seconds after which one is stopped; 0 for never.
    """

    def __init__(self, command: Command, folder: Path, timeout: float) -> None:
        self._command = command
        self._folder = folder
        self._timeout = timeout
        self._stopped = threading.Event()

    def one(self, name: str, folder: str) -> Ended:
        """Run it once with a fault, or without one where the name is empty; return when it has ended."""
        path = self._folder / folder
        path.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, FAULT: name, OUT: str((path / "runs").resolve())}
        began = time.monotonic()
        problem = ""
        with (path / PRINTED).open("wb") as printed:
            process = subprocess.Popen(
                self._command(path),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,  # so that what it starts is stopped with it
            )
            try:
                while process.poll() is None and not (problem or self._stopped.is_set()):
                    if self._timeout and time.monotonic() - began > self._timeout:
                        problem = f"stopped after {self._timeout:g} s"
                    time.sleep(_EVERY_S)
            finally:
                if process.poll() is None:  # also when this is interrupted itself
                    problem = problem or "interrupted"
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        runs = runs_below(path / "runs")
        if not (problem or runs):
            problem = f"it left no run (exit code {process.returncode}): {last_words(path / PRINTED)}"
        return Ended(runs, time.monotonic() - began, problem)

    def all(
        self, planted: Sequence[AnyPlanted], jobs: int, on_start: Callable[[AnyPlanted], None]
    ) -> Iterator[tuple[AnyPlanted, str, Ended]]:
        """Run it with each fault, so many at a time; yield fault, folder and ending as each ends."""
        with ThreadPoolExecutor(jobs) as pool:

            def begin(number: int, each: AnyPlanted) -> tuple[AnyPlanted, str, Ended]:
                on_start(each)
                folder = f"{number:02d}-{slug(each.name)}"
                return each, folder, self.one(each.name, folder)

            waiting: set[Future[tuple[AnyPlanted, str, Ended]]]
            waiting = {pool.submit(begin, number, each) for number, each in enumerate(planted, 1)}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BaseException:  # an interrupt, mostly
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise


def runs_below(folder: Path) -> list[Run]:
    """Read the runs that one program left; none if it left none."""
    try:
        return [read_run(path) for path in find_runs(folder)]
    except RunUnreadable:
        return []


def slug(name: str) -> str:
    """Return a folder's name for a fault."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def last_words(printed: Path) -> str:
    """Return the end of what a program printed, in one line."""
    words = " ".join(printed.read_text(encoding="utf-8", errors="replace")[-2000:].split())
    return words[-_MOST_SAID:] or "it printed nothing"

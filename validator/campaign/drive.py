"""Sees a campaign through: starts what is missing, records what became of it, repeats once what the machine lost."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from reports.disk.process import alive, identity
from reports.read.campaign import new_attempt, write_attempt
from reports.record.campaign import Attempt, Campaign, Fate, Job
from validator.campaign.matrix import filled
from validator.campaign.process import End
from validator.errors import ConfigError

RETRIES = 1  # of a job that the machine lost
_LOOK_S = 0.5


class Backend(Protocol):
    """Where jobs run; see ``validator.campaign.local.Local``."""

    def is_free(self) -> bool: ...
    def start(self, name: str, words: Sequence[str], directory: Path, seed: int | None) -> None: ...
    def ended(self, wait_s: float) -> list[tuple[str, End]]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Watcher(Protocol):
    """Who hears how it goes."""

    def changed(self, job: Job, attempt: Attempt) -> None: ...
    def looked(self) -> None: ...


def drive(campaign: Campaign, jobs: Sequence[Job], backend: Backend, watcher: Watcher) -> None:
    """Run jobs of a campaign to their end.

    Args:
        campaign: The campaign as read from disk; attempts are added to it, and written.
        jobs: Which of its jobs.
        backend: Where they run.
        watcher: Who hears how it goes.

    Raises:
        KeyboardInterrupt: If somebody stopped it; by then the jobs that ran are stopped and recorded as that.
    """
    todo = deque(jobs)
    retries = dict.fromkeys((job.number for job in jobs), RETRIES)
    running: dict[str, tuple[Job, Attempt]] = {}

    def settle(name: str, end: End) -> None:
        job, attempt = running.pop(name)
        done = replace(attempt, fate=end.fate, code=end.code, reason=end.reason, host=end.host, seconds=end.seconds)
        write_attempt(campaign.path, done)
        campaign.attempts[campaign.attempts.index(attempt)] = done
        if end.fate is Fate.LOST and retries[job.number]:
            retries[job.number] -= 1
            todo.appendleft(job)
        watcher.changed(job, done)

    try:
        while todo or running:
            while todo and backend.is_free():
                job = todo.popleft()
                attempt, directory = _begin(campaign, job)
                running[directory.name] = job, attempt
                watcher.changed(job, attempt)
                words = [*filled(job, directory.name, str(directory)), f"--ranks={job.ranks}"]
                backend.start(directory.name, words, directory, job.seed)
            for name, end in backend.ended(_LOOK_S):
                settle(name, end)
            watcher.looked()
    finally:
        if running:  # an interrupt, mostly
            backend.stop()
            for name, (_, attempt) in list(running.items()):
                settle(name, End(Fate.STOPPED, None, "stopped with its campaign", seconds=time.time() - attempt.begun))


def _begin(campaign: Campaign, job: Job) -> tuple[Attempt, Path]:
    """Write down that one more attempt at a job begins, and return it with its directory."""
    earlier = sum(one.job == job.number for one in campaign.attempts)
    number = new_attempt(campaign.path, job.number, earlier + 1)
    attempt = Attempt(job.number, number, begun=time.time(), driver=identity())
    write_attempt(campaign.path, attempt)
    campaign.attempts.append(attempt)
    return attempt, campaign.path / attempt.directory


def settle_what_was_left(campaign: Campaign, give_up: bool, only: Job | None = None) -> None:
    """Record as lost what an earlier driver began and never saw end, because it was ended itself.

    Args:
        campaign: The campaign; its attempts are changed, and written.
        give_up: Whether to do so too for what another machine began, which can't be asked from here.
        only: The job to look at; None for all.

    Raises:
        ConfigError: If such a driver is still there, or may be.
    """
    for position, one in enumerate(campaign.attempts):
        if one.fate is not Fate.RUNNING or (only is not None and one.job != only.number):
            continue
        living = alive(one.driver)
        where = f"{one.driver.get('hostname', 'an unknown machine')!s:.60}"
        if living or (living is None and not give_up):
            tell = "wait for it, or end it first" if living else "if it no longer runs, add --yes"
            process = f"process {one.driver.get('pid', '?')!s:.20} of {where}"
            raise ConfigError(f"{campaign.path}: job {one.job} is being run by {process}; {tell}")
        lost = replace(one, fate=Fate.LOST, reason=f"whoever ran it, on {where}, was ended before it")
        write_attempt(campaign.path, lost)
        campaign.attempts[position] = lost


@contextmanager
def signals_kept() -> Iterator[None]:
    """Take SIGTERM and SIGHUP for a Ctrl-C, and put every handler back in the end, whatever a library did to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and before[getattr(signal, name)] is not signal.SIG_IGN:  # as under nohup
                signal.signal(getattr(signal, name), signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)

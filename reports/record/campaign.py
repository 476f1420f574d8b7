"""Many runs that are judged as one: which jobs a campaign is made of, and what became of each.

On disk, a directory with ``campaign.json`` (written once: ``schema, kind`` ("campaign"), ``campaign_id, created``, the
``jobs`` and how they are judged) and ``jobs/NNNN-N/``, one for each attempt at a job: ``attempt.json`` (an
``Attempt``), ``log.txt``, and beside them whatever the job recorded. No attempt writes where another one wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

CAMPAIGN_FILE: Final = "campaign.json"
CAMPAIGN_KIND: Final = "campaign"
ATTEMPT_FILE: Final = "attempt.json"
LOG_FILE: Final = "log.txt"
JOBS_DIR: Final = "jobs"
ATTEMPT_DIR: Final = re.compile(r"(\d{4,9})-(\d{1,6})")  # see ``attempt_dir``


class Fate(str, Enum):
    """What became of one attempt at a job."""

    RUNNING = "running"
    JUDGED = "judged"  # it ended by itself with the code of a verdict
    FAILED = "failed"  # it ended by itself with another code, or by a signal of its own making
    LOST = "lost"  # the machine, its network or its time limit ended it
    STOPPED = "stopped"  # a person stopped the campaign


ENDED: Final = (Fate.JUDGED, Fate.FAILED)  # nothing of the machine: not to be repeated


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a campaign.

    Attributes:
        number: Its position, from 0.
        command: What follows ``kv-lockstep``; ``{seed}``, ``{primary}`` and ``{run}`` in it are put in.
        seed: Its seed; None if the campaign names none for it.
        primary: ``legacy`` or ``new``; empty if the campaign names none for it.
        settings: What of the configuration is this job's own, in words; empty for nothing.
        ranks: How many processes it is of, under torchrun.
    """

    number: int
    command: tuple[str, ...]
    seed: int | None = None
    primary: str = ""
    settings: str = ""
    ranks: int = 1

    @property
    def configuration(self) -> str:
        """What distinguishes it from other jobs, beside the seed."""
        return ", ".join(filter(None, (" ".join(self.command), self.primary and f"primary {self.primary}")))

    def __str__(self) -> str:
        about = (f"seed {self.seed}" if self.seed is not None else "", self.primary, self.settings)
        return " ".join(filter(None, (f"job {self.number}:", self.command[0], *about)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job.

    Attributes:
        job: The job's number.
        number: Which attempt at it, from 1.
        fate: What became of it.
        code: Its exit code, negative for a signal; None where nobody can know it.
        reason: Why it was lost, stopped, or failed; empty for nothing to say.
        host: The machine on which it ran.
        begun: When, seconds since 1970.
        seconds: How long it took.
        driver: Who waits for it: ``pid, pid_started, hostname``.
    """

    job: int
    number: int
    fate: Fate = Fate.RUNNING
    code: int | None = None
    reason: str = ""
    host: str = ""
    begun: float = 0.0
    seconds: float = 0.0
    driver: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Where its record and its runs lie in the campaign's directory."""
        return f"{JOBS_DIR}/{self.job:04d}-{self.number}"


@dataclass(slots=True)
class Campaign:
    """A campaign as it stands on disk.

    Attributes:
        path: Its directory.
        manifest: ``campaign.json`` without the jobs: ``campaign_id, created, policy, waivers, timeout_s`` and more.
        jobs: Its jobs, by their numbers.
        attempts: Every attempt, by job and number.
        problems: What could not be read, one sentence each; with them no campaign passes.
    """

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def counting(self) -> dict[int, Attempt]:
        """Return the attempt that counts for each job that has one: the first that ended by itself."""
        found: dict[int, Attempt] = {}
        for one in self.attempts:
            if one.fate in ENDED:
                found.setdefault(one.job, one)
        return found

    def folders(self) -> dict[Path, Job]:
        """Return the job of each directory, by its whole path, whose attempt counts."""
        whole = (self.path / JOBS_DIR).resolve()
        return {whole / Path(one.directory).name: self.jobs[job] for job, one in self.counting().items()}

    def superseded(self) -> Iterator[Attempt]:
        """Yield every attempt that ended and does not count."""
        counting = self.counting()
        return (one for one in self.attempts if one.fate is not Fate.RUNNING and counting.get(one.job) is not one)

    def missing(self) -> list[Job]:
        """Return the jobs of which no attempt counts."""
        counting = self.counting()
        return [job for job in self.jobs if job.number not in counting]

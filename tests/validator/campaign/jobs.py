"""Campaigns on disk whose jobs are the smallest that leave evidence, and a backend that runs none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reports.read.campaign import read_campaign, write_campaign
from reports.record.campaign import Attempt, Campaign, Fate, Job
from tests.validator.campaign import write
from validator.campaign.process import End

JUDGED, LOST = End(Fate.JUDGED, 0), End(Fate.LOST, -9, "killed by SIGKILL")
FAILED = End(Fate.FAILED, 3, "ended with exit code 3: a fault")


def made(path: Path, n_jobs: int = 3, policy: str = "smoke") -> Campaign:
    """Leave a campaign of shadow-stage trainings, none of which ran."""
    path.mkdir(parents=True)
    listed = [Job(n, ("train", "--seed", "{seed}"), seed=n, primary="legacy") for n in range(n_jobs)]
    write_campaign(path, {"campaign_id": path.name, "policy": policy, "waivers": [], "created": time.time()}, listed)
    return read_campaign(path)


@dataclass
class Backend:
    """Ends each attempt as it is told to; a judged one leaves a run that every shipped policy counts."""

    ends: Callable[[str], End] = lambda name: JUDGED
    most: int = 2
    started: list[str] = field(default_factory=list)
    words: dict[str, Sequence[str]] = field(default_factory=dict)
    stopped: bool = False
    interrupt_at: str = ""
    _running: dict[str, tuple[Path, int | None]] = field(default_factory=dict)

    def is_free(self) -> bool:
        return len(self._running) < self.most

    def start(self, name: str, words: Sequence[str], directory: Path, seed: int | None) -> None:
        self.started.append(name)
        self.words[name] = words
        self._running[name] = directory, seed

    def ended(self, wait_s: float) -> list[tuple[str, End]]:
        name = next(iter(self._running))
        if name == self.interrupt_at:
            raise KeyboardInterrupt
        directory, seed = self._running.pop(name)
        end = self.ends(name)
        write(directory, seed or 0, now=time.time(), close=end.fate is Fate.JUDGED)
        return [(name, end)]

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        pass


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def changed(self, job: Job, attempt: Attempt) -> None:
        self.told.append(f"{job.number}-{attempt.number} {attempt.fate.value}")

    def looked(self) -> None:
        pass

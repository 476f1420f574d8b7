"""Jobs side by side on this machine, its cores divided among them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from validator.campaign.process import Child, End

_POLL_S = 0.02


class Local:
    """Runs attempts as processes of this one.

    Args:
        n_jobs: How many at a time; 0 for one a core.
        most: How many there are in all.
        timeout_s: Seconds for each; 0 for no limit.

    Attributes:
        threads: Cores for each.
    """

    def __init__(self, n_jobs: int, most: int, timeout_s: float) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._n_jobs = max(1, min(n_jobs or cores, most))
        self.threads = max(1, cores // self._n_jobs)
        self._timeout_s = timeout_s
        self._children: dict[str, Child] = {}

    def __str__(self) -> str:
        return f"{self._n_jobs} at a time on this machine, {self.threads} thread(s) each"

    def is_free(self) -> bool:
        """Say whether one more may start."""
        return len(self._children) < self._n_jobs

    def start(self, name: str, words: Sequence[str], directory: Path, seed: int | None) -> None:
        """Start an attempt.

        Args:
            name: Its name.
            words: What to type after ``kv-lockstep``.
            directory: Where its log goes.
            seed: Its seed; None for none.
        """
        self._children[name] = Child(words, directory, self.threads, seed, self._timeout_s)

    def ended(self, wait_s: float) -> list[tuple[str, End]]:
        """Return what ended, after waiting for at most so many seconds until something does."""
        until = time.monotonic() + wait_s
        while True:
            found = [(one, end) for one, child in self._children.items() if (end := child.poll())]
            if found or time.monotonic() >= until:
                break
            time.sleep(_POLL_S)
        for one, _ in found:
            del self._children[one]
        return [(one, end._replace(host=socket.gethostname())) for one, end in found]

    def stop(self) -> None:
        """End whatever runs."""
        for child in self._children.values():
            child.ask()  # all of them, before any is waited for
        for child in self._children.values():
            child.stop()
        self._children.clear()

    def close(self) -> None:
        """Nothing is held."""

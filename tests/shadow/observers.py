"""Observers for tests of the shadow: one that keeps everything, one that fails everywhere."""

from __future__ import annotations

import threading
from typing import Any

from shadow.memory.regions import Regions
from shadow.operation import Observation, Operation


class Recorder:
    """Keeps what it is told."""

    watching = True

    def __init__(self) -> None:
        self.befores: list[tuple[Operation, int | None, int | None, Any, Any]] = []
        self.seen: list[Observation] = []
        self.harness_ns = self.state_looks = 0
        self.lock = threading.RLock()
        self.tokens: list[Any] = []
        self.failed_steps: list[str] = []
        self.faults: list[Exception] = []
        self.meddlings: list[tuple[list[str], bool]] = []
        self.misbehaviour: list[tuple[str, BaseException | str]] = []
        self.n_torn = 0
        self.n_advised = 0
        self.passed: list[str] = []
        self.unseen: list[str] = []
        self.copies: list[tuple[Any, Any, Recorder]] = []

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, lie: Regions
    ) -> Any:
        self.befores.append((operation, env_id, key, entry, staged))
        return len(self.befores)

    def observed(self, observation: Observation, token: Any) -> None:
        self.seen.append(observation)
        self.tokens.append(token)

    def harness_failed(self, step: str, error: Exception) -> None:
        self.failed_steps.append(step)
        self.faults.append(error)

    def advised(self, operation: Operation, env_id: int | None) -> None:
        self.n_advised += 1

    def passed_over(self, why: str) -> None:
        self.passed.append(why)

    def unobserved(self, method: str) -> None:
        self.unseen.append(method)

    def torn(self, cut: BaseException) -> None:
        self.n_torn += 1

    def used_in_fork(self) -> None:
        self.n_torn += 1

    def misbehaved(self, method: str, what: BaseException | str) -> None:
        self.misbehaviour.append((method, what))

    def meddled(self, changed: list[str], by_primary: bool, left: list[str]) -> None:
        self.meddlings.append((changed, by_primary))

    def copied(self, control: Any, candidate: Any) -> Recorder:
        self.copies.append((control, candidate, Recorder()))
        return self.copies[-1][2]


class Broken(Recorder):
    """Raises wherever the shadow lets it."""

    def before(self, *args: Any) -> None:
        raise RuntimeError("before failed")

    def observed(self, observation: Observation, token: Any) -> None:
        raise RuntimeError("observed failed")

"""Keeps the secondary side from changing what the training stands on: generators, modes, defaults."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class Surroundings:
    """Puts process-wide state back if a call changed it.

    Looking costs tens of microseconds, so every call of the first ones is looked at, then one in ``EVERY``, and again
    every one once a change was seen. A change between two looks can't be undone; what was seen is counted, and the
    report says it.

    Attributes:
        changes: What was changed and put back, by name.
    """

    FIRST = 256
    EVERY = 64

    def __init__(self) -> None:
        self.changes: dict[str, int] = {}
        self._calls = 0
        self._before: tuple[Any, ...] | None = None

    def enter(self) -> None:
        """Remember the state before a call, if this one is looked at."""
        self._calls += 1
        if self._calls > self.FIRST and self._calls % self.EVERY and not self.changes:
            self._before = None
            return
        self._before = _state()

    def leave(self) -> list[str]:
        """Compare after the call, put back what changed and return its names."""
        if self._before is None:
            return []
        torch_rng, python_rng, numpy_rng, grad, dtype = self._before
        changed = []
        if not torch.equal(torch.default_generator.get_state(), torch_rng):
            torch.default_generator.set_state(torch_rng)
            changed.append("torch generator")
        if random.getstate() != python_rng:
            random.setstate(python_rng)
            changed.append("python generator")
        now = np.random.get_state(legacy=False)
        if (
            now["state"]["pos"] != numpy_rng["state"]["pos"]
            or now["has_gauss"] != numpy_rng["has_gauss"]
            or not (np.array_equal(now["state"]["key"], numpy_rng["state"]["key"]))
        ):
            np.random.set_state(numpy_rng)
            changed.append("numpy generator")
        if torch.is_grad_enabled() != grad:
            torch.set_grad_enabled(grad)
            changed.append("grad mode")
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
            changed.append("default dtype")
        for name in changed:
            self.changes[name] = self.changes.get(name, 0) + 1
        return changed


def _state() -> tuple[Any, ...]:
    return (
        torch.default_generator.get_state(),
        random.getstate(),
        np.random.get_state(legacy=False),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )

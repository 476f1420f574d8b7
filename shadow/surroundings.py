"""Sees a side change what the training stands on (generators, modes, defaults), and puts it back if asked."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class Surroundings:
    """Sees process-wide state change during a call.

    Looking costs tens of microseconds, so every call of the first ones is looked at, then one in ``EVERY``, and again
    every one once a change was seen. A change between two looks can't be undone; the report says it.

    Attributes:
        changes: What was changed and put back, by name.
    """

    FIRST = 256
    EVERY = 64

    def __init__(self) -> None:
        self.changes: dict[str, int] = {}
        self._calls = 0
        self._before: tuple[Any, ...] | None = None

    def enter(self) -> bool:
        """Remember the state before a call, and tell whether this one is looked at."""
        self._calls += 1
        if self._calls > self.FIRST and self._calls % self.EVERY and not self.changes:
            return False
        self._before = _state()
        return True

    def leave(self, restore: bool) -> list[str]:
        """Compare after the call and return the names of what changed, put back if asked for."""
        if self._before is None:
            return []
        torch_rng, python_rng, numpy_rng, grad, dtype = self._before
        changed = []
        if not torch.equal(torch.default_generator.get_state(), torch_rng):
            if restore:
                torch.default_generator.set_state(torch_rng)
            changed.append("torch generator")
        if random.getstate() != python_rng:
            if restore:
                random.setstate(python_rng)
            changed.append("python generator")
        now = np.random.get_state(legacy=False)
        if (
            now["state"]["pos"] != numpy_rng["state"]["pos"]
            or now["has_gauss"] != numpy_rng["has_gauss"]
            or not (np.array_equal(now["state"]["key"], numpy_rng["state"]["key"]))
        ):
            if restore:
                np.random.set_state(numpy_rng)
            changed.append("numpy generator")
        if torch.is_grad_enabled() != grad:
            if restore:
                torch.set_grad_enabled(grad)
            changed.append("grad mode")
        if torch.get_default_dtype() != dtype:
            if restore:
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

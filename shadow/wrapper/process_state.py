"""What the training stands on process-wide (generators, modes, defaults): sees a side change it, and puts it back.

A change between two looks can't be undone; the report says it.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def state() -> tuple[Any, ...]:
    """Return the state before a call; this costs tens of microseconds."""
    return (
        torch.default_generator.get_state(),
        random.getstate(),
        np.random.get_state(legacy=False),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


def changed(before: tuple[Any, ...], now: tuple[Any, ...]) -> list[str]:
    """Return the names of what differs between two states."""
    torch_rng, python_rng, numpy_rng, grad, dtype = before
    same = {
        "torch generator": torch.equal(torch_rng, now[0]),
        "python generator": python_rng == now[1],
        "numpy generator": numpy_rng["state"]["pos"] == now[2]["state"]["pos"]
        and numpy_rng["has_gauss"] == now[2]["has_gauss"]
        and np.array_equal(numpy_rng["state"]["key"], now[2]["state"]["key"]),
        "grad mode": grad == now[3],
        "default dtype": dtype == now[4],
    }
    return [name for name, unchanged in same.items() if not unchanged]


def put_back(before: tuple[Any, ...]) -> None:
    """Make the state what it was."""
    torch_rng, python_rng, numpy_rng, grad, dtype = before
    torch.default_generator.set_state(torch_rng)
    random.setstate(python_rng)
    np.random.set_state(numpy_rng)
    torch.set_grad_enabled(grad)
    torch.set_default_dtype(dtype)

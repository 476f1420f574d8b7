"""The byte work of dense entries, from C where it was compiled when the package was installed and torch allows it.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

from typing import Any

import torch

from shadow.memory import dense_python

NEEDS = "__dlpack_c_exchange_api__"  # of torch.Tensor, since torch 2.10

try:
    from shadow.memory._dense import agreed, columns, connect, equal, gather, parts, placed, refill, restage, survey

    connect(getattr(torch.Tensor, NEEDS))
    COMPILED = True
except (ImportError, AttributeError):
    from shadow.memory.dense_python import agreed, columns, equal, gather, parts, placed, refill, restage, survey

    COMPILED = False

__all__ = [
    "COMPILED",
    "NEEDS",
    "agreed",
    "columns_of",
    "equal",
    "gather",
    "parts",
    "placed",
    "refill",
    "restage",
    "survey",
]


def columns_of(tensors: tuple[Any, ...], begin: int, end: int) -> tuple[bytes, ...]:
    """Return the bytes of some positions of tensors ``(rows, heads, positions, width)``, wherever and however they lie.

    Args:
        tensors: As they are; what is on an accelerator is waited for.
        begin: First position.
        end: Behind the last.

    Returns:
        Of each tensor a copy, row by row, position by position, all heads of a position together.
    """
    return columns(tensors, torch.Tensor, begin, end) or dense_python.columns(tensors, torch.Tensor, begin, end)

"""The byte work of dense entries, from C where it was compiled when the package was installed and torch allows it.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from shadow.memory import dense_python

NEEDS = "__dlpack_c_exchange_api__"  # of torch.Tensor, since torch 2.10

columns_of: Callable[[tuple[Any, ...], int, int], tuple[bytes, ...]]

try:
    from shadow.memory._dense import agreed, columns, connect, equal, gather, parts, placed, refill, restage, survey

    connect(getattr(torch.Tensor, NEEDS))
    columns_of = partial(columns, torch.Tensor, dense_python.columns_of)  # by tensors where it takes more than copying
    COMPILED = True
except (ImportError, AttributeError):
    from shadow.memory.dense_python import agreed, columns_of, equal, gather, parts, placed, refill, restage, survey

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

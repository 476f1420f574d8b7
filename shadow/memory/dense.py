"""The byte work of dense entries, from C where it was compiled when the package was installed and torch allows it.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

import torch

NEEDS = "__dlpack_c_exchange_api__"  # of torch.Tensor, since torch 2.10

try:
    from shadow.memory._dense import agreed, connect, equal, gather, parts, placed, refill, restage, survey

    connect(getattr(torch.Tensor, NEEDS))
    COMPILED = True
except (ImportError, AttributeError):
    from shadow.memory.dense_python import agreed, equal, gather, parts, placed, refill, restage, survey

    COMPILED = False

__all__ = ["COMPILED", "NEEDS", "agreed", "equal", "gather", "parts", "placed", "refill", "restage", "survey"]

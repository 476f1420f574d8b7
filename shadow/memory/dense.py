"""The byte work of dense entries, from C where it was compiled when the package was installed and torch allows it.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

import torch

try:
    from shadow.memory._dense import agreed, connect, equal, gather, parts, placed, refill, restage, survey

    connect(torch.Tensor.__dlpack_c_exchange_api__)  # since torch 2.10
    COMPILED = True
except (ImportError, AttributeError):
    from shadow.memory.dense_python import agreed, equal, gather, parts, placed, refill, restage, survey

    COMPILED = False

__all__ = ["COMPILED", "agreed", "equal", "gather", "parts", "placed", "refill", "restage", "survey"]

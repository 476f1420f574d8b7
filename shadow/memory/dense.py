"""The byte work of plain entries, from C where it could be compiled when the package was installed.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

import torch

try:
    from shadow.memory._dense import agreed, connect, equal, hash, hashes, placed, refill, restage, survey

    COMPILED = True
    connect(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None))  # since torch 2.10
except ImportError:
    from shadow.memory.dense_python import agreed, equal, hash, hashes, placed, refill, restage, survey

    COMPILED = False

__all__ = ["COMPILED", "agreed", "equal", "hash", "hashes", "placed", "refill", "restage", "survey"]

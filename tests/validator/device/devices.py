"""Which devices a test runs on, and entries that lie there."""

from __future__ import annotations

import pytest
import torch

from shadow.entry import KeysValues
from tests.shadow.entries import make_entry

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
]
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def on(entry: KeysValues, device: str) -> KeysValues:
    """Put an entry on a device."""
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache.to(device)
    return entry


def on_device(number: float) -> KeysValues:
    return on(make_entry(number), "cuda")

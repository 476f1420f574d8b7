"""Which devices a test runs on, and entries that lie there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shadow.entry import KeysValues
from shadow.memory.regions import Region, of_leaves
from tests.shadow.entries import make_entry
from validator.device.fingerprint import located

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


def at(entry: Any) -> Region:
    """Return where a regular entry, or its leaves, lie."""
    found = of_leaves(entry, anywhere=True) if isinstance(entry, list) else located(entry)
    assert found is not None
    return found


def on_device(number: float) -> KeysValues:
    return on(make_entry(number), "cuda")

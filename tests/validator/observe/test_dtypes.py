"""Entries of every type that torch can copy are compared, digested and charged: bytes are bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reports.record.words import Cause, Dimension, Fault
from shadow.entry import KeysValues, leaves
from shadow.manager import KVCacheManager
from tests.validator.trials import CONFIG, ENVS, charged, manager, trial


def _copies(dtype: torch.dtype) -> bool:
    if dtype is torch.complex32:  # torch itself warns of it
        return False
    try:
        torch.ones(4).to(dtype).clone().copy_(torch.zeros(4).to(dtype))
    except (NotImplementedError, RuntimeError, TypeError):
        return False
    return True


DTYPES = sorted(
    {kind for kind in vars(torch).values() if isinstance(kind, torch.dtype) and _copies(kind)}, key=lambda d: str(d)
)


def made(dtype: torch.dtype, seed: int = 0, size: int = 3) -> KeysValues:
    entry = KeysValues(1, num_heads=2, max_tokens=8, embed_dim=8, num_layers=2)
    generator = torch.Generator().manual_seed(seed)
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            numbers = torch.randint(0, 100, (1, 2, 8, 4), generator=generator)
            cache._cache, cache._size = numbers.to(dtype), size
    return entry


class OneBitOff(KVCacheManager):
    """Stores one bit of the first tensor wrongly."""

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        own[0]._k_cache._cache.view(torch.uint8)[0, 0, 0, 0] ^= 1
        return super().set_init_cache(env_id, cache_key, own)


def test_the_types_of_eight_bits_are_among_them() -> None:
    assert {torch.float8_e4m3fn, torch.bfloat16, torch.complex64, torch.bool} <= set(DTYPES)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_bit_is_charged_as_a_value_whatever_the_type(dtype: torch.dtype, uneven: bool) -> None:
    run = trial(manager(), OneBitOff(CONFIG, ENVS))
    entry = made(dtype, 1)
    if uneven:
        entry[1]._v_cache._size = 2
    run.cache.set_init_cache(0, 7, entry)
    run.cache.get_init_cache(0, 7)
    run.finish()
    assert run.failures == []
    assert {divergence.fault for divergence in run.divergences} == {Fault.CANDIDATE}
    assert run.divergences[0].dimension is Dimension.VALUE
    assert run.divergences[0].cause in (Cause.CORRUPTED, Cause.ROUNDING)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sound_caches_agree_whatever_the_type(dtype: torch.dtype) -> None:
    run = trial(manager(), manager())
    for index in range(6):
        run.cache.set_init_cache(0, index % 4, made(dtype, index))
        run.cache.get_init_cache(0, index % 4)
    run.finish()
    assert (charged(run), run.failures) == ([], [])


@pytest.mark.parametrize("length", [np.int64(3), np.int32(3), torch.tensor(3)], ids=["int64", "int32", "0-d tensor"])
def test_lengths_may_be_numbers_of_numpy_or_torch(length: Any) -> None:
    run = trial(manager(), manager())
    for index in range(6):
        entry = made(torch.float32, index)
        for layer in entry:
            layer._k_cache._size = layer._v_cache._size = length
        run.cache.set_init_cache(0, index % 4, entry)
        assert leaves(run.cache.get_init_cache(0, index % 4))[0].size == 3
    run.finish()
    assert (charged(run), run.failures) == ([], [])

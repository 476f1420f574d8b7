"""What validating costs where entries lie on a CUDA device: time of a search beside the old store alone, and waits."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import torch

from shadow.entry import KeysValues
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from validator.bench.caches import SIZES
from validator.proof.trial import Trial

_CONFIG = {"num_simulations": 50, "max_cache_size": 64}
_ENVS = 8
_SIMULATIONS = 50


def bench_device(rounds: int) -> dict[str, Any] | None:
    """Search at Atari size on a CUDA device with the old store alone and with both in lockstep, round by round.

    A simulation is a pass of two transformer layers for all envs, and per env a lookup, a copy of what it answered (a
    host must not write into it) and a set, as a world model does them. Nothing else of a training is done, so its own
    ratio is lower.

    Returns:
        Milliseconds per search of both, by events; their ratio; waits per cache operation that torch's debug mode for
        synchronisations notices. None without a device.
    """
    if not torch.cuda.is_available():
        return None
    layers, heads, embed, context = SIZES["Atari"]
    made = KeysValues(1, heads, context, embed, layers, device="cuda")
    for part in (part for layer in made for part in (layer._k_cache, layer._v_cache)):
        part._cache.normal_()
        part._size = context - 1
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(embed, heads, 4 * embed, dropout=0.0, batch_first=True), layers
    ).to("cuda")
    trial = Trial(LegacyKVCache(_CONFIG, _ENVS), KVCacheManager(_CONFIG, _ENVS))
    caches = {"legacy": LegacyKVCache(_CONFIG, _ENVS), "both": trial.cache}
    times: dict[str, list[float]] = {name: [] for name in caches}
    for number in range(rounds + 2):
        for name, cache in caches.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            _search(cache, number, made, model)
            end.record()
            torch.cuda.synchronize()
            if number >= 2:
                times[name].append(start.elapsed_time(end))
    waits, operations = _waits(trial.cache, made, rounds + 2)
    trial.finish()
    if trial.divergences or trial.failures:
        raise AssertionError(f"a sound pair was charged: {trial.divergences[:1]} {trial.failures[:1]}")
    return {
        "device": torch.cuda.get_device_name(),
        "ms_per_search": {name: statistics.median(spent) for name, spent in times.items()},
        "ratio": statistics.median(a / b for a, b in zip(times["both"], times["legacy"], strict=True)),
        "waits_per_operation": waits / operations,
        "operations": operations,
    }


def _search(cache: Any, number: int, made: KeysValues, model: torch.nn.Module | None) -> int:
    first = number * _ENVS * (_SIMULATIONS + 1)
    for env_id in range(_ENVS):
        cache.set_init_cache(env_id, first + env_id, made)
    cache.clear_recur_cache()
    tokens = torch.zeros(_ENVS, 2, SIZES["Atari"][2], device="cuda")
    with torch.inference_mode():
        for simulation in range(_SIMULATIONS):
            if model is not None:
                tokens = model(tokens)
            at = first + simulation * _ENVS
            for env_id in range(_ENVS):
                cache.hierarchical_get(env_id, at + env_id).clone()
                cache.set_recur_cache(at + _ENVS + env_id, made)
    return _ENVS + 1 + 2 * _SIMULATIONS * _ENVS


def _waits(cache: Any, made: KeysValues, number: int) -> tuple[int, int]:
    """Count what torch calls a synchronising operation during one search without a model."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            operations = _search(cache, number, made, None)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("called a synchronizing" in str(each.message) for each in caught), operations

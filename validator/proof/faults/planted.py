"""Planted faults: sound caches broken in one way each, with the cause and the side that must be named for it.

Most stand before any cache; a few reach into ``KVCacheManager``. A fault is only listed if the harness has to tell it
from its neighbours.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from reports.record.words import Cause, Fault
from shadow.interface import offered
from shadow.manager import KVCacheManager
from validator.proof.faults import keys, memory, values
from validator.proof.faults.become import can_become
from validator.proof.faults.wrapped import Make, answering, asking, clearing, entered, meddling, odd, raising, storing


@dataclass(frozen=True, slots=True)
class Planted:
    """One planted fault.

    Attributes:
        name: What it does.
        family: ``presence``, ``value``, ``structure``, ``isolation`` or ``error``.
        make: Breaks a sound cache.
        causes: What may be named; the first is the name that fits best.
        manager_only: Whether it needs a ``KVCacheManager``.
        declared: Whether it also changes what the cache declares, so that nobody can tell if both sides have it.
        shape: The shape of the cache that it breaks.
        reaches_into: The class whose inside it breaks; None for one that any cache of its shape can have.
        needs: What a host has to do, or the fault can't show: names of ``validator.proof.drill.exercised``.
    """

    name: str
    family: str
    make: Make
    causes: tuple[Cause, ...]
    manager_only: bool = False
    declared: bool = False
    shape: str = "pools"
    reaches_into: type | None = None
    needs: tuple[str, ...] = ()

    side = Fault.CANDIDATE  # where a drill plants it

    def fits(self, cache: Any) -> bool:
        """Tell whether it can be planted in a cache: all it reaches for has to be there."""
        if self.reaches_into is not None and not isinstance(cache, self.reaches_into):
            return False
        asks = getattr(self.make, "asks", ())
        return all(offered(cache, name) is not None for name in asks) and (self.shape == "pools" or can_become(cache))


def _planted(
    family: str,
    name: str,
    make: Make,
    *causes: Cause,
    manager_only: bool = False,
    declared: bool = False,
    needs: tuple[str, ...] = (),
) -> Planted:
    into = KVCacheManager if manager_only else None
    return Planted(name, family, make, causes, manager_only, declared, reaches_into=into, needs=needs)


_presence = partial(_planted, "presence")
_value = partial(_planted, "value")
_structure = partial(_planted, "structure")
_isolation = partial(_planted, "isolation")
_error = partial(_planted, "error")


def _one_thread_more() -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)


PLANTED = (
    _presence("every seventh new key is not stored", keys.SetIgnored, Cause.SET_IGNORED),
    _presence("a re-set is ignored", keys.ResetIgnored, Cause.RESET_IGNORED, needs=("overwrites",)),
    _presence("every ninth get misses", keys.TransientMiss, Cause.MISSED, needs=("hits",)),
    _presence(
        "a miss is answered with something",
        keys.Phantom,
        *(Cause.PHANTOM, Cause.CLEAR_FORGOTTEN, Cause.WRONG_EVICTION),  # the last two of a key that was there once
        needs=("hits", "misses"),
    ),
    _presence(
        "pools hold one entry less",
        keys.resized(-1),
        Cause.CAPACITY_OFF,
        manager_only=True,
        declared=True,
        needs=("evictions",),
    ),
    _presence(
        "pools hold one entry more",
        keys.resized(1),
        Cause.CAPACITY_OFF,
        manager_only=True,
        declared=True,
        needs=("evictions",),
    ),
    _presence(
        "the youngest is evicted",
        keys.evicting(lambda live, _: live[-1]),
        Cause.WRONG_EVICTION,
        manager_only=True,
        needs=("evictions",),
    ),
    _presence(
        "the second oldest is evicted",
        keys.evicting(lambda live, _: live[1]),
        Cause.WRONG_EVICTION,
        manager_only=True,
        needs=("evictions",),
    ),
    _presence(
        "a random one is evicted",
        keys.evicting(lambda live, draw: draw.choice(live)),
        Cause.WRONG_EVICTION,
        manager_only=True,
        needs=("evictions",),
    ),
    _presence(
        "the least recently used is evicted",
        keys.recency,
        Cause.WRONG_EVICTION,
        manager_only=True,
        needs=("evictions", "hits"),
    ),
    _presence(
        "hierarchical never asks recur", asking("init"), Cause.WRONG_POOL_ORDER, needs=("lookups_of_both_pools",)
    ),
    _presence(
        "hierarchical never asks init", asking("recur"), Cause.WRONG_POOL_ORDER, needs=("lookups_of_both_pools",)
    ),
    _presence(
        "hierarchical asks recur first",
        asking("recur", "init"),
        Cause.WRONG_POOL_ORDER,
        needs=("lookups_of_both_pools",),
    ),
    _presence(
        "the recurrent clear does nothing",
        clearing("clear_recur_cache"),
        Cause.CLEAR_FORGOTTEN,
        needs=("clears_recur",),
    ),
    _presence(
        "the clear of one env does nothing",
        clearing("clear_init_cache"),
        Cause.CLEAR_FORGOTTEN,
        needs=("clears_init_env",),
    ),
    _presence(
        "clear_all forgets recur",
        clearing("clear_all", "clear_init_caches"),
        Cause.CLEAR_FORGOTTEN,
        needs=("clears_all",),
    ),
    _presence(
        "clear_all forgets init",
        clearing("clear_all", "clear_recur_cache"),
        Cause.CLEAR_FORGOTTEN,
        needs=("clears_all",),
    ),
    _presence(
        "the clear of one env clears all",
        clearing("clear_init_cache", "clear_init_caches"),
        Cause.CLEAR_TOO_WIDE,
        needs=("clears_init_env", "envs"),
    ),
    _presence(
        "the recurrent clear clears init too",
        clearing("clear_recur_cache", "clear_recur_cache", "clear_init_caches"),
        Cause.CLEAR_TOO_WIDE,
        needs=("clears_recur",),
    ),
    _presence(
        "evicts nothing and lists no key",
        keys.never_evicting,
        Cause.CAPACITY_OFF,
        Cause.WRONG_EVICTION,
        manager_only=True,
        needs=("evictions",),
    ),
    _presence(
        "the clear of one env does nothing and no key is listed",
        keys.ClearsUnheard,
        Cause.CLEAR_FORGOTTEN,
        needs=("clears_init_env",),
    ),
    _value("only 32 bits of a key count", keys.KeyTruncated, Cause.OTHER_KEY, needs=("keys_alike_in_32_bits",)),
    _value("another key's entry is answered", keys.NeighbourAnswered, Cause.OTHER_KEY, needs=("hits",)),
    _value("a set overwrites another key too", memory.SlotsCollide, Cause.OTHER_KEY, manager_only=True),
    _value("a key that comes back holds its old entry", keys.StaleVersion, Cause.STALE_VERSION, needs=("evictions",)),
    _value("lookups of the last env go to env 0", keys.EnvMixed, Cause.OTHER_ENV, Cause.MISSED, needs=("envs",)),
    _value("all envs share one pool", keys.EnvsShared, Cause.OTHER_ENV, needs=("envs",)),
    _value("keys and values swapped", storing(values.swap_kv), Cause.LAYER_MIXED),
    _value("V of one layer stored from K", storing(values.v_from_k), Cause.LAYER_MIXED, needs=("layers",)),
    _value("layers reversed", answering(values.reverse_layers), Cause.LAYER_MIXED, needs=("layers", "hits")),
    _value("tokens reversed", storing(values.each(lambda r: r.flip(2))), Cause.TOKENS_PERMUTED),
    _value("heads swapped", storing(values.each(lambda r: r.flip(1))), Cause.TOKENS_PERMUTED),
    _value("samples swapped", answering(values.each(lambda r: r.flip(0))), Cause.TOKENS_PERMUTED, needs=("hits",)),
    _value("rounded through bfloat16", storing(values.through(torch.bfloat16)), Cause.ROUNDING),
    _value("rounded through float16", answering(values.through(torch.float16)), Cause.ROUNDING, needs=("hits",)),
    _value("one bit flipped", storing(values.flip_one_bit), Cause.CORRUPTED),
    _value("the last token is not copied", storing(values.last_token_lost), Cause.PARTIAL_COPY),
    _value("only the first layer is copied", values.FirstLayerOnly, Cause.PARTIAL_COPY, needs=("layers",)),
    _value("NaN becomes 0", storing(values.each(lambda r: r.nan_to_num(0.0))), Cause.CORRUPTED),
    _value("negative zero becomes zero", storing(values.each(lambda r: r + 0.0)), Cause.CORRUPTED),
    _value("values scaled", answering(values.each(lambda r: r * 1.5)), Cause.CORRUPTED, needs=("hits",)),
    _structure("one token cut off", storing(values.lengths(-1)), Cause.LENGTH_OFF),
    _structure("one token added", answering(values.lengths(1)), Cause.LENGTH_OFF, needs=("hits",)),
    _structure("V one token short", storing(values.lengths(-1, "v")), Cause.LENGTH_OFF),
    _structure("dtype changed", answering(values.as_double), Cause.DTYPE_DRIFT, needs=("hits",)),
    _structure("buffers trimmed to what is valid", answering(values.trim), Cause.SHAPE_OFF, needs=("hits",)),
    _structure("a layer dropped", answering(values.drop_layer), Cause.SHAPE_OFF, needs=("layers", "hits")),
    _structure("answers text", answering(lambda e: "entry"), Cause.SHAPE_OFF, needs=("hits",)),
    _isolation("stores a reference", memory.ByReference, Cause.ALIASED_ON_SET, manager_only=True),
    _isolation("copies containers, shares tensors", memory.ShallowCopy, Cause.ALIASED_ON_SET, manager_only=True),
    _isolation("copies V, shares K", memory.KeysShared, Cause.ALIASED_ON_SET, manager_only=True),
    _isolation("edits its input", memory.InputEdited, Cause.INPUT_EDITED),
    _isolation(
        "answers one scratch object", memory.ScratchAnswered, Cause.ALIASED_ON_GET, manager_only=True, needs=("hits",)
    ),
    _isolation(
        "hands out slots that it reuses",
        memory.LiveSlotAnswered,
        Cause.ALIASED_ON_GET,
        manager_only=True,
        needs=("hits",),
    ),
    _isolation("an entry nobody reads decays", memory.Decay, Cause.CORRUPTED),
    _isolation("keeps all that it was ever given", memory.Leak, Cause.GROWS),
    _isolation("leaves inference mode on", meddling(lambda: entered(torch.inference_mode())), Cause.MEDDLED),
    _isolation("changes the thread number", meddling(_one_thread_more), Cause.MEDDLED),
    _isolation("changes numpy's error state", meddling(lambda: np.seterr(all="raise")), Cause.MEDDLED),
    _isolation("flushes denormals", meddling(lambda: torch.set_flush_denormal(True)), Cause.MEDDLED),
    _isolation("detects anomalies", meddling(lambda: torch.autograd.set_detect_anomaly(True)), Cause.MEDDLED),
    _isolation(
        "changes the default dtype",
        meddling(lambda: torch.set_default_dtype(torch.float64)),
        Cause.MEDDLED,
        manager_only=True,  # rings of either side would be of that type from there on
    ),
    _isolation("draws from torch's generator", meddling(lambda: torch.rand(1)), Cause.MEDDLED),
    _isolation("draws from python's generator", meddling(random.random), Cause.MEDDLED),
    _isolation("draws from numpy's generator", meddling(np.random.random), Cause.MEDDLED),
    _isolation("switches grad mode off", meddling(lambda: torch.set_grad_enabled(False)), Cause.MEDDLED),
    _error("raises on every set", raising("store"), Cause.RAISED),
    _error("raises on every get", raising("answer"), Cause.RAISED),
    _error("raises on a recurrent clear", raising("clear_recur_cache"), Cause.RAISED, needs=("clears_recur",)),
    _error("raises now and then on set", raising("store", 13), Cause.RAISED),
    _error("ends the process in a look", odd("peek", SystemExit(1)), Cause.RAISED),
    _error("raises when it is asked for its keys", odd("live_keys", RuntimeError("planted")), Cause.RAISED),
    _error("raises when it is asked for its size", odd("nbytes", RuntimeError("planted")), Cause.RAISED),
    _error("shows what is no entry", odd("peek", "entry"), Cause.ODD),
    _error("lists what is no key", odd("live_keys", [[1]]), Cause.ODD),
    _error("lists keys that it does not hold", odd("live_keys", [0.5]), Cause.ODD),
    _error("is not a number of bytes large", odd("nbytes", float("nan")), Cause.ODD),
)
"""Faults that are planted to see whether they are noticed."""

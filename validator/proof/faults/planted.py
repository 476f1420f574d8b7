"""Planted faults: sound caches broken in one way each, with the cause and the side that must be named for it.

Most stand before any cache; a few reach into ``KVCacheManager``. A fault is only listed if the harness has to tell it
from its neighbours.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from reports.record.words import Cause
from validator.proof.faults import clears, keys, memory, values
from validator.proof.faults.wrapped import Make, answering, meddling, raising, storing


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
    """

    name: str
    family: str
    make: Make
    causes: tuple[Cause, ...]
    manager_only: bool = False
    declared: bool = False


PLANTED = (
    Planted("every seventh new key is not stored", "presence", keys.SetIgnored, (Cause.SET_IGNORED,)),
    Planted("a re-set is ignored", "presence", keys.ResetIgnored, (Cause.RESET_IGNORED,)),
    Planted("every ninth get misses", "presence", keys.TransientMiss, (Cause.MISSED,)),
    Planted("a miss is answered with something", "presence", keys.Phantom, (Cause.PHANTOM,)),
    Planted(
        "pools hold one entry less",
        "presence",
        keys.resized(-1),
        (Cause.CAPACITY_OFF,),
        manager_only=True,
        declared=True,
    ),
    Planted(
        "pools hold one entry more",
        "presence",
        keys.resized(1),
        (Cause.CAPACITY_OFF,),
        manager_only=True,
        declared=True,
    ),
    Planted(
        "the youngest is evicted",
        "presence",
        keys.evicting(lambda live, _: live[-1]),
        (Cause.WRONG_EVICTION,),
        manager_only=True,
    ),
    Planted(
        "the second oldest is evicted",
        "presence",
        keys.evicting(lambda live, _: live[1]),
        (Cause.WRONG_EVICTION,),
        manager_only=True,
    ),
    Planted(
        "a random one is evicted",
        "presence",
        keys.evicting(lambda live, draw: draw.choice(live)),
        (Cause.WRONG_EVICTION,),
        manager_only=True,
    ),
    Planted("the least recently used is evicted", "presence", keys.recency, (Cause.WRONG_EVICTION,), manager_only=True),
    Planted("hierarchical asks recur first", "presence", keys.RecurFirst, (Cause.WRONG_POOL_ORDER,)),
    Planted("hierarchical never asks recur", "presence", keys.RecurNever, (Cause.WRONG_POOL_ORDER,)),
    Planted("hierarchical never asks init", "presence", keys.InitNever, (Cause.WRONG_POOL_ORDER,)),
    Planted("the recurrent clear does nothing", "presence", clears.RecurKept, (Cause.CLEAR_FORGOTTEN,)),
    Planted("the clear of one env does nothing", "presence", clears.EnvKept, (Cause.CLEAR_FORGOTTEN,)),
    Planted("clear_all forgets recur", "presence", clears.AllKeepsRecur, (Cause.CLEAR_FORGOTTEN,)),
    Planted("clear_all forgets init", "presence", clears.AllKeepsInit, (Cause.CLEAR_FORGOTTEN,)),
    Planted("the clear of one env clears all", "presence", clears.EnvClearTooWide, (Cause.CLEAR_TOO_WIDE,)),
    Planted("the recurrent clear clears init too", "presence", clears.RecurClearTooWide, (Cause.CLEAR_TOO_WIDE,)),
    Planted("only 32 bits of a key count", "value", keys.KeyTruncated, (Cause.OTHER_KEY,)),
    Planted("another key's entry is answered", "value", keys.NeighbourAnswered, (Cause.OTHER_KEY,)),
    Planted("a set overwrites another key too", "value", memory.SlotsCollide, (Cause.OTHER_KEY,), manager_only=True),
    Planted("a key that comes back holds its old entry", "value", keys.StaleVersion, (Cause.STALE_VERSION,)),
    Planted("lookups of the last env go to env 0", "value", keys.EnvMixed, (Cause.OTHER_ENV, Cause.MISSED)),
    Planted("all envs share one pool", "value", keys.EnvsShared, (Cause.OTHER_ENV,)),
    Planted("keys and values swapped", "value", storing(values.swap_kv), (Cause.LAYER_MIXED,)),
    Planted("V of one layer stored from K", "value", storing(values.v_from_k), (Cause.LAYER_MIXED,)),
    Planted("layers reversed", "value", answering(values.reverse_layers), (Cause.LAYER_MIXED,)),
    Planted("tokens reversed", "value", storing(values.each(lambda r: r.flip(2))), (Cause.TOKENS_PERMUTED,)),
    Planted("heads swapped", "value", storing(values.each(lambda r: r.flip(1))), (Cause.TOKENS_PERMUTED,)),
    Planted("samples swapped", "value", answering(values.each(lambda r: r.flip(0))), (Cause.TOKENS_PERMUTED,)),
    Planted("rounded through bfloat16", "value", storing(values.through(torch.bfloat16)), (Cause.ROUNDING,)),
    Planted("rounded through float16", "value", answering(values.through(torch.float16)), (Cause.ROUNDING,)),
    Planted("one bit flipped", "value", storing(values.flip_one_bit), (Cause.CORRUPTED,)),
    Planted("the last token is not copied", "value", storing(values.last_token_lost), (Cause.PARTIAL_COPY,)),
    Planted("only the first layer is copied", "value", values.FirstLayerOnly, (Cause.PARTIAL_COPY,)),
    Planted("NaN becomes 0", "value", storing(values.each(lambda r: r.nan_to_num(0.0))), (Cause.CORRUPTED,)),
    Planted(
        "negative zero becomes zero",
        "value",
        storing(values.each(lambda r: r + 0.0)),
        (Cause.CORRUPTED,),
    ),
    Planted("values scaled", "value", answering(values.each(lambda r: r * 1.5)), (Cause.CORRUPTED,)),
    Planted("one token cut off", "structure", storing(values.lengths(-1)), (Cause.LENGTH_OFF,)),
    Planted("one token added", "structure", answering(values.lengths(1)), (Cause.LENGTH_OFF,)),
    Planted("V one token short", "structure", storing(values.lengths(-1, "v")), (Cause.LENGTH_OFF,)),
    Planted("dtype changed", "structure", answering(values.as_double), (Cause.DTYPE_DRIFT,)),
    Planted("buffers trimmed to what is valid", "structure", answering(values.trim), (Cause.SHAPE_OFF,)),
    Planted("a layer dropped", "structure", answering(values.drop_layer), (Cause.SHAPE_OFF,)),
    Planted("answers text", "structure", answering(lambda e: "entry"), (Cause.SHAPE_OFF,)),
    Planted("stores a reference", "isolation", memory.ByReference, (Cause.ALIASED_ON_SET,), manager_only=True),
    Planted(
        "copies containers, shares tensors", "isolation", memory.ShallowCopy, (Cause.ALIASED_ON_SET,), manager_only=True
    ),
    Planted("copies V, shares K", "isolation", memory.KeysShared, (Cause.ALIASED_ON_SET,), manager_only=True),
    Planted("edits its input", "isolation", memory.InputEdited, (Cause.INPUT_EDITED,)),
    Planted(
        "answers one scratch object", "isolation", memory.ScratchAnswered, (Cause.ALIASED_ON_GET,), manager_only=True
    ),
    Planted(
        "hands out slots that it reuses",
        "isolation",
        memory.LiveSlotAnswered,
        (Cause.ALIASED_ON_GET,),
        manager_only=True,
    ),
    Planted("an entry nobody reads decays", "isolation", memory.Decay, (Cause.CORRUPTED,)),
    Planted("draws from torch's generator", "isolation", meddling(lambda: torch.rand(1)), (Cause.MEDDLED,)),
    Planted("draws from python's generator", "isolation", meddling(random.random), (Cause.MEDDLED,)),
    Planted("draws from numpy's generator", "isolation", meddling(np.random.random), (Cause.MEDDLED,)),
    Planted("switches grad mode off", "isolation", meddling(lambda: torch.set_grad_enabled(False)), (Cause.MEDDLED,)),
    Planted("raises on every set", "error", raising("store"), (Cause.RAISED,)),
    Planted("raises on every get", "error", raising("answer"), (Cause.RAISED,)),
    Planted("raises on a recurrent clear", "error", raising("clear_recur_cache"), (Cause.RAISED,)),
    Planted("raises now and then on set", "error", raising("store", 13), (Cause.RAISED,)),
)
"""Faults that are planted to see whether they are noticed."""

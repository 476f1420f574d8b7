"""Planted faults of append caches, with the cause that must be named for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reports.record.words import Cause
from validator.proof.appends.caches import GrowingCache, GrowingLayer, Windows

WINDOWS: Windows = (None, 4, None)
WHOLE: Windows = (None, None)  # crop and the like reach all of it


@dataclass(frozen=True, slots=True)
class PlantedAppend:
    """One planted fault.

    Attributes:
        name: What it does.
        family: ``value``, ``structure``, ``window``, ``rearrangement``, ``isolation`` or ``error``.
        make: Makes a cache with the fault, given its windows.
        causes: What may be named; the first is the name that fits best.
        windows: The windows of the layers.
        needs: What a host has to do, or the fault can't show; see ``validator.proof.drill.exercised``.
    """

    name: str
    family: str
    make: Callable[[Windows], Any]
    causes: tuple[Cause, ...]
    windows: Windows = WINDOWS
    needs: tuple[str, ...] = ()

    shape = "append"

    def fits(self, cache: Any) -> bool:
        """Tell whether it can be planted in a cache of a host."""
        return False


def _with(**methods: Any) -> Callable[[Windows], Any]:
    """Make a cache some of whose methods are others."""
    made = type("GrowingCache", (GrowingCache,), methods)
    return lambda windows: made(windows)


def _stores(change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Windows], Any]:
    return _with(taken=lambda self, layer, keys, values: change(layer, keys, values))


def _answers(change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Windows], Any]:
    return _with(answer=lambda self, layer, keys, values: change(layer, keys, values))


def _kept(window_off: int) -> Callable[[Windows], Any]:
    def kept(self: Any, layer: GrowingLayer, part: Tensor) -> Tensor:
        window = layer.sliding_window
        return part if window is None else part[:, :, max(0, part.shape[2] - window + 1 - window_off) :]

    return _with(kept=kept)


def _declared(window_off: int) -> Callable[[Windows], Any]:
    return lambda windows: GrowingCache(tuple(each and each + window_off for each in windows))


def _second_layer_first(self: Any, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
    """Append to layer 0 what was appended to the last layer before, when it can."""
    kept = self.__dict__.get("_kept")
    self._kept = (keys.clone(), values.clone())
    if layer_idx and kept is not None and kept[0].shape == keys.shape:
        keys, values = kept
    return GrowingCache.update(self, keys, values, layer_idx)


def _previous_token(self: Any, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    kept = self.__dict__.setdefault("_kept", {})
    before, kept[layer] = kept.get(layer), values[:, :, -1:].clone()
    if before is not None and values.shape[2] == 1 and before.shape == values.shape:
        return keys, before
    return keys, values


def _rolled(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    return keys.roll(1, 2), values.roll(1, 2)


def _flipped_rows(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    return keys.flip(0), values.flip(0)


def _one_wrong(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    keys = keys.clone()
    keys[:1, :1, -1:, :1] += 100.0
    return keys, values


def _spoiled(self: Any, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Spoil the oldest position that is held, now and then."""
    self._count = self.__dict__.get("_count", 0) + 1
    held = self.layers[layer].values
    if self._count % 7 == 0 and held is not None and held.shape[2] > 2:
        held[:, :, 0] = held[:, :, 1]
    return keys, values


def _last_overwritten(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    keys = keys.clone()
    if keys.shape[2] > 1:
        keys[:, :, -2] = keys[:, :, -1]
    return keys, values


def _zero_last_row(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.clone()
    values[-1] = 0
    return keys, values


def _with_edit(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    own = keys.clone()
    keys.mul_(2.0)
    return own, values


def _raising(self: Any, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    if keys.shape[2] > 1:
        raise ValueError("no prefill here")
    return keys, values


def _length_off(self: Any, layer_idx: int = 0) -> int:
    seen: int = self.layers[layer_idx].seen
    return seen + (seen > 3)


def _announces_one_more(self: Any, query_length: int, layer_idx: int) -> tuple[int, int]:
    length, offset = GrowingCache.get_mask_sizes(self, query_length, layer_idx)
    return length + 1, offset


def _crops(change: int) -> Callable[[Windows], Any]:
    return _with(
        cropped=lambda self, layer, count: GrowingCache.cropped(self, layer, max(0, min(layer.seen, count + change)))
    )


def _crops_keys_only(self: Any, layer: GrowingLayer, count: int) -> None:
    values = layer.values
    GrowingCache.cropped(self, layer, count)
    if values is not None and layer.values is not None:
        layer.values = values[:, :, values.shape[2] - layer.values.shape[2] :]


def _keeps_tensors(self: Any) -> None:
    for layer in self.layers:
        layer.seen = 0


def _forgets_one(self: Any) -> None:
    last, seen = self.layers[-1], self.layers[-1].seen
    kept = last.keys, last.values
    GrowingCache.reset(self)
    (last.keys, last.values), last.seen = kept, seen


def _values_stay(self: Any, rows: Tensor) -> None:
    values = [layer.values for layer in self.layers]
    GrowingCache.chosen(self, rows)
    for layer, before in zip(self.layers, values, strict=True):
        if before is not None and len(rows) == len(before):
            layer.values = before


def _tiled(self: Any, repeats: int) -> None:
    rows = next((layer.keys.shape[0] for layer in self.layers if layer.keys is not None), 0)
    self.chosen(torch.arange(rows).repeat(repeats))


def _one_memory(self: Any, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
    found = GrowingCache.update(self, keys, values, layer_idx)
    layer = self.layers[layer_idx]
    if layer.seen == keys.shape[2]:
        layer.keys, layer.values = keys, values
    return found


def _one_thread_more(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    torch.set_num_threads(torch.get_num_threads() + 1)
    return keys, values


def _cast(dtype: torch.dtype) -> Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda layer, keys, values: (keys.to(dtype).to(keys.dtype), values.to(dtype).to(values.dtype))


def _stay(self: Any, *args: Any) -> None:
    pass


PLANTED_APPENDS = (
    PlantedAppend("keys and values swapped as stored", "value", _stores(lambda _, k, v: (v, k)), (Cause.LAYER_MIXED,)),
    PlantedAppend(
        "keys and values swapped in answers", "value", _answers(lambda _, k, v: (v, k)), (Cause.LAYER_MIXED,)
    ),
    PlantedAppend(
        "a layer gets what the one before got", "value", _with(update=_second_layer_first), (Cause.LAYER_MIXED,)
    ),
    PlantedAppend("the value of the token before", "value", _with(taken=_previous_token), (Cause.POSITION_SHIFTED,)),
    PlantedAppend("answers rolled by one position", "value", _answers(_rolled), (Cause.POSITION_SHIFTED,)),
    PlantedAppend(
        "the last but one position overwritten", "value", _stores(_last_overwritten), (Cause.POSITION_SHIFTED,)
    ),
    PlantedAppend("rows of answers in reverse", "value", _answers(_flipped_rows), (Cause.OTHER_ROW,)),
    PlantedAppend("rows stored in reverse", "value", _stores(_flipped_rows), (Cause.OTHER_ROW,)),
    PlantedAppend("rounded to bfloat16", "value", _stores(_cast(torch.bfloat16)), (Cause.ROUNDING,)),
    PlantedAppend("rounded to float16", "value", _stores(_cast(torch.float16)), (Cause.ROUNDING,)),
    PlantedAppend("rounded to eight bits", "value", _stores(_cast(torch.float8_e4m3fn)), (Cause.ROUNDING,)),
    PlantedAppend("one number wrong", "value", _stores(_one_wrong), (Cause.CORRUPTED,)),
    PlantedAppend("an old position spoiled later", "value", _with(taken=_spoiled), (Cause.POSITION_SHIFTED,)),
    PlantedAppend("the last row stays zero", "value", _stores(_zero_last_row), (Cause.PARTIAL_COPY,)),
    PlantedAppend("heads in another order", "value", _stores(lambda _, k, v: (k.flip(1), v)), (Cause.TOKENS_PERMUTED,)),
    PlantedAppend("a window one short", "window", _kept(-1), (Cause.WINDOW_OFF,)),
    PlantedAppend("a window two short", "window", _kept(-2), (Cause.WINDOW_OFF,)),
    PlantedAppend("a window one too wide", "window", _kept(1), (Cause.WINDOW_OFF,)),
    PlantedAppend("a window declared one short", "window", _declared(-1), (Cause.WINDOW_OFF,)),
    PlantedAppend(
        "one column too few",
        "structure",
        _answers(lambda _, k, v: (k[:, :, 1:], v[:, :, 1:])),
        (Cause.COLUMNS_OFF, Cause.WINDOW_OFF),
        WHOLE,
    ),
    PlantedAppend(
        "one column more than announced",
        "structure",
        _with(get_mask_sizes=_announces_one_more),
        (Cause.COLUMNS_OFF,),
        WHOLE,
    ),
    PlantedAppend(
        "another dtype", "structure", _answers(lambda _, k, v: (k.double(), v.double())), (Cause.DTYPE_DRIFT,)
    ),
    PlantedAppend("one head less", "structure", _answers(lambda _, k, v: (k[:, 1:], v[:, 1:])), (Cause.SHAPE_OFF,)),
    PlantedAppend("answers nothing", "structure", _with(answer=_stay), (Cause.SHAPE_OFF,)),
    PlantedAppend(
        "a length one too great", "structure", _with(get_seq_length=_length_off), (Cause.LENGTH_OFF, Cause.NOT_CROPPED)
    ),
    PlantedAppend("crop does nothing", "rearrangement", _with(crop=_stay), (Cause.NOT_CROPPED,), WHOLE),
    PlantedAppend("crop drops one too few", "rearrangement", _crops(-1), (Cause.NOT_CROPPED,), WHOLE),
    PlantedAppend("crop drops one too many", "rearrangement", _crops(1), (Cause.LENGTH_OFF,), WHOLE),
    PlantedAppend(
        "crop drops the first values",
        "rearrangement",
        _with(cropped=_crops_keys_only),
        (Cause.POSITION_SHIFTED, Cause.NOT_CROPPED),
        WHOLE,
    ),
    PlantedAppend("reset does nothing", "rearrangement", _with(reset=_stay), (Cause.KEPT_ACROSS_RESET,)),
    PlantedAppend(
        "reset keeps the tensors",
        "rearrangement",
        _with(reset=_keeps_tensors),
        (Cause.COLUMNS_OFF, Cause.KEPT_ACROSS_RESET, Cause.RAISED),
    ),
    PlantedAppend("reset forgets a layer", "rearrangement", _with(reset=_forgets_one), (Cause.KEPT_ACROSS_RESET,)),
    PlantedAppend("beams are not reordered", "rearrangement", _with(reorder_cache=_stay), (Cause.OTHER_ROW,)),
    PlantedAppend("values are not reordered", "rearrangement", _with(chosen=_values_stay), (Cause.OTHER_ROW,)),
    PlantedAppend(
        "beams are reordered backwards",
        "rearrangement",
        _with(reorder_cache=lambda self, rows: self.chosen(rows.flip(0))),
        (Cause.OTHER_ROW,),
    ),
    PlantedAppend(
        "tiled instead of interleaved", "rearrangement", _with(batch_repeat_interleave=_tiled), (Cause.OTHER_ROW,)
    ),
    PlantedAppend(
        "selected in order of rows",
        "rearrangement",
        _with(batch_select_indices=lambda self, rows: self.chosen(rows.sort().values)),
        (Cause.OTHER_ROW,),
    ),
    PlantedAppend("writes into its input", "isolation", _stores(_with_edit), (Cause.INPUT_EDITED,)),
    PlantedAppend("keeps its input itself", "isolation", _with(update=_one_memory), (Cause.ALIASED_ON_SET,)),
    PlantedAppend("one thread more at each update", "isolation", _stores(_one_thread_more), (Cause.MEDDLED,)),
    PlantedAppend("raises at a prefill", "error", _with(taken=_raising), (Cause.RAISED,)),
)

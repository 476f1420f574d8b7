"""Planted faults of append caches, with the cause that must be named for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reports.record.words import Cause, Fault
from validator.proof.appends.breaking import Change, Parts, answers, remembering, stores, with_verbs
from validator.proof.appends.caches import GrowingCache, GrowingLayer, Windows
from validator.proof.faults.acts import acted
from validator.proof.faults.become import can_become
from validator.proof.faults.wrapped import Make

WINDOWS: Windows = (None, 4, None)
WHOLE: Windows = (None, None)  # crop and the like reach all of it


@dataclass(frozen=True, slots=True)
class PlantedAppend:
    """One planted fault.

    Attributes:
        name: What it does.
        family: ``value``, ``structure``, ``window``, ``rearrangement``, ``isolation`` or ``error``.
        make: Breaks a sound cache.
        causes: What may be named; the first is the name that fits best.
        windows: The windows of the layers that it is played on.
        general: Whether any append cache can have it; else one of ``GrowingCache`` alone, into which it reaches.
        needs: What a host has to do, or the fault can't show; see ``validator.proof.drill.exercised``.
    """

    name: str
    family: str
    make: Make
    causes: tuple[Cause, ...]
    windows: Windows = WINDOWS
    general: bool = True
    needs: tuple[str, ...] = ()

    shape = "append"
    side = Fault.CANDIDATE

    def fits(self, cache: Any) -> bool:
        """Tell whether it can be planted in a cache of a host."""
        return can_become(cache) and (self.general or isinstance(cache, GrowingCache))


def _kept(window_off: int) -> Make:
    def kept(own: Any, self: Any, layer: GrowingLayer, part: Tensor) -> Tensor:
        window = layer.sliding_window
        return part if window is None else part[:, :, max(0, part.shape[2] - window + 1 - window_off) :]

    return with_verbs(kept=kept)


def _declared(window_off: int) -> Make:
    def make(sound: Any) -> Any:
        for layer in sound.layers:
            layer.sliding_window = layer.sliding_window and layer.sliding_window + window_off
        return sound

    return make


def _second_layer_first(before: dict[int, Parts], layer: int, keys: Tensor, values: Tensor) -> Parts:
    """Append to each layer but the first what was appended to the one before, when it can."""
    kept, before[0] = before.get(0), (keys.clone(), values.clone())
    return kept if layer and kept is not None and kept[0].shape == keys.shape else (keys, values)


def _previous_token(before: dict[int, Parts], layer: int, keys: Tensor, values: Tensor) -> Parts:
    kept, before[layer] = before.get(layer), (keys, values[:, :, -1:].clone())
    if kept is not None and values.shape[2] == 1 and kept[1].shape == values.shape:
        return keys, kept[1]
    return keys, values


def _rolled(layer: int, keys: Tensor, values: Tensor) -> Parts:
    return keys.roll(1, 2), values.roll(1, 2)


def _flipped_rows(layer: int, keys: Tensor, values: Tensor) -> Parts:
    return keys.flip(0), values.flip(0)


def _one_wrong(layer: int, keys: Tensor, values: Tensor) -> Parts:
    keys = keys.clone()
    keys[:1, :1, -1:, :1] += 100.0
    return keys, values


def _spoiled(own: Any, self: Any, layer: int, keys: Tensor, values: Tensor) -> Parts:
    """Spoil the oldest position that is held, now and then."""
    self._count = self.__dict__.get("_count", 0) + 1
    held = self.layers[layer].values
    if self._count % 7 == 0 and held is not None and held.shape[2] > 2:
        held[:, :, 0] = held[:, :, 1]
    return keys, values


def _last_overwritten(layer: int, keys: Tensor, values: Tensor) -> Parts:
    keys = keys.clone()
    if keys.shape[2] > 1:
        keys[:, :, -2] = keys[:, :, -1]
    return keys, values


def _zero_last_row(layer: int, keys: Tensor, values: Tensor) -> Parts:
    values = values.clone()
    values[-1] = 0
    return keys, values


def _with_edit(layer: int, keys: Tensor, values: Tensor) -> Parts:
    own = keys.clone()
    keys.mul_(2.0)
    return own, values


def _raising(layer: int, keys: Tensor, values: Tensor) -> Parts:
    if keys.shape[2] > 1:
        acted()
        raise ValueError("no prefill here")
    return keys, values


def _length_off(own: Any, self: Any, *layer_idx: int) -> int:
    seen: int = own.get_seq_length(self, *layer_idx)
    acted(seen > 3)
    return seen + (seen > 3)


def _announces_one_more(own: Any, self: Any, *asked: Any) -> tuple[int, int]:
    length, offset = own.get_mask_sizes(self, *asked)
    acted()
    return length + 1, offset


def _crops(change: int) -> Make:
    return with_verbs(
        cropped=lambda own, self, layer, n: own.cropped(self, layer, max(0, min(layer.seen, n + change))),
    )


def _crops_keys_only(own: Any, self: Any, layer: GrowingLayer, count: int) -> None:
    values = layer.values
    own.cropped(self, layer, count)
    if values is not None and layer.values is not None:
        layer.values = values[:, :, values.shape[2] - layer.values.shape[2] :]


def _keeps_tensors(own: Any, self: Any) -> None:
    for layer in self.layers:
        layer.seen = 0


def _forgets_one(own: Any, self: Any) -> None:
    last, seen = self.layers[-1], self.layers[-1].seen
    kept = last.keys, last.values
    own.reset(self)
    (last.keys, last.values), last.seen = kept, seen


def _values_stay(own: Any, self: Any, rows: Tensor) -> None:
    values = [layer.values for layer in self.layers]
    own.chosen(self, rows)
    for layer, before in zip(self.layers, values, strict=True):
        if before is not None and len(rows) == len(before):
            layer.values = before


def _tiled(own: Any, self: Any, repeats: int) -> None:
    rows = next((layer.keys.shape[0] for layer in self.layers if layer.keys is not None), 0)
    self.chosen(torch.arange(rows).repeat(repeats))


def _one_memory(own: Any, self: Any, keys: Tensor, values: Tensor, layer_idx: int) -> Any:
    found = own.update(self, keys, values, layer_idx)
    layer = self.layers[layer_idx]
    if layer.seen == keys.shape[2]:
        layer.keys, layer.values = keys, values
    return found


def _one_thread_more(layer: int, keys: Tensor, values: Tensor) -> Parts:
    torch.set_num_threads(torch.get_num_threads() + 1)
    acted()
    return keys, values


def _cast(dtype: torch.dtype) -> Change:
    return lambda layer, keys, values: (keys.to(dtype).to(keys.dtype), values.to(dtype).to(values.dtype))


def _stay(own: Any, self: Any, *args: Any) -> None:
    acted()


PLANTED_APPENDS = (
    PlantedAppend("keys and values swapped as stored", "value", stores(lambda _, k, v: (v, k)), (Cause.LAYER_MIXED,)),
    PlantedAppend("keys and values swapped in answers", "value", answers(lambda _, k, v: (v, k)), (Cause.LAYER_MIXED,)),
    PlantedAppend(
        "a layer gets what the one before got",
        "value",
        remembering(_second_layer_first),
        (Cause.LAYER_MIXED,),
        needs=("layers",),
    ),
    PlantedAppend("the value of the token before", "value", remembering(_previous_token), (Cause.POSITION_SHIFTED,)),
    PlantedAppend("answers rolled by one position", "value", answers(_rolled), (Cause.POSITION_SHIFTED,)),
    PlantedAppend(
        "the last but one position overwritten", "value", stores(_last_overwritten), (Cause.POSITION_SHIFTED,)
    ),
    PlantedAppend("rows of answers in reverse", "value", answers(_flipped_rows), (Cause.OTHER_ROW,)),
    PlantedAppend("rows stored in reverse", "value", stores(_flipped_rows), (Cause.OTHER_ROW,)),
    PlantedAppend("rounded to bfloat16", "value", stores(_cast(torch.bfloat16)), (Cause.ROUNDING,)),
    PlantedAppend("rounded to float16", "value", stores(_cast(torch.float16)), (Cause.ROUNDING,)),
    PlantedAppend("rounded to eight bits", "value", stores(_cast(torch.float8_e4m3fn)), (Cause.ROUNDING,)),
    PlantedAppend("one number wrong", "value", stores(_one_wrong), (Cause.CORRUPTED,)),
    PlantedAppend(
        "an old position spoiled later", "value", with_verbs(taken=_spoiled), (Cause.POSITION_SHIFTED,), general=False
    ),
    PlantedAppend("the last row stays zero", "value", stores(_zero_last_row), (Cause.PARTIAL_COPY,)),
    PlantedAppend("heads in another order", "value", stores(lambda _, k, v: (k.flip(1), v)), (Cause.TOKENS_PERMUTED,)),
    PlantedAppend("a window one short", "window", _kept(-1), (Cause.WINDOW_OFF,), general=False),
    PlantedAppend("a window two short", "window", _kept(-2), (Cause.WINDOW_OFF,), general=False),
    PlantedAppend("a window one too wide", "window", _kept(1), (Cause.WINDOW_OFF,), general=False),
    PlantedAppend("a window declared one short", "window", _declared(-1), (Cause.WINDOW_OFF,), general=False),
    PlantedAppend(
        "one column too few",
        "structure",
        answers(lambda _, k, v: (k[:, :, 1:], v[:, :, 1:])),
        (Cause.COLUMNS_OFF, Cause.WINDOW_OFF),
        WHOLE,
    ),
    PlantedAppend(
        "one column more than announced",
        "structure",
        with_verbs(get_mask_sizes=_announces_one_more),
        (Cause.COLUMNS_OFF,),
        WHOLE,
    ),
    PlantedAppend(
        "another dtype", "structure", answers(lambda _, k, v: (k.double(), v.double())), (Cause.DTYPE_DRIFT,)
    ),
    PlantedAppend("one head less", "structure", answers(lambda _, k, v: (k[:, 1:], v[:, 1:])), (Cause.SHAPE_OFF,)),
    PlantedAppend("answers nothing", "structure", answers(lambda *_: None), (Cause.SHAPE_OFF,)),
    PlantedAppend(
        "a length one too great",
        "structure",
        with_verbs(get_seq_length=_length_off),
        (Cause.LENGTH_OFF, Cause.NOT_CROPPED),
    ),
    PlantedAppend(
        "crop does nothing", "rearrangement", with_verbs(crop=_stay), (Cause.NOT_CROPPED,), WHOLE, needs=("crop",)
    ),
    PlantedAppend("crop drops one too few", "rearrangement", _crops(-1), (Cause.NOT_CROPPED,), WHOLE, False),
    PlantedAppend("crop drops one too many", "rearrangement", _crops(1), (Cause.LENGTH_OFF,), WHOLE, False),
    PlantedAppend(
        "crop drops the first values",
        "rearrangement",
        with_verbs(cropped=_crops_keys_only),
        (Cause.POSITION_SHIFTED, Cause.NOT_CROPPED),
        WHOLE,
        False,
    ),
    PlantedAppend(
        "reset does nothing", "rearrangement", with_verbs(reset=_stay), (Cause.KEPT_ACROSS_RESET,), needs=("reset",)
    ),
    PlantedAppend(
        "reset keeps the tensors",
        "rearrangement",
        with_verbs(reset=_keeps_tensors),
        (Cause.COLUMNS_OFF, Cause.KEPT_ACROSS_RESET, Cause.RAISED),
        general=False,
    ),
    PlantedAppend(
        "reset forgets a layer",
        "rearrangement",
        with_verbs(reset=_forgets_one),
        (Cause.KEPT_ACROSS_RESET,),
        general=False,
    ),
    PlantedAppend(
        "beams are not reordered",
        "rearrangement",
        with_verbs(reorder_cache=_stay),
        (Cause.OTHER_ROW,),
        needs=("reorder_cache",),
    ),
    PlantedAppend(
        "values are not reordered", "rearrangement", with_verbs(chosen=_values_stay), (Cause.OTHER_ROW,), general=False
    ),
    PlantedAppend(
        "beams are reordered backwards",
        "rearrangement",
        with_verbs(reorder_cache=lambda own, self, rows: own.reorder_cache(self, rows.flip(0))),
        (Cause.OTHER_ROW,),
        needs=("reorder_cache",),
    ),
    PlantedAppend(
        "tiled instead of interleaved",
        "rearrangement",
        with_verbs(batch_repeat_interleave=_tiled),
        (Cause.OTHER_ROW,),
        general=False,
    ),
    PlantedAppend(
        "selected in order of rows",
        "rearrangement",
        with_verbs(batch_select_indices=lambda own, self, rows: own.batch_select_indices(self, rows.sort().values)),
        (Cause.OTHER_ROW,),
        needs=("batch_select_indices",),
    ),
    PlantedAppend("writes into its input", "isolation", stores(_with_edit), (Cause.INPUT_EDITED,)),
    PlantedAppend(
        "keeps its input itself", "isolation", with_verbs(update=_one_memory), (Cause.ALIASED_ON_SET,), general=False
    ),
    PlantedAppend("one thread more at each update", "isolation", stores(_one_thread_more), (Cause.MEDDLED,)),
    PlantedAppend("raises at a prefill", "error", stores(_raising), (Cause.RAISED,)),
)

"""Does to the model of an append cache what rearranges both sides (a crop, a reset, other rows), and judges it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import numpy as np
from torch import Tensor

from shadow.operation import Observation
from validator.judge.charge import Place
from validator.observe.appends import Appends
from validator.observe.contents import Contents
from validator.observe.layers import LayersSide
from validator.observe.standing import Standing
from validator.observe.states import States

_ALLOWED_TO_LACK: Final = (
    AttributeError,
    NotImplementedError,
)  # by a side that says that it has no such verb


class Rearrangements:
    """Judges what rearranges one pair.

    Args:
        standing: Where both sides stand.
        contents: Reads what their layers hold.
        appends: Judges appends.
        states: Judges states.
    """

    def __init__(self, standing: Standing, contents: Contents, appends: Appends, states: States) -> None:
        self._standing = standing
        self._contents = contents
        self._appends = appends
        self._states = states
        self._case = standing.case
        self._model = standing.model
        self._incomparable: set[str] = set()

    def rearranged(self, seen: Observation, staged: Any) -> None:
        """Do the same to the model, and look at everything."""
        case, method = self._case, seen.operation.method
        errors = (seen.control_error, seen.candidate_error)
        case.ledger.recent.append((seen.op_index, seen.operation.name, None, None, _written(staged)))
        case.counters.coverage[method] += 1
        if errors != (None, None) and {*self._model.layers, *self._states.layers} <= self._standing.lost:
            return  # the sides are apart already, and not by anybody's fault
        if None not in errors:
            self._standing.raised(seen, None, errors, method)
            return
        if errors != (None, None):
            side, error = (case.control, errors[0]) if errors[0] is not None else (case.candidate, errors[1])
            if self._declares_it_cannot(side, method, error):
                self._not_comparable(side, method)
                return
            self._standing.raised(seen, None, errors, method)
        if method == "reset":
            self._standing.reset()
        place = Place(seen.op_index, seen.operation.name, "layers")
        value: Any = next(iter((*staged, *getattr(staged, "named", {}).values())), None)
        with suppress(IndexError):  # a host that asks for rows that are not there
            self._do(method, value)
            self._states.rearranged(method, value, place)
        self._contents.restamp()
        self._contents.audit(place, method)
        self._appends.all_due()

    def _do(self, method: str, value: Any) -> None:
        for layer, table in self._model.layers.items():
            if not table.length:
                continue
            if method == "reset":
                table.reset()
            elif method == "crop":
                self._crop(layer, int(value))
            elif method == "batch_repeat_interleave":
                table.take(method, np.arange(table.rows).repeat(value))
            elif method in ("reorder_cache", "batch_select_indices"):
                table.take(method, value.detach().cpu().numpy() if isinstance(value, Tensor) else value)

    def _crop(self, layer: int, asked: int) -> None:
        """A negative number is how many go, a positive one how many stay; what 0 means, the control's version says."""
        table = self._model.layers[layer]
        if asked < 0:
            table.crop(table.length + asked)
        elif asked > 0 or self._case.control.crop_zero_empties:
            table.crop(asked)

    def _declares_it_cannot(self, side: LayersSide, method: str, error: BaseException | None) -> bool:
        """Tell whether a side that raised says of itself that it can't do this."""
        if isinstance(error, _ALLOWED_TO_LACK):
            return True
        if method != "crop":
            return False
        beyond = (
            window is not None and table.length >= window
            for layer, table in self._model.layers.items()
            for window in [side.window(layer)]
        )
        return getattr(side.cache, "is_croppable", True) is False or any(beyond)

    def _not_comparable(self, side: LayersSide, method: str) -> None:
        """Note that a side can't follow: it is not at fault, and nothing can be compared until a reset."""
        case = self._case
        if method not in self._incomparable:
            self._incomparable.add(method)
            told = f"{case.name}: the {side.label} declares that it can't {method}; nothing is compared until a reset"
            case.sink.event("not_comparable", told)
        case.counters.coverage[f"not comparable: {method}"] += 1
        for layer in (*self._model.layers, *self._states.layers):
            self._standing.lose(layer)


def _written(args: Any) -> str:
    value = next(iter(args or ()), None)
    if isinstance(value, Tensor):
        value = value.flatten()[:8].tolist()
    return "" if value is None else f"{value}"[:80]

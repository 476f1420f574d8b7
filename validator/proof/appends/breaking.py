"""How is a sound append cache broken: by what its updates are given, by what they answer, or by other methods?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from validator.proof.faults.acts import acted
from validator.proof.faults.become import become
from validator.proof.faults.wrapped import Make

Parts = tuple[Tensor, Tensor]
"""Keys and values."""

Change = Callable[[int, Tensor, Tensor], Parts]
"""Changes keys and values of one layer."""


def with_verbs(**verbs: Callable[..., Any]) -> Make:
    """Break a cache some of whose methods are others; each is given the sound class first."""
    return lambda sound: become(sound, **verbs)


def _differ(some: Parts, others: Any) -> bool:
    """Tell whether what is answered or stored is another than what would be."""
    return type(others) is not tuple or any(
        one.shape != other.shape or one.dtype != other.dtype or not torch.equal(one, other)
        for one, other in zip(some, others, strict=True)
    )


def stores(change: Change) -> Make:
    """Break what is stored: an update is given other keys and values."""

    def update(own: Any, self: Any, keys: Tensor, values: Tensor, layer_idx: int, *more: Any, **named: Any) -> Any:
        given = keys.clone(), values.clone()
        stored = change(layer_idx, keys, values)
        acted(_differ(given, stored) or _differ(given, (keys, values)))
        return own.update(self, *stored, layer_idx, *more, **named)

    return with_verbs(update=update)


def answers(change: Callable[[int, Tensor, Tensor], Any]) -> Make:
    """Break what an update answers."""

    def update(own: Any, self: Any, keys: Tensor, values: Tensor, layer_idx: int, *more: Any, **named: Any) -> Any:
        found = own.update(self, keys, values, layer_idx, *more, **named)
        answered = change(layer_idx, *found)
        acted(_differ(found, answered))
        return answered

    return with_verbs(update=update)


def remembering(change: Callable[[dict[int, Parts], int, Tensor, Tensor], Parts]) -> Make:
    """Break what is stored by what was given before, layer by layer."""

    def make(sound: Any) -> Any:
        before: dict[int, Parts] = {}
        return stores(lambda layer, keys, values: change(before, layer, keys, values))(sound)

    return make

"""How one side of an append cache is asked for what it announces, and read where its layers keep their tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from shadow.outside import from_outside
from shadow.wrapper.doors.append import Held
from validator.judge.side import Report, Side

Stamp = tuple[int, int] | None  # where a tensor lies, and its version
Where = tuple[int, str, int]  # which state: of which layer, of which kind, and its index


class LayersSide(Side):
    """One side.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache, as its own class has it.
        kind: Name of its class.
        report: Told of what it raises, answers that can't be, or does to the process.

    Attributes:
        apart: Layers where it is known to hold something else than was appended.
        opaque: Layers whose tensors are not laid out as the library lays them out: only what it answers is compared.
    """

    def __init__(self, name: str, cache: Any, kind: str, report: Report) -> None:
        super().__init__(name, cache, report)
        self.label = f"{name} ({kind})"
        self.apart: set[int] = set()
        self.opaque: set[int] = set()
        self._read: set[int] = set()  # layers whose tensors were found where they were looked for
        self._by_position = _takes(cache, "get_mask_sizes", "cache_position")
        self.crop_zero_empties = _takes(cache, "crop", "max_length")

    def announced(self, layer: int, seen: int, new: int, device: torch.device) -> tuple[int, int] | None:
        """Return how many columns the side is going to answer, and the first one's position; None if it raised."""
        if layer in self.apart:
            return None  # what it answers is not looked at
        try:
            if self._by_position:
                asked: Any = torch.arange(seen, seen + new, device=device)
            else:
                asked = new
            length, offset = self.cache.get_mask_sizes(asked, layer)
            return int(length), int(offset)
        except BaseException as error:
            if from_outside(error):
                raise
            self.misbehaved("get_mask_sizes", error)
            return None

    def length(self, layer: int) -> int | None:
        """Return how many tokens the side says that a layer has seen; None if it can't be asked.

        A layer that works it out of what it holds (that of a static cache before transformers 5 counts the columns that
        aren't zero) has no length that could be wrong.
        """
        if not hasattr(self.layer(layer) or self.cache, "get_seq_length"):
            return None  # one that keeps a state instead of tokens
        try:
            said = self.cache.get_seq_length(layer)
            if isinstance(said, Tensor) and not any(said is each for each in vars(self.layer(layer)).values()):
                return None
            return int(said)
        except BaseException as error:
            if from_outside(error):
                raise
            self.misbehaved("get_seq_length", error)
            return None

    def window(self, layer: int) -> int | None:
        """Return the window that the side declares for a layer; None for one that keeps everything."""
        one = self.layer(layer)
        window = getattr(one, "sliding_window", None)
        if window is None and getattr(one, "is_sliding", False):
            window = getattr(one, "max_cache_len", None)
        return window if type(window) is int else None

    def layer(self, layer: int) -> Any:
        """Return a layer, or None."""
        cache = self.cache.alive() if type(self.cache) is Held else self.cache
        try:
            return cache.layers[layer]
        except (AttributeError, IndexError, TypeError, KeyError):  # it keeps its tensors otherwise, or not yet
            return None

    def held(self, layer: int, seen: int) -> tuple[Tensor, Tensor, int] | None:
        """Return the keys and values that a layer holds and the position of the first, or None if they can't be read.

        A layer that has room for all keeps position ``j`` in column ``j``; one that hasn't keeps the last ones.
        """
        one = self.layer(layer)
        keys, values = (getattr(one, name, None) for name in ("keys", "values"))
        if not (isinstance(keys, Tensor) and isinstance(values, Tensor)) or keys.ndim != 4 or values.ndim != 4:
            return None
        return keys, values, max(0, seen - keys.shape[2])

    def states(self, layer: int) -> dict[Where, Tensor]:
        """Return the states that a layer keeps where transformers' layers do; rows first."""
        one, found = self.layer(layer), {}
        for name in ("conv_states", "recurrent_states"):
            kept = getattr(one, name, None)
            for index, state in kept.items() if isinstance(kept, dict) else ((0, kept),):
                if isinstance(state, Tensor):
                    found[layer, name, index] = state
        return found

    def has_state(self, layer: int) -> bool:
        """Tell whether a model would use a state of a layer, as far as the side says so."""
        try:
            return bool(self.cache.has_previous_state(layer))
        except BaseException as error:
            if from_outside(error):
                raise
            return True

    def stateful(self) -> list[int]:
        """Return the layers that keep a state which a model would use."""
        return [layer for layer in self._layers() if self.states(layer) and self.has_state(layer)]

    def lengths(self) -> list[int]:
        """Return how many tokens each layer says that it has seen."""
        return [self.length(layer) or 0 for layer in self._layers()]

    def _layers(self) -> range:
        return range(len(getattr(self.cache, "layers", ())))

    def all_held(self, layer: int, seen: int) -> tuple[Tensor, Tensor] | None:
        """Return the keys and values of all tokens that a layer has seen, or None if it no longer holds them."""
        held = self.held(layer, seen)
        if held is None or held[2]:
            return None
        keys, values, _ = held
        return keys[:, :, :seen], values[:, :, :seen]

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Append what the other side holds."""
        try:
            self.cache.update(keys, values, layer)
        except BaseException as error:
            if from_outside(error):
                raise
            self.misbehaved("update", error)

    def stamps(self, layer: int) -> list[Stamp]:
        """Return what changes when somebody writes into the tensors of a layer; None where nobody counts."""
        one = self.layer(layer)
        return [
            (tensor.data_ptr(), tensor._version) if isinstance(tensor, Tensor) and not tensor.is_inference() else None
            for tensor in (getattr(one, "keys", None), getattr(one, "values", None))
        ]

    def readable(self, layer: int) -> bool:
        """Tell whether what a layer holds can be read."""
        return layer in self._read

    def was_read(self, layer: int, as_appended: bool) -> None:
        """Note whether the tensors of a layer were found to hold what was appended, where they were looked for."""
        (self._read if as_appended else self.opaque).add(layer)

    def begin_as(self, other: LayersSide) -> None:
        """Know what is known of the side that this one's cache is a copy of."""
        self.apart, self.opaque, self._read = set(other.apart), set(other.opaque), set(other._read)


def versions(tensors: Iterable[Tensor]) -> list[int | None]:
    """Return the version of each, which grows when somebody writes into it; None where nobody counts."""
    return [None if tensor.is_inference() else tensor._version for tensor in tensors]


def _takes(cache: Any, method: str, parameter: str) -> bool:
    """Tell whether a method has a parameter of this name."""
    found: Callable[..., Any] | None = getattr(cache, method, None)
    try:
        return found is not None and parameter in inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False

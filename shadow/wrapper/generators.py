"""The process's generators of random numbers: whether one was drawn from, and how it is put back.

Copying out a generator takes up to 50 us, comparing its memory one: while that lies unchanged, so does the rest.
"""

from __future__ import annotations

import ctypes
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

uses_cuda: Callable[[], bool] = torch.cuda.is_initialized


def _torch_generator() -> bytes:
    with torch._C.DisableTorchFunction():  # whatever mode a side left behind
        return torch.default_generator.get_state().numpy().tobytes()


def _tensor(state: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(state, dtype=np.uint8).copy())


def _remembered(memory: Callable[[], Any], read: Callable[[], Any]) -> Callable[[], Any]:
    """Return a reading that is taken anew only where the memory behind it has changed."""
    last: tuple[Any, Any] = None, None

    def look() -> Any:
        nonlocal last
        now = memory()
        before, state = last
        if now != before:
            state = read()
            last = now, state
        return state

    return look


def _body(instance: object) -> bytes:
    """Return the memory of an object, but for its reference count and type."""
    head = object.__basicsize__
    return ctypes.string_at(id(instance) + head, type(instance).__basicsize__ - head)


def _python_memory() -> Any:
    return _body(random._inst), random._inst.gauss_next  # type: ignore[attr-defined] # left out of its stub


def _numpy_memory() -> Any:
    generator: Any = np.random.mtrand._rand
    source = generator._bit_generator
    if type(source) is not np.random.MT19937:
        return object()  # equals nothing, so that it is always read
    # The body holds the second of two normals, which is drawn without a change of the source: its key and position.
    return _body(generator), ctypes.string_at(source.ctypes.state_address, 4 * (624 + 1))


@dataclass(frozen=True, slots=True)
class _NumpyState:
    """What NumPy's generator is put back to, and the same as text: arrays can't be told equal by one word."""

    text: str
    state: Any = field(compare=False)


def _numpy_generator() -> _NumpyState:
    state = np.random.get_state(legacy=False)
    return _NumpyState(json.dumps(state, default=np.ndarray.tolist), state)


def _set_numpy_generator(before: _NumpyState) -> None:
    np.random.set_state(before.state)


def _cuda_generators() -> Any:
    if not uses_cuda():
        return ()
    with torch._C.DisableTorchFunction():
        return tuple(each.get_state().numpy().tobytes() for each in torch.cuda.default_generators)


def _set_cuda_generators(before: Any) -> None:
    for generator, state in zip(torch.cuda.default_generators, before, strict=True):
        generator.set_state(_tensor(state))


# Name, how it is read, how it is put back.
ALL: tuple[tuple[str, Callable[[], Any], Callable[[Any], object]], ...] = (
    ("torch generator", _torch_generator, lambda before: torch.default_generator.set_state(_tensor(before))),
    ("python generator", _remembered(_python_memory, random.getstate), random.setstate),
    ("numpy generator", _remembered(_numpy_memory, _numpy_generator), _set_numpy_generator),
    ("CUDA generators", _cuda_generators, _set_cuda_generators),
)

"""How much memory hangs on a cache: tensors that can be reached from it, whatever it says of itself.

No code of a stranger is run: what an object refers to is asked of the garbage collector.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from inspect import getattr_static
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

_MOST_OBJECTS = 1 << 18  # that are looked at; beyond, what was found is at least what there is
# What leads out of a cache, or to nothing.
_STOPS = {
    id(each)
    for each in (
        *(type, ModuleType, CodeType, FrameType, str, bytes, int, float, bool, type(None), weakref.ReferenceType),
        *(torch.nn.Module, torch.dtype, torch.device, logging.Logger, logging.Handler, threading.Thread),
    )
}
_ancestors = type.__dict__["__mro__"].__get__  # asks no metaclass
_SCRATCH = ("keys_values_wm_list", "keys_values_wm_size_list")  # the host's own, by the interface


def reachable(cache: Any) -> tuple[int, int]:
    """Count what can be reached from a cache.

    Args:
        cache: Any object. Modules, classes and neural networks are not entered, functions only for what they enclose,
            and the scratch lists that the interface gives to the host not at all.

    Returns:
        Bytes of all tensors, each storage counted once, and how many objects were met; there are at least so many of
        both where these are more than a quarter of a million.
    """
    storages: dict[int, int] = {}
    seen = {id(each) for each in _scratch(cache)}
    follows: dict[int, int] = {}  # by the id of a type: 0 to stop at, 1 to enter, 2 for a tensor
    found: list[Any] = [cache]
    kept = []  # so that no id comes back as that of another object
    with torch._C.DisableTorchFunctionSubclass():
        while found and len(seen) < _MOST_OBJECTS:
            entered = []
            for each in found:
                kind = type(each)
                follow = follows.get(id(kind))
                if follow is None:
                    follow = follows[id(kind)] = _follow(kind)
                if not follow or id(each) in seen:
                    continue
                seen.add(id(each))
                entered.append(each.__closure__ if kind is FunctionType else each)
                if follow == 2:
                    _count(each, storages)
            kept.append(entered)
            found = gc.get_referents(*entered)
    return sum(storages.values()), len(seen)


def _follow(kind: type) -> int:
    ancestors = set(map(id, _ancestors(kind)))
    return 2 if id(Tensor) in ancestors else int(_STOPS.isdisjoint(ancestors))


def _scratch(cache: Any) -> list[Any]:
    return [getattr_static(cache, name, None) for name in _SCRATCH]


def _count(tensor: Tensor, storages: dict[int, int]) -> None:
    try:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    except Exception:  # one without memory of its own: fake, sparse, on no device
        return

"""What the training stands on process-wide (generators, modes, limits): sees a side change it, and puts it back.

A change between two looks can't be undone; the report says how many operations were looked at.
"""

from __future__ import annotations

import gc
import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from shadow.outside import handler_of
from shadow.wrapper import generators

State = tuple[Any, ...]
_SIGNALS = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("HUP", "INT", "TERM", "ALRM", "USR1", "USR2", "CHLD")
    if hasattr(signal, f"SIG{name}")
)
_TINY = 5e-324
_ENVIRONMENT: Any = vars(os.environ)["_data"]  # the dict behind it, in which nothing is decoded


class Part(NamedTuple):
    """One thing that is looked at.

    Attributes:
        name: What a report calls it.
        read: Returns it, as something that equals only its like.
        put_back: Makes it what was read; None where nothing can.
    """

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], Any] | None


class _Same(tuple[Any, ...]):
    """Objects that equal only themselves, whatever their classes say."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and len(self) == len(other) and all(map(is_, self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


class _AtLeast(dict[Any, Any]):
    """Variables that equal any others that hold all of these: what a lazy import adds changes no training."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self.items() <= other.items()

    def __ne__(self, other: object) -> bool:
        return not self == other


# -- how parts are read and put back that have no function of their own ------------------------------------------------

_inference = threading.local()


def _set_inference_mode(enabled: bool) -> None:
    # A guard sets what it is made for, and when it goes what was before it: so it is held until the next one comes.
    held = getattr(_inference, "guard", None)
    if held is not None:
        held.__exit__(None, None, None)
    guard: Any = torch._C._InferenceMode(enabled)
    _inference.guard = guard
    guard.__enter__()


def _default_device() -> Any:
    return _Same((getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), _device.CURRENT_DEVICE))


def _set_default_device(before: Any) -> None:
    torch._GLOBAL_DEVICE_CONTEXT.device_context, _device.CURRENT_DEVICE = before


def _stack(name: str, read: Callable[[], Sequence[Any]], functions: Any, length: Callable[[], int]) -> Part:
    def put_back(before: Any) -> None:
        while length():
            functions._pop_mode()
        for mode in before:
            functions._push_mode(mode)

    return Part(name, lambda: _Same(read()), put_back)


def _autocast() -> Any:
    if not hasattr(torch, "get_autocast_dtype"):  # torch before 2.4
        return torch.is_autocast_enabled(), torch.is_autocast_cache_enabled()
    kinds = tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))
    return kinds, torch.is_autocast_cache_enabled()


def _set_autocast(before: Any) -> None:
    kinds, cached = before
    torch.set_autocast_cache_enabled(cached)
    if isinstance(kinds, bool):
        torch.set_autocast_enabled(kinds)
        return
    for kind, enabled, dtype in kinds:
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def _deterministic() -> Any:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _anomaly() -> Any:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _set_environment(before: Any) -> None:
    for name, value in before.items():
        os.environ[os.fsdecode(name)] = os.fsdecode(value)


def _set_signals(before: Any) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if handler_of(number) is not handler and handler is not None:
            signal.signal(number, handler)


def _errors() -> Any:
    return _Same([each for each in warnings.filters if each[0] == "error"])


def _set_errors(before: Any) -> None:
    others = [each for each in warnings.filters if each[0] != "error"]
    filters: Any = warnings.filters  # a list, whatever its stub says
    filters[:] = [*before, *others]
    getattr(warnings, "_filters_mutated", lambda: None)()


def _hooks() -> Any:
    return _Same((sys.excepthook, threading.excepthook, sys.stdout, sys.stderr))


def _set_hooks(before: Any) -> None:
    sys.excepthook, threading.excepthook, sys.stdout, sys.stderr = before


def _cuda() -> Any:
    if not generators.uses_cuda():
        return None
    return torch.cuda.current_device(), torch.cuda.current_stream()


def _set_cuda(before: Any) -> None:
    if before is not None:
        device, stream = before
        torch.cuda.set_stream(stream)
        torch.cuda.set_device(device)


def _flags() -> Iterator[Part]:
    same = "cublas_allow_tf32 cudnn_allow_tf32 cudnn_enabled cudnn_benchmark cudnn_deterministic mkldnn_enabled"
    names = [(name, name) for name in (*same.split(), "deterministic_fill_uninitialized_memory")]
    names += [(f"{kind}_sdp_enabled", f"sdp_use_{kind}") for kind in ("flash", "mem_efficient", "math", "cudnn")]
    for get, put in names:
        read, write = getattr(torch._C, f"_get_{get}", None), getattr(torch._C, f"_set_{put}", None)
        if read and write:  # not every torch has every one
            yield Part(get.replace("_", " "), read, write)


# -- the list ----------------------------------------------------------------------------------------------------------

# In the order in which they are put back: inference mode switches grad mode, and modes change what torch does.
MODES: tuple[Part, ...] = (
    Part("inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Part("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    _stack("function modes", _get_current_function_mode_stack, torch.overrides, torch._C._len_torch_function_stack),
    _stack(
        "dispatch modes",
        _get_current_dispatch_mode_stack,
        torch.utils._python_dispatch,
        torch._C._len_torch_dispatch_stack,
    ),
    Part("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Part("default device", _default_device, _set_default_device),
    Part("autocast", _autocast, _set_autocast),
    Part("anomaly mode", _anomaly, lambda before: torch.autograd.set_detect_anomaly(*before)),
    Part("thread number", torch.get_num_threads, torch.set_num_threads),
    Part("interop thread number", torch.get_num_interop_threads, None),
    Part(
        "deterministic algorithms",
        _deterministic,
        lambda before: torch.use_deterministic_algorithms(before[0], warn_only=before[1]),
    ),
    Part("matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    *_flags(),
    Part("flushing of denormals", lambda: _TINY * 2.0 == 0.0, torch.set_flush_denormal),
    Part("numpy error state", np.geterr, lambda before: np.seterr(**before)),
    Part("environment", lambda: _AtLeast(_ENVIRONMENT), _set_environment),
    Part("working directory", os.getcwd, os.chdir),
    Part(
        "locale of numbers", partial(locale.setlocale, locale.LC_NUMERIC), partial(locale.setlocale, locale.LC_NUMERIC)
    ),
    Part("signal handlers", lambda: _Same(map(handler_of, _SIGNALS)), _set_signals),
    Part("warnings that are errors", _errors, _set_errors),
    Part("exception hook or output", _hooks, _set_hooks),
    Part("garbage collection", gc.isenabled, lambda before: (gc.enable if before else gc.disable)()),
    Part("CUDA device or stream", _cuda, _set_cuda),
)
GENERATORS = tuple(Part(*each) for each in generators.ALL)
EVERYTHING = (*MODES, *GENERATORS)
THREAD = MODES[:2]  # what a thread computes under, and costs next to nothing to look at


def state(parts: tuple[Part, ...] = EVERYTHING) -> State:
    """Return the state of some parts; of the modes this takes microseconds, of the generators a hundred."""
    return tuple([part.read() for part in parts])


def changed(before: State, now: State, parts: tuple[Part, ...] = EVERYTHING) -> list[str]:
    """Return the names of what differs between two states of the same parts."""
    return [part.name for part, old, new in zip(parts, before, now, strict=True) if old != new]


def put_back(before: State, parts: tuple[Part, ...] = EVERYTHING) -> list[str]:
    """Make the state what it was; return the names of what can't be put back."""
    for _ in range(2):  # what is put back may take something else with it
        for part, old in zip(parts, before, strict=True):
            if part.put_back is not None and old != part.read():
                with suppress(Exception):  # outside the main thread, say, or because the directory is gone
                    part.put_back(old)
    return changed(before, state(parts), parts)

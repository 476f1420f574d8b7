"""Counts what watching adds to one operation, exactly, so that a busy machine changes nothing; and times it beside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from validator.bench.clock import Spread, interleaved
from validator.bench.harness import Meter

_EACH = 1024  # operations: some of the looks are at a share of them, so figures are averages
_TIMED = 256  # operations of one round


class Added(NamedTuple):
    """What one operation of a watched pair does beyond the two bare caches, on average.

    Attributes:
        entries: Where the entries' buffers lie, and how they are compared.
        operation: ``set`` or ``lookup``.
        python_calls: Functions of Python that are called.
        c_calls: Functions and methods of C that are called from Python, torch's included.
        kernels: Operations of torch that compute or copy; each is one or more kernels on a device.
        time: Processor time, watched and bare in turn, round by round.
    """

    entries: str
    operation: str
    python_calls: float
    c_calls: float
    kernels: float
    time: Spread


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch dispatches, but for views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(found.alias_info and not found.alias_info.is_write for found in func._schema.returns)
        return func(*args, **(kwargs or {}))


def added(operations: int = _EACH, rounds: int = 21) -> list[Added]:
    """Count for sets and lookups of CartPole's entries, whole and apart, and on a CUDA device, or as on one.

    Args:
        operations: How many of each are counted; the figures are averages.
        rounds: How often they are timed.

    Returns:
        A row per kind of entry and operation.
    """
    rows = []
    on_device = ("cuda", "on a CUDA device") if torch.cuda.is_available() else ("late", "as on a device")
    for where, name, apart in (
        ("cpu", "in one block, in host memory", False),
        ("cpu", "buffers apart, in host memory", True),
        (on_device[0], f"buffers apart, {on_device[1]}", True),
    ):
        meter = Meter(apart, where)
        for kind, called in (("set", "set"), ("hit", "lookup")):
            meter.store(300)  # the pools are full, and what is looked at first was looked at:
            for shadowed in (True, False):
                _played(meter, "hit", shadowed, 100)
            watched, bare = (_counted(partial(_played, meter, kind, on, operations)) for on in (True, False))
            python_calls, c_calls, kernels = ((a - b) / operations for a, b in zip(watched, bare, strict=True))
            times = interleaved({on: partial(_played, meter, kind, on, _TIMED) for on in (True, False)}, rounds)
            spread = Spread.of([a - b for a, b in zip(times[True], times[False], strict=True)])
            rows.append(Added(name, called, python_calls, c_calls, kernels, spread))
        meter.check()
    return rows


def _played(meter: Meter, kind: str, shadowed: bool, operations: int) -> int:
    """Play, and see all of it through, whenever it is that a device would answer."""
    meter.play_one(kind, shadowed, operations)
    meter.pair.flush()
    return operations


def _counted(work: Callable[[], object]) -> tuple[int, int, int]:
    """Return the calls of Python and of C that some work makes, and the kernels."""
    with _Kernels() as kernels:
        work()
    calls = {"call": 0, "c_call": 0}

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event in calls:
            calls[event] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls["call"], calls["c_call"], kernels.count

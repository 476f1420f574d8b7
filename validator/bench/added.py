"""Counts what watching adds to one operation, exactly, so that a busy machine changes nothing; and times it beside."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from validator.bench.clock import Spread, interleaved
from validator.bench.harness import Meter
from validator.proof.appends.caches import FixedCache
from validator.proof.appends.proof import AppendTrial

try:
    from validator.bench._allocations import allocations
except ImportError:  # there was no compiler

    def allocations(work: Callable[[], object], /) -> float:
        """Work, and don't know how much was allocated."""
        work()
        return math.nan


_EACH = 1024  # operations: some of the looks are at a share of them, so figures are averages
_TIMED = 256  # operations of one round
_WARM = 100  # operations before that: what is looked at first was looked at


class Added(NamedTuple):
    """What one operation of a watched pair does beyond the two bare caches, on average.

    Attributes:
        entries: Where the entries' buffers lie, and how they are compared.
        operation: ``set``, ``lookup`` or ``update``.
        python_calls: Functions of Python that are called.
        c_calls: Functions and methods of C that are called from Python, torch's included.
        objects: How often Python's allocator is asked for memory of an object; what it takes from its lists of freed
            objects is not counted. None where the counter was not compiled.
        kernels: Operations of torch that compute or copy; each is one or more kernels on a device.
        time: Processor time, watched and bare in turn, round by round.
    """

    entries: str
    operation: str
    python_calls: float
    c_calls: float
    objects: float | None
    kernels: float
    time: Spread


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts what torch dispatches, but for views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(found.alias_info and not found.alias_info.is_write for found in func._schema.returns)
        return func(*args, **(kwargs or {}))


def added(operations: int = _EACH, rounds: int = 21) -> list[Added]:
    """Count for sets and lookups of CartPole's entries, on a CUDA device or as on one too, and for appended tokens.

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
                _played(meter, "hit", shadowed, _WARM)
            work: list[Callable[[int], int]] = [partial(_played, meter, kind, on) for on in (True, False)]
            rows.append(_row(name, called, operations, rounds, *work))
        meter.check()
    for held in (512, 8192):
        name = f"an append cache of {held:,} tokens, in host memory"
        work = _appending(held, 3 * operations + (rounds + 2) * _TIMED)  # the work is counted in three ways
        rows.append(_row(name, "update", operations, rounds, *work))
    return rows


def _row(name: str, called: str, operations: int, rounds: int, *work: Callable[[int], int]) -> Added:
    """Count some work that is watched, and the same that is not, and time both."""
    watched, bare = (_counted(partial(each, operations)) for each in work)
    calls, c_calls, objects, kernels = ((a - b) / operations for a, b in zip(watched, bare, strict=True))
    times = interleaved({each: partial(each, _TIMED) for each in work}, rounds)
    spread = Spread.of([a - b for a, b in zip(*times.values(), strict=True)])
    return Added(name, called, calls, c_calls, None if math.isnan(objects) else objects, kernels, spread)


def _appending(held: int, most: int) -> list[Callable[[int], int]]:
    """Return what appends a token at a time to a watched pair, and to two bare caches like its own."""
    room = held + _WARM + most
    pairs = [[FixedCache(1, room), FixedCache(1, room)] for _ in range(2)]

    def append(caches: list[Any], tokens: int, times: int) -> int:
        states = torch.randn(2, 1, 8, tokens, 64)
        for cache in caches:
            for _ in range(times):
                cache.update(states[0], states[1], 0)
        return times

    trial = AppendTrial(pairs[0][0], pairs[0][1])
    found: list[Callable[[int], int]] = []
    for caches in ([trial.cache], pairs[1]):
        append(caches, held, 1)
        append(caches, 1, _WARM)
        found.append(partial(append, caches, 1))
    return found


def _played(meter: Meter, kind: str, shadowed: bool, operations: int) -> int:
    """Play, and see all of it through, whenever it is that a device would answer."""
    meter.play_one(kind, shadowed, operations)
    meter.pair.flush()
    return operations


def _counted(work: Callable[[], object]) -> tuple[float, float, float, float]:
    """Return the calls of Python and of C that some work makes, the objects it allocates, and the kernels."""
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
    return calls["call"], calls["c_call"], allocations(work), kernels.count

"""Counts what watching adds to one operation, exactly and by no clock, so that a busy machine changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from validator.bench.harness import Meter
from validator.proof.appends.caches import FixedCache
from validator.proof.appends.proof import AppendTrial

_EACH = 1024  # operations: some of the looks are at a share of them, so figures are averages
_WARM = 100  # operations before that: what is looked at first was looked at


class Added(NamedTuple):
    """What one operation of a watched pair does beyond the two bare caches, on average.

    Attributes:
        entries: Where the entries' buffers lie, and how they are compared.
        operation: ``set``, ``lookup`` or ``update``.
        python_calls: Functions of Python that are called.
        c_calls: Functions and methods of C that are called from Python, torch's included.
        kernels: Operations of torch that compute or copy; each is one or more kernels on a device.
    """

    entries: str
    operation: str
    python_calls: float
    c_calls: float
    kernels: float


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch dispatches, but for views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(found.alias_info and not found.alias_info.is_write for found in func._schema.returns)
        return func(*args, **(kwargs or {}))


def added(operations: int = _EACH) -> list[Added]:
    """Count for sets and lookups of CartPole's entries, whole and apart, and as on a device, and for appended tokens.

    Args:
        operations: How many of each are counted; the figures are averages.

    Returns:
        A row per kind of entry and operation.
    """
    rows = []
    for name, apart, device in (
        ("in one block, in host memory", False, False),
        ("buffers apart, in host memory", True, False),
        ("buffers apart, as on a device", True, True),
    ):
        meter = Meter(apart, "always" if device else "auto")
        for kind, called in (("set", "set"), ("hit", "lookup")):
            meter.store(300)  # the pools are full, and what is looked at first was looked at:
            for shadowed in (True, False):
                _played(meter, "hit", shadowed, _WARM)
            work = (partial(_played, meter, kind, on, operations) for on in (True, False))
            rows.append(_row(name, called, operations, *work))
        meter.check()
    for held in (512, 8192):
        name = f"an append cache of {held:,} tokens, in host memory"
        rows.append(_row(name, "update", operations, *_appending(held, operations)))
    return rows


def _row(name: str, called: str, operations: int, *work: Callable[[], object]) -> Added:
    """Count some work that is watched, and the same that is not."""
    watched, bare = map(_counted, work)
    return Added(name, called, *((a - b) / operations for a, b in zip(watched, bare, strict=True)))


def _appending(held: int, operations: int) -> list[Callable[[], object]]:
    """Return what appends a token at a time to a watched pair, and to two bare caches like its own."""
    room = held + _WARM + 2 * operations  # the work is counted in two ways
    pairs = [[FixedCache(1, room), FixedCache(1, room)] for _ in range(2)]

    def append(caches: list[Any], tokens: int, times: int) -> None:
        states = torch.randn(2, 1, 8, tokens, 64)
        for cache in caches:
            for _ in range(times):
                cache.update(states[0], states[1], 0)

    trial = AppendTrial(pairs[0][0], pairs[0][1])
    found: list[Callable[[], object]] = []
    for caches in ([trial.cache], pairs[1]):
        append(caches, held, 1)
        append(caches, 1, _WARM)
        found.append(partial(append, caches, 1, operations))
    return found


def _played(meter: Meter, kind: str, shadowed: bool, operations: int) -> None:
    """Play, and see all of it through, whenever it is that a device would answer."""
    meter.play_one(kind, shadowed, operations)
    meter.pair.flush()


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

"""How long one call of a side took: by the host's clock, and for work on a CUDA device by events around it.

A host's clock around asynchronous launches times the launching. Two events on the stream time what was launched.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, cast

import torch

from shadow.outside import from_outside
from shadow.wrapper.arguments import Arguments

Contained = tuple[type[BaseException], ...]
Call = tuple[Any, Any, int]  # what a side answered, what it raised, how long it took in nanoseconds


TIMED_EACH = 16  # operations on a device of which one is timed: four events took 20 us of the host's time


class DeviceTime(int):
    """The time of one call on the host, nanoseconds, and perhaps the events that bracket its work on the device.

    Attributes:
        device: Where the work was launched, if it is known how long it took there.
    """

    device: torch.device | None = None
    _events: tuple[Any, Any]

    @classmethod
    def between(cls, host_ns: int, device: torch.device, start: Any, end: Any) -> DeviceTime:
        """Make one of a host's time and two events that were recorded on a stream of a device."""
        time = cls(host_ns)
        time.device = device
        time._events = (start, end)
        return time

    def on_device_ns(self) -> int:
        """Return the time between the events, nanoseconds; waits if they have not come to pass."""
        start, end = self._events
        if not end.query():
            end.synchronize()
        return int(start.elapsed_time(end) * 1e6)


def called(side: Any, method: str, args: tuple[Any, ...], contained: Contained) -> Call:
    """Call one side; return what it answered, what it raised of the kinds that are contained, and how long it took."""
    began = perf_counter_ns()
    try:
        bound = getattr(side, method)
        value = bound(*args) if type(args) is tuple else bound(*args, **cast("Arguments", args).named)
    except contained as raised:
        if from_outside(raised):
            raise
        return None, raised, perf_counter_ns() - began
    return value, None, perf_counter_ns() - began


class DeviceClock:
    """Calls a side as ``called`` does, and brackets what some operations launch on a device's stream by events."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._operations = 0

    def next(self) -> None:
        """Begin another operation; both sides are timed in it, or neither."""
        self._operations += 1

    def called(self, side: Any, method: str, args: tuple[Any, ...], contained: Contained) -> Call:
        """Call one side; the time it returns is a ``DeviceTime``."""
        if self._operations % TIMED_EACH:
            value, error, host_ns = called(side, method, args, contained)
            return value, error, DeviceTime(host_ns)
        stream = torch.cuda.current_stream(self._device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(stream)
        value, error, host_ns = called(side, method, args, contained)
        end.record(stream)
        return value, error, DeviceTime.between(host_ns, self._device, start, end)

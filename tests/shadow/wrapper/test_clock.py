"""How long a call took on a device; events stand in for those of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shadow.wrapper.clock import TIMED_EACH, DeviceClock, DeviceTime
from shadow.wrapper.doors.pools import ShadowCache
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.trials import charged, manager
from validator.proof.trial import Trial

DEVICE = torch.device("cuda", 0)


class Event:
    """Takes what a CUDA event takes; any two are two milliseconds apart."""

    made = 0

    def __init__(self, enable_timing: bool) -> None:
        Event.made += 1

    def record(self, stream: Any) -> None:
        """Nothing is launched anywhere."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Event) -> float:
        return 2.0


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Event, "made", 0)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)


@guards("shadow/wrapper/clock.py", "if self._operations % TIMED_EACH:", "if False:")
def test_events_are_made_around_a_share_of_the_operations() -> None:
    clock = DeviceClock(DEVICE)
    found = []
    for _ in range(4 * TIMED_EACH):
        clock.next()
        found.append([clock.called([], "copy", (), (Exception,))[2] for _ in range(2)])
    assert Event.made == 4 * 4
    timed = [[isinstance(time, DeviceTime) and time.device == DEVICE for time in both] for both in found]
    assert [both for both in timed if any(both)] == [[True, True]] * 4
    assert next(time for both in found for time in both if time.device is not None).on_device_ns() == 2_000_000


@guards("validator/device/looks.py", "self._case.counters.untimed(operation)", "pass")
def test_every_operation_is_counted_and_the_share_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trial(manager(), manager())
    cache: ShadowCache = run.cache
    both = cache._both
    clock = DeviceClock(torch.device("cpu"))
    monkeypatch.setattr(both, "_clock", clock)
    monkeypatch.setattr(both, "_call", clock.called)
    for number in range(64):
        cache.set_init_cache(0, number, make_entry(number))
    window = run.pair.drain(1.0)
    assert window.ops == {"set.init": 64}
    assert sum(window.latency_ns["control.set.init"].values()) == 64 // TIMED_EACH
    assert charged(run) == []

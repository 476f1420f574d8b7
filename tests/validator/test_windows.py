"""Windows of a long run: light on disk, and complete when they are added up."""

from __future__ import annotations

from tests.reports.records_for_tests import window
from validator.counters import Counters
from validator.run import fold


def test_latencies_that_wait_are_in_the_next_window_that_has_some() -> None:
    counters = Counters()
    counters.times["get.init"] += (1000, 2000)
    first = counters.drain("c", 0, 1.0, {}, 0, 0, with_latency=False)
    counters.times["set.init"] += (1000, 2000)

    second = counters.drain("c", 1, 2.0, {}, 0, 0)

    assert first.latency_ns == {}
    assert first.ops == {"get.init": 1}
    assert set(second.latency_ns) == {
        f"{side}.{name}.init" for side in ("control", "candidate") for name in ("get", "set")
    }
    assert sum(fold([first, second]).latency_ns["control.get.init"].values()) == 1


def test_bytes_held_of_a_pair_take_the_place_of_its_earlier_ones() -> None:
    ranks = [window(0, rank=0), window(0, rank=1), window(1, rank=0)]

    assert fold(ranks).bytes_held["control"] == 2 * 3_145_728

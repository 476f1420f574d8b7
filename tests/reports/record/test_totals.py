"""Windows of a long run: light on disk, and complete when they are added up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from reports.record.histogram import is_due
from reports.record.totals import fold
from shadow.wrapper.doors.pools import OPERATIONS
from tests.guards import guards
from tests.reports.records_for_tests import window
from validator.judge.counters import Counters


def test_latencies_that_wait_are_in_the_next_window_that_has_some() -> None:
    counters = Counters(OPERATIONS)
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


@guards("validator/judge/counters.py", "self._before = self._ops_ever()", "self._before = dict.fromkeys(_NAMES, 0)")
@pytest.mark.parametrize("with_latency", [False, True])
def test_operations_are_counted_in_their_own_window_alone(with_latency: bool) -> None:
    counters = Counters(OPERATIONS)
    windows = []
    for seq, count in enumerate((1, 2, 0, 3)):
        counters.times["get.init"] += (1000, 2000) * count
        assert counters.ops["get.init"] == count
        windows.append(counters.drain("c", seq, 1.0, {}, 0, 0, with_latency))
    assert [one.ops.get("get.init", 0) for one in windows] == [1, 2, 0, 3]


def test_bytes_held_of_a_pair_take_the_place_of_its_earlier_ones() -> None:
    ranks = [window(0, rank=0), window(0, rank=1), window(1, rank=0)]

    assert fold(ranks).bytes_held["control"] == 2 * 3_145_728


def test_histograms_come_with_every_window_of_a_short_run_and_64_times_in_every_doubling_of_a_long_one() -> None:
    due = [seq for seq in range(1 << 14) if is_due(seq)]

    assert due[:128] == list(range(128))
    for doubled in range(7, 14):
        assert len([seq for seq in due if 1 << doubled <= seq < 2 << doubled]) == 64
    assert all(after - before <= max(1, after / 64) for before, after in pairwise(due))

"""The benchmark: what it measures with is sound, and the command prints and writes what it found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from reports.record.histogram import bucket
from shadow.entry import leaves
from validator.bench import added as bench_added
from validator.bench.added import _row, added
from validator.bench.caches import SIZES, bench_comparison, entry
from validator.bench.clock import Spread, interleaved, ratio
from validator.bench.device import bench_device
from validator.bench.harness import bench_bookkeeping, bench_growth
from validator.cli import main
from validator.commands.bench import _device
from validator.judge.counters import buckets


@pytest.mark.parametrize(("size", "kib"), [("CartPole", 8), ("Atari", 96), ("Atari multi-task", 192), ("Memory", 1296)])
def test_entries_are_of_production_size(size: str, kib: int) -> None:
    assert entry(size, 1.0).nbytes == kib * 1024
    assert {leaf.size for leaf in leaves(entry(size, 0.5))} == {SIZES[size][3] // 2}


def test_work_is_timed_in_turn_and_the_first_rounds_do_not_count() -> None:
    calls: list[str] = []

    def work(name: str) -> int:
        calls.append(name)
        return 1

    times = interleaved({"a": lambda: work("a"), "b": lambda: work("b")}, 3)
    assert calls == ["a", "b"] * 5
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio({"a": [1.0, 20.0, 3.0], "b": [2.0, 40.0, 3.0]}, "a", "b") == 0.5
    assert Spread.of([1000.0, 2000.0, 3000.0]).median_us == 2.0


def test_an_equal_entry_of_every_size_is_compared() -> None:
    assert [record["size"] for record in bench_comparison(2)] == list(SIZES)


def test_bookkeeping_is_measured_for_each_kind_of_operation() -> None:
    assert all(value > 0 for value in bench_bookkeeping(2).values())


def test_what_is_added_to_an_operation_is_counted_and_stays_what_it_is() -> None:
    most = {
        ("in host memory", "set"): (46, 64, 84, 0.2),
        ("in host memory", "lookup"): (24, 38, 44, 0.1),
        ("in host memory", "update"): (49, 93, 185, 2),
        ("as on a device", "set"): (66, 86, 108, 2.4),
        ("as on a device", "lookup"): (58, 84, 102, 1.4),
    }
    rows = added(64, rounds=3)
    assert len(rows) == 8
    # The clock is looked at once in a while, which is a call or two in some hundred of them.
    assert rows[-1][2:-1] == pytest.approx(rows[-2][2:-1], rel=0.05), "what an update costs depends on what is held"
    for row in rows:
        python_calls, c_calls, objects, kernels = most[row.entries.rpartition(", ")[2], row.operation]
        assert 10 < row.python_calls <= python_calls, row
        assert 10 < row.c_calls <= c_calls, row
        assert row.objects is None or 10 < row.objects <= objects, row
        assert 0 <= row.kernels <= kernels, row
        assert "host" in row.entries or row.kernels >= 0.5, row


def test_objects_are_not_told_where_their_counter_was_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(times: int) -> int:
        return len([object() for _ in range(times)])

    counted = _row("here", "set", 64, 2, work, lambda times: times)
    monkeypatch.setattr(bench_added, "allocations", lambda work: math.nan)
    not_counted = _row("here", "set", 64, 2, work, lambda times: times)

    assert counted.objects is None or counted.objects > 0.9
    assert not_counted.objects is None


def test_growth_looks_at_every_power_of_ten() -> None:
    points = bench_growth(10_000)
    assert [round(point["operations"], -3) for point in points] == [10_000]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_benchmark_says_so() -> None:
    assert bench_device(1) is None
    assert _device(None) == "no CUDA device here"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_search_on_a_device_waits_for_nothing() -> None:
    found = bench_device(2)
    assert found is not None
    assert found["waits_per_operation"] == 0, _device(found)


def test_many_times_fall_into_the_same_buckets_as_one_by_one() -> None:
    values = np.concatenate([np.arange(5000), 2 ** np.arange(1, 50), 2 ** np.arange(1, 50) - 1, [-5]])
    assert buckets(values).tolist() == [bucket(int(value)) for value in values]


@pytest.mark.slow
def test_the_command_prints_the_targets_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--json", str(out), "--config", str(tmp_path / "none.toml")]) == 0
    printed = capsys.readouterr().out
    assert "Targets" in printed
    assert "manager set per legacy" in printed
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {target["what"] for target in found["targets"]} >= {"bookkeeping: miss", "bookkeeping: set, nothing to copy"}
    assert found["training"] == []

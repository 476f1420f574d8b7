"""The windows of a rank: read as they were written, added up where they are very many, named where some are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.read.lines import read_lines
from reports.reader import read_run
from reports.record.records import Window
from reports.record.totals import Timed, fold
from tests.guards import guards
from tests.reports.records_for_tests import edit, window, write_run


def bare(seq: int, **changes: Any) -> Window:
    """A window without histograms, as most of a long run are."""
    return window(seq, **{"latency_ns": {}, "coverage": {"overwrites": 5, "evictions": 8}, **changes})


def test_pairs_that_take_turns_come_back_as_they_were(tmp_path: Path) -> None:
    windows = [bare(seq, cache=name, envs={"0": seq}) for seq in range(1, 300) for name in ("collect", "eval")]
    windows = [bare(0, cache="eval"), bare(0, cache="collect", ops={"get.wm": 3}), *windows]

    run = read_run(write_run(tmp_path, windows=tuple(windows)))

    assert run.problems == []
    by_pair = sorted(windows, key=lambda one: (one.cache != "eval", one.seq))
    assert sorted(run.windows, key=lambda one: (one.cache != "eval", one.seq)) == by_pair


@pytest.mark.parametrize("other", ["oval", "evaluate", "ev", 'ev"al\\é\n'])
def test_pairs_alike_are_not_taken_for_each_other(tmp_path: Path, other: str) -> None:
    windows = [bare(seq, cache=name, t_s=seq + 0.5) for seq in range(40) for name in ("eval", other, other[:-1])]

    run = read_run(write_run(tmp_path, windows=tuple(windows)))

    assert run.problems == []
    assert sorted(run.windows, key=lambda one: (one.seq, one.cache)) == sorted(
        windows, key=lambda one: (one.seq, one.cache)
    )


def test_very_many_are_added_up_and_nothing_is_lost(tmp_path: Path) -> None:
    windows = tuple(
        bare(seq, ops={"get.init": seq % 7 + 1}, bytes_held={"control": seq + 1, "candidate": 2}, t_s=seq / 2)
        if seq % 1000
        else window(seq, t_s=seq / 2)
        for seq in range(5000)
    )

    run = read_run(write_run(tmp_path, windows=windows), most_windows=1024)

    assert run.problems == []
    assert len(run.windows) <= 2048
    assert run.totals == fold(windows)
    assert run.windows[-1].train_iter == windows[-1].train_iter
    assert run.windows[-1].bytes_held == windows[-1].bytes_held


def test_other_names_are_added_up_as_what_they_are(tmp_path: Path) -> None:
    windows = tuple(bare(seq, ops={"get.wm" if seq < 12 else "set.recur": seq + 1}) for seq in range(24))

    run = read_run(write_run(tmp_path, windows=windows), most_windows=1)

    assert [one.seq for one in run.windows] == [0, 16]
    assert run.totals == fold(windows)


def test_progress_that_the_host_does_not_say_is_that_said_before(tmp_path: Path) -> None:
    windows = tuple(
        bare(seq, train_iter=seq if seq < 39 else -1, env_step=seq if seq < 38 else -1) for seq in range(40)
    )

    run = read_run(write_run(tmp_path, windows=windows), most_windows=1)

    assert [(one.seq, one.train_iter, one.env_step) for one in run.windows] == [(0, 31, 31), (32, 38, 37)]


@pytest.mark.parametrize("at", [3, 139])
def test_a_clock_that_goes_backwards_shows(tmp_path: Path, at: int) -> None:
    windows = tuple(bare(seq, t_s=seq - 1.5 * (seq >= at) + 1) for seq in range(140))

    run = read_run(write_run(tmp_path, windows=windows))

    said = f"from {windows[at - 1].t_s:g} s to {windows[at].t_s:g} s"
    assert run.problems == [f"rank-0000.jsonl: the clock of 'world_model' goes backwards, {said}"]


def test_windows_after_the_close_do_not_count(tmp_path: Path) -> None:
    path = write_run(tmp_path, windows=tuple(map(bare, range(30))))
    edit(path / "rank-0000.jsonl", lambda lines: [*lines[:20], lines[-1], *lines[20:-1]])

    lines = read_lines(path / "rank-0000.jsonl", 0)

    n = len(lines.windows())
    assert [one.seq for one in lines.windows()] == list(range(n))
    more = f"lines 22, 23, 24, 25, 26 and {30 - n - 5} more: after the close of the run; ignored"
    assert f"rank-0000.jsonl: {more}" in lines.problems()


def test_gaps_are_named_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    windows = [bare(seq, cache=name) for seq in range(40) for name in ("train", "eval") if (name, seq) != ("eval", 9)]
    windows = [one for one in windows if (one.cache, one.seq) != ("train", 30)]

    problems = read_lines(write_run(tmp_path, windows=tuple(windows)) / "rank-0000.jsonl", 0).problems()

    assert [problem.split("of ")[1] for problem in problems] == [
        "'train' missing before its last",
        "'eval' missing before its last",
    ]


@guards("reports/read/lines.py", 'if self._windows.with_latency else _LATENCIES.sub(rb"\\1", raw, 1)', "")
def test_latencies_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    edit(path / "rank-0000.jsonl", lambda lines: [line.replace(b'{"97":30', b'{"9999":30') for line in lines])

    lines = read_lines(path / "rank-0000.jsonl", 0, with_latency=False)

    assert lines.problems() == ["rank-0000.jsonl: changed after it was written: its digest does not fit its content"]
    assert "latency outside the histogram's buckets" in read_lines(path / "rank-0000.jsonl", 0).problems()[0]


@pytest.mark.parametrize(
    "name", ["get.init", 'get.in"it', "get.}},{", "get.\\é\n", 'get.","timed":[1],"latency_ns":{"a":{"1":']
)
def test_without_latencies_all_else_is_as_with_them(tmp_path: Path, name: str) -> None:
    latency = {f"{side}.{name}": {"90": 3, "97": n} for n, side in enumerate(("control", "candidate"))}
    windows = (window(0, latency_ns=latency, dropped={"x": 1}), window(1), window(2, latency_ns={}))
    path = write_run(tmp_path, windows=windows)

    whole, without = read_run(path), read_run(path, with_latency=False)

    assert whole.problems == without.problems == []
    assert without.totals == replace(whole.totals, latency_ns={})
    assert without.timed == whole.timed == [Timed.of(one.latency_ns) for one in windows[:2]]


@guards("reports/read/windows.py", "bool(said and took and took != [(*said,)])", "0")
def test_a_window_that_did_not_take_what_its_latencies_add_up_to_shows(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    edit(path / "rank-0000.jsonl", lambda lines: [line.replace(b'{"97":30', b'{"97":29') for line in lines])

    said = read_lines(path / "rank-0000.jsonl", 0).problems()

    assert said == ["rank-0000.jsonl: 2 windows of 'world_model' took what their latencies don't add up to"]

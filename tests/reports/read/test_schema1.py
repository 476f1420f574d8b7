"""What version 0.1 left on disk is still read: most of its windows are their numbers alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from reports.reader import read_run
from reports.record.records import Window
from reports.record.totals import fold
from tests.reports.records_for_tests import edit, window, write_run

RUNS = Path(__file__).parent / "schema1"
TABLES = ("ops", "divergences", "coverage", "envs", "dropped", "bytes_held")


def bare(seq: int, **changes: Any) -> Window:
    """A window without histograms: one with them was never in short."""
    return window(seq, **{"latency_ns": {}, "coverage": {"overwrites": 5}, **changes})


def in_short(raws: Iterable[bytes]) -> list[bytes]:
    """Turn the windows among lines, all of one pair and with the same names, into windows like the first of them."""
    found, like = [], None
    for raw in raws:
        line = json.loads(raw)
        if line["type"] == "window" and like is None:
            like = line["seq"]
        elif line["type"] == "window":
            tables = [line.pop(name) for name in TABLES if name in line] + [*line.pop("lookups").values()]
            line |= {"like": like, "counts": [count for table in tables for count in table.values()]}
            raw = json.dumps(line).encode() + b"\n"
        found.append(raw)
    return found


def damaged(path: Path, change: dict[str, Any]) -> None:
    """Change the second of three windows."""
    edit(
        path / "rank-0000.jsonl",
        lambda lines: [*lines[:3], json.dumps(json.loads(lines[3]) | change).encode() + b"\n", *lines[4:]],
    )


@pytest.mark.parametrize(("name", "n_windows", "n_divergences"), [("clean", 38, 0), ("wrong", 6, 1)])
def test_a_run_of_version_0_1_is_read_whole(name: str, n_windows: int, n_divergences: int) -> None:
    assert b'"like":' in (RUNS / name / "rank-0000.jsonl").read_bytes()

    run = read_run(RUNS / name)

    assert (run.manifest["schema"], run.state, run.problems) == (1, "complete", [])
    assert (len(run.windows), len(run.divergences)) == (n_windows, n_divergences)
    assert run.summary is not None
    assert run.totals.ops == run.summary["ops"]


def test_numbers_alone_say_what_the_tables_said(tmp_path: Path) -> None:
    windows = tuple(
        bare(seq, divergences={"value|rounding|candidate": 3}, dropped={"sampled": seq + 1}) for seq in range(4)
    )
    path = write_run(tmp_path, windows=windows)

    edit(path / "rank-0000.jsonl", in_short)

    assert b'"like": 0' in (path / "rank-0000.jsonl").read_bytes()
    assert read_run(path).windows == list(windows)


def test_a_zero_says_that_the_name_is_absent(tmp_path: Path) -> None:
    path = write_run(tmp_path, windows=(bare(0), bare(1, envs={"0": 0, "1": 7})))

    edit(path / "rank-0000.jsonl", in_short)

    assert [one.envs for one in read_run(path).windows] == [{"0": 30, "1": 40}, {"1": 7}]


def test_without_the_full_one_those_like_it_can_not_be_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, windows=tuple(map(bare, range(8))))
    edit(path / "rank-0000.jsonl", in_short)

    edit(path / "rank-0000.jsonl", lambda lines: [*lines[:2], b"{}\n", *lines[3:]])

    run = read_run(path)
    assert run.windows == []
    assert run.problems[1] == (
        "rank-0000.jsonl: lines 4, 5, 6, 7, 8 and 2 more: no window that can be understood without an earlier one, "
        "which can't be read"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": [1]}, "without an earlier one"),
        ({"like": 7}, "without an earlier one"),
        ({"like": None}, "None is no like"),
        ({"counts": [-1] * 14}, "-1 is no count"),
        ({"counts": [True] * 14}, "True is no count"),
        ({"counts": 7}, "not iterable"),
        ({"divergences": {"value|rounding|candidate": 1}}, "tables beside counts"),
        ({"seq": 1.0}, "1.0 is no seq"),
        ({"train_iter": -2}, "-2 is no train_iter"),
    ],
)
def test_one_that_can_not_be_added_is_no_window(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write_run(tmp_path, windows=(bare(0), bare(1), bare(2)))
    edit(path / "rank-0000.jsonl", in_short)

    damaged(path, change)

    run = read_run(path)
    assert said in run.problems[0]
    assert run.problems[0].startswith("rank-0000.jsonl: line 4: ")
    assert [one.seq for one in run.windows] == [0, 2]


def test_a_week_of_it_is_added_up_and_nothing_is_lost(tmp_path: Path) -> None:
    windows = tuple(bare(seq, ops={"get.init": seq % 7 + 1}) for seq in range(9000))
    path = write_run(tmp_path, windows=windows)

    edit(path / "rank-0000.jsonl", in_short)

    run = read_run(path)
    assert len(run.windows) <= 4096
    assert run.totals == fold(windows)

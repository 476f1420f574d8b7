"""Windows that are no lines yet: read where no later line exists, and trusted no more than any other file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import reports.disk.json_file
from reports.disk.seal import seal
from reports.read.evidence_files import evidence_files
from reports.read.follow import Follower
from reports.reader import read_run
from reports.record.codec import to_json
from reports.record.records import Window
from reports.record.totals import fold
from reports.writer import RunWriter
from tests.reports.records_for_tests import MANIFEST, edit, window, write_run

OPEN = "rank-0000.open.json"
GONE = {"pid": 2**22 + 1, "pid_started": 1}  # beyond the numbers that Linux gives


def killed(out: Path, *lines: Window, then: tuple[Window, ...] = (), **manifest: Any) -> Path:
    """Write a run whose process is gone, with these windows as lines and those open."""
    pen = RunWriter.create(out, "r1", {**MANIFEST, **GONE, **manifest}, evidence_limit_bytes=0)
    for one in lines:
        pen.window(one)
    assert pen.open_windows(then)
    return pen.path


def write_open(path: Path, *windows: Any) -> None:
    """Write a file of open windows behind the back of a writer."""
    (path / OPEN).write_bytes(seal(json.dumps({"windows": windows}).encode()))


def test_a_killed_run_counts_what_was_open(tmp_path: Path) -> None:
    windows = window(0), window(1), window(0, cache="eval")

    run = read_run(killed(tmp_path, windows[0], then=windows[1:]))

    assert run.state == "crashed"
    assert run.totals == fold(windows)
    assert len(run.timed) == 3
    assert run.problems == [
        "rank-0000.jsonl: no close, so rank 0 did not end in order",
        "summary.json is missing or unreadable: the run did not end in order",
    ]


def test_what_is_a_line_by_now_counts_once(tmp_path: Path) -> None:
    run = read_run(killed(tmp_path, window(0), window(1), then=(window(1, ops={"get.init": 1}),)))

    assert run.totals == fold((window(0), window(1)))


def test_a_run_that_closed_has_none_left(tmp_path: Path) -> None:
    pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
    pen.open_windows((window(0),))
    assert (pen.path / OPEN).exists()
    pen.window(window(0))

    pen.close({})

    assert sorted(path.name for path in pen.path.iterdir()) == ["rank-0000.jsonl", "run.json", "summary.json"]


def test_what_is_open_stays_where_its_line_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
    pen.open_windows((window(0),))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: 0)
        assert not pen.window(window(0))

    pen.close({})

    run = read_run(pen.path)
    assert run.totals.ops == window(0).ops
    assert "rank-0000.jsonl: the writer lost 1 line" in run.problems


def test_one_that_is_open_after_the_close_shows(tmp_path: Path) -> None:
    path = write_run(tmp_path)

    write_open(path, to_json(window(2)))

    assert "rank-0000.jsonl: a window of 'world_model' is still open after its close" in read_run(path).problems


def test_windows_that_are_missing_before_it_show(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0), then=(window(3),))

    assert "rank-0000.jsonl: 2 windows of 'world_model' missing before its last" in read_run(path).problems


def test_a_clock_that_goes_backwards_to_it_shows(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0), then=(window(1, t_s=1.0),))

    assert "rank-0000.jsonl: the clock of 'world_model' goes backwards, from 5 s to 1 s" in read_run(path).problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{oops", "can't be read as JSON"),
        (b"[1]", "holds no object"),
        (b'{"windows": []}', "lacks its digest"),
        (seal(b'{"windows": 7}'), "holds no windows"),
        (seal(b'{"window": []}'), "holds no windows"),
        (seal(b'{"windows": [7]}'), "windows[0]: no window in full"),
        (seal(b'{"windows": [{"cache": "c", "seq": 1, "t_s": 1.0, "like": 0, "counts": []}]}'), "no window in full"),
        (seal(b'{"windows": [{"cache": "c", "seq": 1, "t_s": 1.0, "ops": {"get.init": -1}}]}'), "-1 is no count"),
        (seal(b'{"windows": [{"cache": "c", "seq": 0, "t_s": 1}, {"cache": "c", "seq": 1, "t_s": 2}]}'), "another one"),
        (seal(b'{"windows": [], "x": 1}').replace(b"1", b"2", 1), "changed after it was written"),
    ],
)
def test_what_can_not_be_believed_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = killed(tmp_path, window(0))

    (path / OPEN).write_bytes(content)

    run = read_run(path)
    assert any(problem.startswith(OPEN) and said in problem for problem in run.problems), run.problems
    assert run.windows[0] == window(0)


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0))
    write_open(tmp_path, to_json(window(1)))

    (path / OPEN).symlink_to(tmp_path / OPEN)

    run = read_run(path)
    assert run.windows == [window(0)]
    assert f"{OPEN} is no plain file inside the run directory; not read" in run.problems


def test_a_pipe_in_its_place_does_not_block(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0))

    os.mkfifo(path / OPEN)

    assert f"{OPEN} is no plain file inside the run directory; not read" in read_run(path).problems


def test_one_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = killed(tmp_path, window(0), then=(window(1),))
    monkeypatch.setattr(reports.disk.json_file, "MOST_BYTES", 10_000)

    with (path / OPEN).open("r+b") as file:
        file.truncate(10_001)

    assert f"{OPEN} is of 10,001 bytes, and the limit is 10,000; not read" in read_run(path).problems


def test_each_rank_has_its_own(tmp_path: Path) -> None:
    about = {**MANIFEST, **GONE, "world_size": 2}
    pens = [RunWriter.create(tmp_path, "r1", about, rank=rank, evidence_limit_bytes=0) for rank in (0, 1)]
    for rank, pen in enumerate(pens):
        pen.open_windows((window(0, rank=rank),))

    run = read_run(pens[0].path)

    assert [one.rank for one in run.windows] == [0, 1]
    assert sum(run.totals.ops.values()) == 200


def test_a_follower_sees_what_is_open_and_counts_it_once(tmp_path: Path) -> None:
    pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
    follower, seen = Follower(pen.path), []
    steps = (
        lambda: pen.open_windows((window(0, ops={"get.init": 5}),)),
        lambda: pen.open_windows((window(0),)),
        lambda: pen.window(window(0)),  # the open one lies beside it still
        lambda: pen.open_windows((window(1, ops={"get.init": 1}),)),
    )

    for step in steps:
        step()
        seen.append(sum(follower.look().ops.values()))
    follower.close()

    assert seen == [5, 100, 100, 101]


def test_it_is_part_of_the_evidence(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0), then=(window(1),))

    assert OPEN in evidence_files(path)


def test_a_fault_with_it_costs_the_run_its_verdict_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _full_disk)
        assert not pen.open_windows((window(0),))
    pen.window(window(0))
    pen.close({})

    run = read_run(pen.path)

    assert run.windows == [window(0)]
    assert any("open windows: OSError" in problem for problem in run.problems)


def _full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_lines_after_it_are_not_missed(tmp_path: Path) -> None:
    path = killed(tmp_path, window(0), window(1), then=(window(2),))

    edit(path / "rank-0000.jsonl", lambda lines: lines[:1])

    assert "rank-0000.jsonl: 1 window of 'world_model' missing before its last" in read_run(path).problems

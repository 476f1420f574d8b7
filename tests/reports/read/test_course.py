"""Which course a run took: told by its traces, and only by whole ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.read.course import course
from tests.guards import guards

SEGMENT = b'{"segment":0,"first":0,"records":9,"digest":"%s"}\n'
CLOSE = b'{"close":9,"digest":"ab"}\n'


def traced(path: Path, *pairs: bytes) -> str:
    (path / "trace").mkdir(parents=True)
    for number, lines in enumerate(pairs):
        (path / "trace" / f"rank-0000-0{number}.jsonl").write_bytes(b'{"trace":1,"run_id":"of its own"}\n' + lines)
    return course(path)


def test_what_was_asked_and_stored_alike_is_one_course(tmp_path: Path) -> None:
    one, other = SEGMENT % b"aa" + CLOSE, SEGMENT % b"bb" + CLOSE
    assert traced(tmp_path / "1", one, other) == traced(tmp_path / "2", one, other) != ""
    assert traced(tmp_path / "3", one, one) != traced(tmp_path / "4", one, other)
    assert traced(tmp_path / "5", SEGMENT % b"aa" + SEGMENT % b"bb" + CLOSE) != traced(tmp_path / "6", one, other)


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        SEGMENT % b"aa",
        SEGMENT % b"aa" + b'{"dropped":0}\n' + CLOSE,
        SEGMENT % b"aa" + b'{"close":',
        b'{"segment":0}\n',
    ],
)
@guards("reports/read/course.py", '"close" in marks[-1] and not any("dropped" in mark for mark in marks)', "True")
def test_what_was_not_recorded_as_a_whole_is_no_course(tmp_path: Path, lines: bytes) -> None:
    assert traced(tmp_path / "run", lines) == ""
    assert traced(tmp_path / "more", SEGMENT % b"aa" + CLOSE, lines) == ""


def test_a_run_without_traces_has_no_course(tmp_path: Path) -> None:
    assert course(tmp_path) == ""
    assert traced(tmp_path / "run") == ""


def test_a_link_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    traced(tmp_path / "run", SEGMENT % b"aa" + CLOSE)
    (tmp_path / "link" / "trace").mkdir(parents=True)
    (tmp_path / "link" / "trace" / "rank-0000-00.jsonl").symlink_to(tmp_path / "run" / "trace" / "rank-0000-00.jsonl")
    assert course(tmp_path / "link") == ""

"""The reader: a run as it was written, and a sentence for everything that is wrong with one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.disk.process import identity
from reports.errors import RunUnreadable
from reports.reader import find_runs, read_run
from reports.record.totals import fold, summarise
from reports.writer import RunWriter
from tests.reports.records_for_tests import CACHE, MANIFEST, divergence, edit, leaf, window, write_run


@pytest.fixture
def gone() -> int:
    """Number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def rank0(path: Path) -> Path:
    return path / "rank-0000.jsonl"


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestRoundTrip:
    def test_everything_written_is_read(self, tmp_path: Path) -> None:
        diverged = (
            divergence(),
            divergence(
                id=1, env_id=None, key=None, outcome=None, leaves=(leaf(max_abs_diff=None, max_abs_index=None),)
            ),
        )
        windows = (window(0), window(1, divergences={"value|stale version of this key|candidate": 2}))

        run = read_run(write_run(tmp_path, windows=windows, divergences=diverged))

        assert run.problems == []
        assert run.state == "complete"
        assert run.windows == list(windows)
        assert run.divergences == list(diverged)
        assert run.totals == fold(windows)
        assert [(line["cache"], line["control"]) for line in run.caches] == [("world_model", CACHE["control"])]
        assert [(line["event"], line["detail"]) for line in run.events] == [("weights_updated", "version 1")]
        assert run.manifest["git"] == MANIFEST["git"]
        assert run.summary is not None
        assert run.summary["ops"] == run.totals.ops

    def test_hostile_text_comes_back_as_it_was(self, tmp_path: Path) -> None:
        text = "<script>alert(1)</script> [red]\x1b[31m\u202e \u2028\u2029\x00\n\"'\\ \ud800 " + "é" * 10_000
        windows = (window(0, divergences={"error|raised|candidate": 1}),)
        from_hostile = divergence(cache=text, explanation=text, candidate_error=text, history=(text, text))
        hostile = divergence(**{**{name: getattr(from_hostile, name) for name in from_hostile.__dataclass_fields__}})

        path = write_run(tmp_path, windows=windows, divergences=(hostile,))

        assert read_run(path).divergences == [hostile]

    def test_several_ranks(self, tmp_path: Path) -> None:
        pens = [
            RunWriter.create(tmp_path, "r1", MANIFEST | {"world_size": 2}, rank=rank, evidence_limit_bytes=0)
            for rank in (0, 1)
        ]
        for pen in pens:
            pen.window(window(0))
            pen.close(summarise(fold([window(0)]), schema=1, run_id="r1", state="complete"))

        run = read_run(tmp_path / "r1")

        assert run.problems == []
        assert run.state == "complete"
        assert run.totals.ops["get.init"] == 80


class TestState:
    def test_in_progress_while_the_process_lives(self, tmp_path: Path) -> None:
        run = read_run(write_run(tmp_path, close=False))

        assert (run.state, run.problems) == ("in progress", [])

    def test_the_name_of_the_program_is_not_taken_for_the_machine(self, tmp_path: Path) -> None:
        assert read_run(write_run(tmp_path, close=False, host="unizero")).state == "in progress"

    def test_a_line_being_written_is_no_problem_of_a_run_in_progress(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, close=False)
        with rank0(path).open("ab") as file:
            file.write(b'{"type": "wind')

        run = read_run(path)

        assert (run.state, run.problems, len(run.windows)) == ("in progress", [], 2)

    def test_crashed_once_the_process_is_gone(self, tmp_path: Path, gone: int) -> None:
        run = read_run(write_run(tmp_path, close=False, pid=gone))

        assert run.state == "crashed"
        assert "rank-0000.jsonl: no close, so rank 0 did not end in order" in run.problems
        assert "summary.json is missing or unreadable: the run did not end in order" in run.problems
        assert len(run.windows) == 2

    def test_crashed_if_another_process_has_its_number_now(self, tmp_path: Path) -> None:
        if identity()["pid_started"] is None:
            pytest.skip("this system does not say when a process started")

        assert read_run(write_run(tmp_path, close=False, pid_started=1)).state == "crashed"

    @pytest.mark.skipif(sys.platform != "linux", reason="zombies are told by /proc")
    def test_crashed_if_nobody_waited_for_it(self, tmp_path: Path) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        try:
            while f"/proc/{child.pid}/stat" and ") Z " not in Path(f"/proc/{child.pid}/stat").read_text():
                time.sleep(0.01)
            assert read_run(write_run(tmp_path, close=False, pid=child.pid, pid_started=None)).state == "crashed"
        finally:
            child.wait()

    @pytest.mark.parametrize("manifest", [{"hostname": "another-machine"}, {"pid": None}, {"pid": "12"}, {"pid": -1}])
    def test_crashed_if_nobody_here_can_tell(self, tmp_path: Path, manifest: dict[str, Any]) -> None:
        assert read_run(write_run(tmp_path, close=False, **manifest)).state == "crashed"

    def test_crashed_if_it_closed_without_a_summary(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        (path / "summary.json").unlink()

        run = read_run(path)

        assert run.state == "crashed"
        assert "summary.json is missing or unreadable: the run did not end in order" in run.problems

    def test_crashed_if_the_summary_says_so(self, tmp_path: Path) -> None:
        assert read_run(write_run(tmp_path, state="crashed")).state == "crashed"


class TestDamage:
    def test_garbled_lines_are_named_and_the_rest_is_read(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        bad = [b"{not json\n", b"\xff\xfe\n", b"[]\n", b"7\n", b'{"type": "window"}\n', b'{"type": "news"}\n']
        bad += [b"[" * 100_000 + b"\n", b'{"type": "divergence", "id": 0}\n', b"9" * 5000 + b"\n"]
        edit(rank0(path), lambda lines: [*lines[:1], *bad, *lines[1:]])

        run = read_run(path)

        assert len(run.windows) == 2
        assert all(problem.startswith("rank-0000.jsonl: ") for problem in run.problems)
        said = [problem.partition(": ")[2] for problem in run.problems]
        assert said[:6] == [
            "line 2: no JSON",
            "line 3: no UTF-8",
            "lines 4, 5: no object",
            "line 6: no window that this version understands: lacks 'cache'",
            "line 7: of a type that this version does not know, 'news'",
            "line 8: nested too deeply",
        ]
        assert said[6].startswith("line 9: no divergence that this version understands: not a Divergence: ")
        assert said[7].startswith("line 10: ")
        assert said[8:] == []  # what was added is not missed

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"ops": {"get.init": -1}}, "-1 is no count"),
            ({"ops": {"get.init": "7"}}, "'7' is no count"),
            ({"ops": {"get.init": True}}, "True is no count"),
            ({"ops": {"get.init": 10**400}}, "is no count"),
            ({"ops": [1]}, "a table of counts is none"),
            ({"lookups": {"init": {"hit": 1}}}, "unknown outcome 'hit'"),
            ({"lookups": {"init": 1}}, "a table of counts is none"),
            ({"lookups": [1]}, "no attribute"),
            ({"latency_ns": {"control.get.init": {"99999999999": 1}}}, "latency outside the histogram's buckets"),
            ({"divergences": {"value": 1}}, "'value' is no dimension|cause|fault"),
            ({"t_s": float("nan")}, "t_s is no time"),
            ({"t_s": 1e300}, "t_s is no time"),
            ({"timed": [1.0, -1.0, 3]}, "[1.0, -1.0, 3] is no time of both sides"),
            ({"t_s": "1"}, "not supported"),
            ({"seq": 1.5}, "1.5 is no seq"),
            ({"harness_ns": -5}, "-5 is no harness_ns"),
            ({"cache": None}, "cache is no name"),
        ],
    )
    def test_a_window_that_can_not_be_added_is_no_window(
        self, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        path = write_run(tmp_path)
        edit(rank0(path), lambda lines: [json.dumps(json.loads(lines[2]) | change).encode() + b"\n", *lines[3:]])

        run = read_run(path)

        assert said in run.problems[0]
        assert [record.seq for record in run.windows] == [1]
        assert "rank-0000.jsonl: 1 window of 'world_model' missing before its last" in run.problems

    def test_two_records_on_one_line_are_none(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        two = b'{"type":"event","event":"a"},{"type":"event","event":"b"}\n'
        edit(rank0(path), lambda lines: [*lines[:2], two, *lines[2:]])

        run = read_run(path)

        assert run.problems == ["rank-0000.jsonl: line 3: no JSON"]
        assert [line["event"] for line in run.events] == ["weights_updated"]

    def test_many_bad_lines_make_few_sentences(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        edit(
            rank0(path), lambda lines: [b'{"type": "%d"}\n' % number for number in range(2000)] + [b"x\n"] * 50 + lines
        )

        run = read_run(path)

        assert len(run.problems) < 25
        assert "rank-0000.jsonl: lines 21, 22, 23, 24, 25 and 2025 more: further reasons" in run.problems

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9, 0.99])
    def test_truncated_anywhere(self, tmp_path: Path, share: float, gone: int) -> None:
        path = write_run(tmp_path, divergences=(divergence(),), pid=gone)
        whole = rank0(path).read_bytes()
        rank0(path).write_bytes(whole[: int(len(whole) * share)])

        run = read_run(path)

        assert run.state == "crashed"
        assert "rank-0000.jsonl: the last line is cut off" in run.problems

    def test_random_damage_never_raises_and_never_changes_a_total_unnoticed(self, tmp_path: Path) -> None:
        generator = random.Random(0)
        path = write_run(tmp_path, divergences=(divergence(),))
        whole = rank0(path).read_bytes()
        clean = read_run(path)
        for _ in range(300):
            damaged = bytearray(whole)
            start = generator.randrange(len(whole) - 40)
            damaged[start : start + generator.randrange(1, 40)] = generator.randbytes(generator.randrange(3))
            rank0(path).write_bytes(damaged)

            run = read_run(path)

            # A digit that became another one can only be noticed where two files tell the same.
            counted = (run.totals.ops, run.totals.outcomes(), run.totals.divergences, run.totals.coverage)
            same = (clean.totals.ops, clean.totals.outcomes(), clean.totals.divergences, clean.totals.coverage)
            assert counted == same or run.problems, bytes(damaged)

    def test_a_window_taken_out_shows(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=(window(0), window(1), window(2)))
        edit(rank0(path), lambda lines: [*lines[:3], *lines[4:]])

        problems = read_run(path).problems

        assert "rank-0000.jsonl: 1 window of 'world_model' missing before its last" in problems
        assert "rank-0000.jsonl: 4 lines can be read before its close, which counts 5" in problems
        assert any("disagree on ops: get.init is 120 in the summary, 80 in the windows" in text for text in problems)

    def test_the_last_window_taken_out_shows(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        edit(rank0(path), lambda lines: [*lines[:3], lines[-1]])

        assert "rank-0000.jsonl: 3 lines can be read before its close, which counts 4" in read_run(path).problems

    def test_a_repeated_window_shows(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        edit(rank0(path), lambda lines: [*lines[:3], lines[2], *lines[3:]])

        assert "rank-0000.jsonl: windows of 'world_model' are repeated or out of order" in read_run(path).problems

    def test_lines_after_the_close_do_not_count(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        edit(rank0(path), lambda lines: [*lines, lines[2]])

        run = read_run(path)

        assert len(run.windows) == 2
        assert run.problems == ["rank-0000.jsonl: line 6: after the close of the run; ignored"]

    def test_a_divergence_that_no_window_counts_shows(self, tmp_path: Path) -> None:
        run = read_run(write_run(tmp_path, divergences=(divergence(),)))

        assert run.problems == [
            "1 divergences of 'value|stale version of this key|candidate' are written in full, but the windows count 0"
        ]

    @pytest.mark.parametrize("field", ["ops", "lookups", "divergences", "coverage", "dropped"])
    def test_a_summary_that_its_windows_do_not_bear_out_shows(self, tmp_path: Path, field: str) -> None:
        path = write_run(tmp_path)
        summary = json.loads((path / "summary.json").read_text())
        name = {"ops": "get.init", "lookups": "both_hit_equal", "divergences": "total"}.get(field, "evictions")
        change_json(path / "summary.json", **{field: summary[field] | {name: 999}})

        (problem,) = read_run(path).problems

        assert problem.startswith(f"summary.json and the windows disagree on {field}: {name} is 999 in the summary, ")


class TestForeign:
    def test_a_manifest_that_is_missing(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        (path / "run.json").unlink()

        run = read_run(path)

        assert run.problems[0] == "run.json is missing: what ran is unknown"
        assert "run.json does not say how many ranks ran" in run.problems
        assert run.state == "crashed"
        assert len(run.windows) == 2

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"{oops", "run.json can't be read as JSON: "),
            (b"\xff\xff", "run.json can't be read as JSON: "),
            (b"[" * 100_000, "run.json can't be read as JSON: "),
            (b"[1]", "run.json holds no object"),
            (b'{"name": "a package"}', "run.json is not of a run: it lacks schema or run_id"),
            (
                b'{"schema": 9, "run_id": "r1", "world_size": 1}',
                "run.json is of schema 9, this kv-lockstep reads up to 2: upgrade it",
            ),
            (
                b'{"schema": "x", "run_id": "r1", "world_size": 1}',
                "run.json is of schema 'x', this kv-lockstep reads up to 2",
            ),
        ],
    )
    def test_a_manifest_of_something_else(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = write_run(tmp_path)
        (path / "run.json").write_bytes(content)

        run = read_run(path)

        assert run.problems[0].startswith(said)
        assert len(run.windows) == 2

    def test_ranks_that_are_missing(self, tmp_path: Path, gone: int) -> None:
        path = write_run(tmp_path, pid=gone)
        change_json(path / "run.json", world_size=10**9)

        run = read_run(path)

        assert run.problems[0] == (
            "999999999 of 1000000000 ranks left no file that can be read: rank 1, 2, 3, 4, 5 and 999999994 more"
        )
        assert run.state == "crashed"

    def test_a_rank_that_should_not_be_there(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        (path / "rank-0007.jsonl").write_bytes(b"")

        assert "rank-0007.jsonl belongs to a rank beyond the 1 that run.json names" in read_run(path).problems

    def test_links_out_of_the_directory_are_not_followed(self, tmp_path: Path) -> None:
        other = write_run(tmp_path, "other", divergences=(divergence(),))
        path = write_run(tmp_path, "r1")
        for name in ("rank-0000.jsonl", "summary.json"):
            (path / name).unlink()
            (path / name).symlink_to(other / name)

        run = read_run(path)

        assert run.windows == []
        assert run.summary is None
        assert "rank-0000.jsonl is no plain file inside the run directory; not read" in run.problems
        assert "summary.json is no plain file inside the run directory; not read" in run.problems

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_in_place_of_a_file_does_not_block(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        rank0(path).unlink()
        os.mkfifo(rank0(path))

        assert "rank-0000.jsonl is no plain file inside the run directory; not read" in read_run(path).problems

    @pytest.mark.parametrize(
        "name", ["../secret", "/etc/passwd", "evidence/../../secret", "evidence/absent", "run.json"]
    )
    def test_evidence_that_is_not_of_this_run_is_blanked(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret").write_text("secret")
        windows = (window(0, divergences={"value|stale version of this key|candidate": 1}),)
        path = write_run(tmp_path, windows=windows, divergences=(divergence(evidence=name),))
        (path / "evidence").mkdir()

        run = read_run(path)

        assert run.problems == [f"evidence of 1 divergences is no file of this run, the first is {name!r}"]
        assert run.divergences[0].evidence == ""
        assert name in run.divergences[0].evidence_note

    def test_evidence_of_this_run_stays(self, tmp_path: Path) -> None:
        writer = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=10)
        relative = writer.evidence("d0.safetensors", b"x")
        writer.divergence(divergence(evidence=relative))

        run = read_run(writer.path)

        assert (run.divergences[0].evidence, run.problems) == ("evidence/r0-d0.safetensors", [])


class TestNoRun:
    def paths(self, tmp_path: Path) -> Iterator[tuple[Path, str]]:
        yield tmp_path / "absent", "there is nothing"
        (tmp_path / "file").write_text("x")
        yield tmp_path / "file", "found a file"
        (tmp_path / "empty").mkdir()
        yield tmp_path / "empty", "found a directory with neither a run.json of a run nor rank-NNNN.jsonl"
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "run.json").write_text('{"a": 1}')
        yield tmp_path / "foreign", "found a directory with neither"

    def test_says_what_was_found_and_what_was_expected(self, tmp_path: Path) -> None:
        for path, said in self.paths(tmp_path):
            for read in (read_run, find_runs):
                with pytest.raises(RunUnreadable) as error:
                    read(path)
                assert said in str(error.value)
                assert "expected a run directory" in str(error.value)


class TestFindRuns:
    def test_a_run_is_itself(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)

        assert find_runs(path) == [path]

    def test_runs_below_come_oldest_first(self, tmp_path: Path) -> None:
        write_run(tmp_path, "a", created="2026-01-02T00:00:00Z")
        write_run(tmp_path, "b", created="2026-01-01T23:00:00-03:00")
        write_run(tmp_path, "c", created=1)
        write_run(tmp_path, "d", created="yesterday")
        (tmp_path / "no-run").mkdir()
        (tmp_path / "latest").symlink_to(tmp_path / "a")

        assert [path.name for path in find_runs(tmp_path)] == ["c", "a", "b", "d"]

    def test_a_run_without_its_manifest_is_found(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        (path / "run.json").unlink()

        assert find_runs(tmp_path) == [path]


class TestLongRuns:
    def test_very_many_windows_are_added_up_and_nothing_is_lost(self, tmp_path: Path) -> None:
        group = "value|rounding|candidate"
        windows = tuple(
            window(seq, ops={"get.init": seq % 7}, divergences={group: seq % 2}, envs={str(seq % 5): 1})
            for seq in range(5000)
        )

        run = read_run(write_run(tmp_path, windows=windows))

        assert run.problems == []
        assert len(run.windows) <= 4096
        assert run.totals == fold(windows)
        assert len({b.seq - a.seq for a, b in zip(run.windows, run.windows[1:], strict=False)}) == 1, "uneven"
        assert run.windows[-1].t_s == windows[-1].t_s
        assert run.windows[-1].train_iter == windows[-1].train_iter

    def test_very_many_events_are_counted_and_few_kept(self, tmp_path: Path) -> None:
        pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
        for _ in range(5000):
            pen.event("reset")
        pen.event("seldom", "once")

        run = read_run(pen.path)

        assert run.n_events == {"reset": 5000, "seldom": 1}
        assert len(run.events) < 3000
        assert run.events[-1]["event"] == "seldom"


def test_a_killed_run_counts_the_divergences_whose_window_is_lost(tmp_path: Path, gone: int) -> None:
    lost = write_run(
        tmp_path, windows=(window(0),), divergences=(divergence(), divergence(id=1)), close=False, pid=gone
    )

    run = read_run(lost)

    assert run.state == "crashed"
    assert run.totals.divergences == {divergence().group: 2}


def test_what_ran_says_its_rank(tmp_path: Path) -> None:
    pen = RunWriter.create(tmp_path, "r1", MANIFEST | {"world_size": 2}, rank=1, evidence_limit_bytes=0)
    pen.window(window(0))
    pen.divergence(divergence())

    run = read_run(pen.path)

    assert [one.rank for one in (*run.windows, *run.divergences)] == [1, 1]

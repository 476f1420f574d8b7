"""The writer: what it wrote is there after anything, and nothing it meets reaches the training."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.errors import RunDirectoryError
from reports.reader import read_run
from reports.record.records import Window
from reports.record.totals import fold, summarise
from reports.record.words import SCHEMA
from reports.writer import RunWriter
from tests.guards import guards
from tests.reports.records_for_tests import MANIFEST, divergence, window, write_run

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="uses /proc, mount or RLIMIT_FSIZE")


def create(out: Path, run_id: str = "r1", rank: int = 0, limit: int = 1 << 20, **manifest: Any) -> RunWriter:
    return RunWriter.create(out, run_id, MANIFEST | manifest, rank=rank, evidence_limit_bytes=limit)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "rank-0000.jsonl").read_bytes().splitlines()]


def run_python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a program that can import what this test can."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_importing_the_writer_loads_nothing_heavy() -> None:
    code = (
        "import sys, reports.writer, reports.reader\n"
        "print(sorted({'pandas', 'jinja2', 'rich', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert run_python(code).stdout == "[]\n"


class TestCreate:
    def test_fills_in_what_the_manifest_lacks(self, tmp_path: Path) -> None:
        writer = RunWriter.create(tmp_path / "deep" / "er", "r1", {"seed": 3}, evidence_limit_bytes=0)

        manifest = json.loads((writer.path / "run.json").read_text())

        assert writer.path == tmp_path / "deep" / "er" / "r1"
        assert manifest["seed"] == 3
        assert manifest["schema"] == SCHEMA
        assert manifest["run_id"] == "r1"
        assert manifest["world_size"] == 1
        assert manifest["pid"] == os.getpid()
        assert manifest["hostname"] == socket.gethostname()
        assert not list(writer.path.glob(".*"))

    def test_describes_what_is_no_json(self, tmp_path: Path) -> None:
        class Mute:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        around: dict[str, Any] = {}
        around["self"] = around
        config = {"type": int, ("a", 1): {2, 1}, "inf": float("inf"), "mute": Mute(), "around": around}

        writer = create(tmp_path, config=config)

        stored = json.loads((writer.path / "run.json").read_text())["config"]
        assert stored["type"] == "<class 'int'>"
        assert stored["('a', 1)"] == [1, 2]
        assert stored["inf"] is None
        assert "Mute" in stored["mute"]

    def test_refuses_the_directory_of_another_run(self, tmp_path: Path) -> None:
        write_run(tmp_path)
        before = sorted((tmp_path / "r1").iterdir())

        with pytest.raises(
            RunDirectoryError, match=r"r1: holds run r1 already; choose another output directory or run"
        ):
            create(tmp_path)

        assert sorted((tmp_path / "r1").iterdir()) == before
        assert read_run(tmp_path / "r1").state == "complete"

    def test_refuses_lines_without_a_manifest(self, tmp_path: Path) -> None:
        (write_run(tmp_path) / "run.json").unlink()

        with pytest.raises(RunDirectoryError, match=r"rank-0000\.jsonl is there already"):
            create(tmp_path)

    def test_second_rank_joins_the_run_and_refuses_another(self, tmp_path: Path) -> None:
        create(tmp_path, world_size=2)
        second = create(tmp_path, rank=1)
        assert second.window(window())
        assert second.close({})
        assert not (second.path / "summary.json").exists()

        (tmp_path / "r2").mkdir()
        (tmp_path / "r2" / "run.json").write_text('{"run_id": "other"}')
        with pytest.raises(RunDirectoryError, match="holds run other already"):
            create(tmp_path, "r2", rank=1)

    @pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "../up", "a\\b", "a\0b"])
    def test_refuses_a_run_id_that_is_a_path(self, tmp_path: Path, run_id: str) -> None:
        with pytest.raises(RunDirectoryError, match="expected a plain directory name"):
            create(tmp_path, run_id)

    @needs_linux
    @guards("reports/disk/ranks.py", "if is_inside(path, name):", "if True:")
    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_pipe_in_the_place_of_a_file_is_refused_and_waits_for_nobody(self, tmp_path: Path, rank: int) -> None:
        def late(*_: Any) -> None:
            raise AssertionError("waits for somebody to write into a pipe")

        (tmp_path / "r1").mkdir()
        os.mkfifo(tmp_path / "r1" / "run.json")
        os.mkfifo(tmp_path / "r1" / f".run.json.{os.getpid()}.tmp")
        before = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 3, 3)
        try:
            with pytest.raises(RunDirectoryError, match="holds run of unknown id already"):
                create(tmp_path, rank=rank, world_size=2)
            (tmp_path / "r1" / "run.json").unlink()
            assert create(tmp_path, rank=rank, world_size=2).event("x")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @guards("reports/writer.py", "if path.is_symlink():", "if False:")
    @guards(
        "reports/disk/layout.py", "            temporary.unlink()  # of a process", "            pass  # of a process"
    )
    def test_a_link_out_of_the_directory_is_not_followed(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (tmp_path / "r1").symlink_to(outside)
        with pytest.raises(RunDirectoryError, match="r1: is a symbolic link, which is not followed"):
            create(tmp_path)
        (tmp_path / "r2").mkdir()
        (tmp_path / "r2" / f".run.json.{os.getpid()}.tmp").symlink_to(outside / "planted")
        create(tmp_path, "r2")
        assert not list(outside.iterdir())

    def test_says_what_stands_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        with pytest.raises(RunDirectoryError, match=r"file/r1: Not a directory; expected a directory that can be writ"):
            create(tmp_path / "file")

    @needs_linux
    def test_unwritable_directory_raises_before_training(self) -> None:
        with pytest.raises(RunDirectoryError, match=r"/proc/r1: .*; expected a directory that can be written; mend it"):
            create(Path("/proc"))

    def test_full_disk_at_creation_leaves_no_half_run(self, tmp_path: Path) -> None:
        code = (
            "import resource, sys\nfrom pathlib import Path\nfrom reports.writer import *\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
            "try: RunWriter.create(Path(sys.argv[1]), 'r1', {'x': 'y' * 500}, evidence_limit_bytes=0)\n"
            "except RunDirectoryError as error: print(error)\n"
        )
        done = run_python(code, tmp_path)

        assert "File too large; expected a directory that can be written" in done.stdout, done.stderr
        assert list((tmp_path / "r1").iterdir()) == []

    def test_the_host_may_change_its_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        writer = create(Path("out"))

        monkeypatch.chdir(tmp_path / "elsewhere")

        assert writer.close({"state": "complete"})
        assert (tmp_path / "out" / "r1" / "summary.json").exists()


class TestLines:
    def test_every_line_has_type_and_time(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, divergences=(divergence(),))

        found = [(line["type"], line["t_s"]) for line in lines(path)]

        assert [kind for kind, _ in found] == ["cache", "event", "divergence", "window", "window", "close"]
        assert [t_s for _, t_s in found[2:5]] == [12.5, 5.0, 10.0]
        assert 0 <= found[0][1] <= found[1][1] <= found[5][1] < 60

    def test_nan_and_infinity_become_null(self, tmp_path: Path) -> None:
        writer = create(tmp_path)

        writer.cache("c", policy={"share": float("nan"), "limits": [float("inf"), 1.0]})
        writer.window(window(t_s=float("nan")))

        first, second = lines(writer.path)
        assert first["policy"] == {"share": None, "limits": [None, 1.0]}
        assert 0 <= second["t_s"] < 60
        assert writer.faults == {}

    def test_an_object_that_is_no_json_costs_its_line_only(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        around: list[Any] = []
        around.append(around)

        assert not writer.cache("c", policy=object())
        assert not writer.cache("c", policy=around)
        assert not writer.window(None)  # type: ignore[arg-type]
        assert writer.event("after")

        assert [line["type"] for line in lines(writer.path)] == ["event"]
        assert writer.lost_lines == 3
        assert sum(writer.faults.values()) == 3
        assert writer.faults["line: TypeError: object is no JSON"] == 1
        assert not writer.close({"state": "complete"})

    def test_lost_lines_are_in_the_summary_and_no_run_with_them_is_clean(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        writer.cache("c", policy=object())
        writer.close({"schema": 1, "run_id": "r1", "state": "complete"})

        run = read_run(writer.path)

        assert run.summary is not None
        assert run.summary["writer"]["lost_lines"] == 1
        assert "rank-0000.jsonl: the writer lost 1 line" in run.problems

    def test_writing_after_the_close_is_counted_and_harmless(self, tmp_path: Path) -> None:
        writer = create(tmp_path)

        first, second = writer.close({"state": "complete"}), writer.close({"state": "other"})

        assert (first, second) == (True, True)
        assert not writer.window(window())
        assert writer.faults == {"line: ValueError: written after the close": 1}
        assert json.loads((writer.path / "summary.json").read_text())["state"] == "complete"
        assert lines(writer.path)[-1]["type"] == "close"

    def test_a_summary_that_is_no_json_does_not_raise(self, tmp_path: Path) -> None:
        writer = create(tmp_path)

        assert not writer.close({"state": object()})

        assert not (writer.path / "summary.json").exists()
        assert writer.faults == {"summary: TypeError: object is no JSON": 1}

    def test_threads_write_whole_lines(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        text = "x" * 3000

        def write(name: int) -> None:
            for number in range(200):
                writer.event(f"{name}-{number}", text)

        threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        written = {line["event"] for line in lines(writer.path)}
        assert len(written) == 800
        assert writer.close({})
        assert lines(writer.path)[-1]["lines"] == 800

    def test_the_first_loss_is_said_at_once_and_all_of_them_at_the_end(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        writer = create(tmp_path)
        said = []
        for _ in range(3):
            writer.cache("c", policy=object())
            said.append(capsys.readouterr().err)
        writer.close({})

        assert "r1: line can't be written: object is no JSON; the training goes on, this run can't pass" in said[0]
        assert said[1:] == ["", ""]
        assert "r1: 3 lines lost: object is no JSON; this run can't pass" in capsys.readouterr().err

    def test_the_number_of_distinct_faults_is_bounded(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        for number in range(100):
            writer.cache("c", policy=type(f"T{number}", (), {})())

        assert len(writer.faults) == 33
        assert sum(writer.faults.values()) == writer.lost_lines == 100


class TestAccidents:
    @needs_linux
    def test_sigkill_loses_no_line(self, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys\nfrom pathlib import Path\nfrom tests.reports.records_for_tests import *\n"
            "writer = RunWriter.create(Path(sys.argv[1]), 'r1', MANIFEST, evidence_limit_bytes=0)\n"
            "for seq in range(1000): assert writer.window(window(seq))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert run_python(code, tmp_path).returncode == -signal.SIGKILL

        run = read_run(tmp_path / "r1")

        assert len(run.windows) == 1000
        assert run.totals.ops["get.init"] == 40_000
        assert run.state == "crashed"
        assert any("no close" in problem for problem in run.problems)

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
        ) if shutil.which("mount") else None  # fmt: skip
        if mounted is None or mounted.returncode:
            pytest.skip("may not mount a tmpfs here")
        yield disk
        subprocess.run(["umount", "-l", str(disk)], check=True)

    @needs_linux
    def test_full_disk_costs_lines_and_the_rest_is_read(self, small_disk: Path) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 30_000)
        writer = create(small_disk)
        written = [writer.window(window(seq)) for seq in range(100)]
        assert writer.evidence("d0", b"x" * 30_000) == ""
        assert "No space left on device" in writer.evidence_reason
        assert True in written
        assert False in written

        ballast.unlink()
        written += [writer.window(window(seq)) for seq in range(100, 110)]

        assert written[100:] == [True] * 10
        assert not writer.close(summarise(fold(map(window, range(110))), schema=1, run_id="r1", state="complete"))
        run = read_run(writer.path)
        assert [record.seq for record in run.windows] == [seq for seq, there in enumerate(written) if there]
        assert writer.lost_lines == written.count(False)
        assert f"rank-0000.jsonl: the writer lost {writer.lost_lines} lines" in run.problems
        assert any("No space left on device" in problem for problem in run.problems)
        assert any("summary.json and the windows disagree on ops" in problem for problem in run.problems)

    @needs_linux
    @guards("reports/disk/losses.py", "os.pwrite(fd, data, 0)", "pass")
    @guards("reports/read/consistency.py", "if may_go_on and ended_well", "if ended_well")
    def test_a_full_disk_is_the_cause_that_is_named_also_where_nobody_could_close(self, small_disk: Path) -> None:
        writer = create(small_disk)
        while writer.window(window(writer._lines)):
            pass
        for seq in range(3):
            writer.window(window(seq))

        run = read_run(writer.path)
        assert (run.state, run.lost) == ("crashed", "4 lines lost: No space left on device"), "not in progress for ever"
        writer.close({"state": "complete"})
        assert read_run(writer.path).lost.startswith(
            "5 lines lost: No space left on device; summary not written: No sp"
        )

    @needs_linux
    def test_short_write_tears_one_line(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        writer.event("first")
        size = (writer.path / "rank-0000.jsonl").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
            assert not writer.event("torn")
            assert not writer.event("lost")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert writer.event("after")
        writer.close({})

        raw = (writer.path / "rank-0000.jsonl").read_bytes().splitlines()
        run = read_run(writer.path)

        assert len(raw) == 4
        assert len(raw[1]) == 20
        assert [line["event"] for line in run.events] == ["first", "after"]
        assert writer.lost_lines == 2
        assert "rank-0000.jsonl: line 2: no JSON" in run.problems

    @needs_linux
    def test_a_write_that_fails_at_once_leaves_nothing_to_complain_of(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        writer.event("first")
        size = (writer.path / "rank-0000.jsonl").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            assert not writer.event("lost")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert writer.event("after")

        run = read_run(writer.path)

        assert [line["event"] for line in run.events] == ["first", "after"]
        assert run.problems == []  # the loss itself is told by the close

    def test_a_removed_directory_is_noticed(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        assert writer.window(window())
        shutil.rmtree(writer.path)

        assert not writer.window(window(1))
        assert writer.evidence("d0", b"x") == ""
        assert not writer.close({"state": "complete"})

        assert writer.lost_lines == 2
        assert any("rank-0000.jsonl was removed" in reason for reason in writer.faults)
        assert not writer.path.exists()

    @needs_linux
    def test_a_read_only_mount_is_survived(self, small_disk: Path) -> None:
        writer = create(small_disk)
        writer.window(window())
        remounted = subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False)
        if remounted.returncode:
            # A file system with an open pen refuses that; only new names can be made impossible then.
            (writer.path / "evidence").write_text("a file where the directory should be")

        assert writer.evidence("d0", b"x") == ""
        assert writer.evidence_reason.startswith("not kept: evidence: ")
        assert not writer.close({"state": "complete"})

    @needs_linux
    def test_a_forked_child_is_silent(self, tmp_path: Path) -> None:
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom tests.reports.records_for_tests import *\n"
            "writer = RunWriter.create(Path(sys.argv[1]), 'r1', MANIFEST, evidence_limit_bytes=100)\n"
            "writer.event('parent')\n"
            "writer._lock.acquire()\n"  # as another thread of the parent may hold it during a fork
            "pid = os.fork()\n"
            "if not pid:\n"
            "    import threading\n"
            "    def work():\n"
            "        ok = writer.window(window()) and writer.event('child') and writer.evidence('e', b'x') == ''\n"
            "        os._exit(0 if ok and writer.close({'state': 'child'}) and not writer.faults else 1)\n"
            "    threading.Thread(target=work).start()\n"
            "    import time; time.sleep(20); os._exit(2)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
            "writer._lock.release()\n"
            "print(writer.close({'state': 'complete'}))\n"
        )
        done = run_python(code, tmp_path)

        assert done.stdout.split() == ["0", "True"], done.stderr
        assert [line["type"] for line in lines(tmp_path / "r1")] == ["event", "close"]
        assert json.loads((tmp_path / "r1" / "summary.json").read_text())["state"] == "complete"


class TestEvidence:
    def test_is_kept_under_a_harmless_name(self, tmp_path: Path) -> None:
        writer = create(tmp_path)

        relative = writer.evidence("../../etc/pass wd\n", b"abc")

        assert relative == "evidence/r0-_.._etc_pass_wd_"
        assert (writer.path / relative).read_bytes() == b"abc"
        assert writer.evidence_reason == ""

    def test_stops_at_the_limit_and_says_so(self, tmp_path: Path) -> None:
        writer = create(tmp_path, limit=10)

        assert writer.evidence("a", b"x" * 8)
        assert writer.evidence("b", b"x" * 8) == ""
        assert writer.evidence_reason == "not kept: 8 bytes beyond the limit of 10 for this rank's evidence"
        assert writer.evidence("c", b"xx")

        assert writer.faults == {}
        assert writer.close({})

    def test_is_never_overwritten(self, tmp_path: Path) -> None:
        writer = create(tmp_path)
        relative = writer.evidence("a", b"first")

        assert writer.evidence("a", b"second") == ""
        assert "is there already" in writer.evidence_reason
        assert (writer.path / relative).read_bytes() == b"first"


def test_windows_of_numpy_counts_are_written(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    writer = create(tmp_path)

    assert writer.window(Window("c", 0, 1.0, ops={"get.init": numpy.int64(3)}, harness_ns=numpy.int64(7)))
    writer.close({})

    assert read_run(writer.path).totals.ops == {"get.init": 3}

"""How a job's process is started and ended, and whose fault its end is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reports.record.campaign import Fate
from tests.guards import guards
from validator.campaign import process
from validator.campaign.local import Local
from validator.campaign.process import Child, End


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is a line of Python here, which takes hundredths of a second."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-S", "-E", "-c"))
    monkeypatch.setattr(process, "_GRACE_S", 0.3)


def ended(line: str, tmp_path: Path, seed: int | None = None) -> End:
    return Child([line], tmp_path, 3, seed, 0.0).wait()


@pytest.mark.parametrize("code", [0, 1, 5])
def test_the_code_of_a_verdict_is_one(tmp_path: Path, code: int) -> None:
    end = ended(f"raise SystemExit({code})", tmp_path)
    assert (end.fate, end.code, end.reason) == (Fate.JUDGED, code, "")


@pytest.mark.parametrize(("code", "line"), [(2, "exit(2)"), (3, "exit(3)"), (7, "exit(7)")])
def test_any_other_code_is_the_jobs_own_failure(tmp_path: Path, code: int, line: str) -> None:
    end = ended(f"print('why it was'); import sys; sys.{line}", tmp_path)
    assert (end.fate, end.code) == (Fate.FAILED, code)
    assert end.reason == f"ended with exit code {code}: why it was"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_what_ends_a_job_from_outside_is_the_machines(tmp_path: Path, name: str) -> None:
    end = ended(f"import os, signal; os.kill(os.getpid(), signal.{name})", tmp_path)
    assert (end.fate, end.reason) == (Fate.LOST, f"killed by {name}")


@guards("validator/campaign/process.py", "if name in _OF_THE_MACHINE:", "if name:")
def test_a_crash_is_the_jobs_own(tmp_path: Path) -> None:
    end = ended("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path)
    assert end.fate is Fate.FAILED
    assert end.reason == "ended by SIGSEGV: it printed nothing"


def test_a_job_past_its_time_is_ended_with_all_it_started(tmp_path: Path) -> None:
    line = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "child = os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    child, pids = Child([line], tmp_path, 1, None, 60.0), list[int]()
    while len(pids) < 2:
        assert child.poll() is None
        pids = [int(word) for word in (tmp_path / "log.txt").read_text().split()]
    child._timeout_s = 0.01
    end = child.wait()
    assert (end.fate, end.reason) == (Fate.LOST, "past its time limit of 0.01 s")
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return fields[0] not in ("Z", "X")


def test_a_job_hears_its_seed_and_how_many_cores_it_has(tmp_path: Path) -> None:
    line = "import os; print(os.environ['KV_LOCKSTEP_SEED'], os.environ['OMP_NUM_THREADS'])"
    ended(line, tmp_path, seed=11)
    assert (tmp_path / "log.txt").read_text() == "11 3\n"


PARENT = """
import subprocess, sys
job = "import validator.campaign.one as one, time; one.end_with_parent(); print(flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", job], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid)
"""


@guards(
    "validator/campaign/one.py",
    "        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)\n",
    "        pass\n",
)
@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel tells a process that its parent died")
def test_a_job_does_not_outlive_who_waits_for_it() -> None:
    said = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True).stdout
    until = time.monotonic() + 5
    while is_running(int(said)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(int(said))


def test_local_runs_so_many_at_a_time_and_divides_the_cores(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert Local(0, 1, 0.0).threads == cores
    assert Local(cores * 4, 100, 0.0).threads == 1
    local = Local(2, 9, 0.0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert local.is_free()
        local.start(name, ["pass"], tmp_path / name, None)
    assert not local.is_free()
    found: list[tuple[str, End]] = []
    while len(found) < 2:
        found += local.ended(5.0)
    assert sorted(name for name, _ in found) == ["a", "b"]
    assert {(end.fate, end.host) for _, end in found} == {(Fate.JUDGED, os.uname().nodename)}
    assert local.is_free()


def test_local_stops_whatever_runs(tmp_path: Path) -> None:
    local = Local(1, 1, 0.0)
    local.start("a", ["import os, time; print(os.getpid(), flush=True); time.sleep(60)"], tmp_path, None)
    while not (tmp_path / "log.txt").read_text():
        time.sleep(0.01)
    local.stop()
    assert not is_running(int((tmp_path / "log.txt").read_text()))
    assert local.ended(0.0) == []


def test_signals_that_only_some_systems_have_are_named(tmp_path: Path) -> None:
    assert process.ended(-signal.SIGRTMIN - 1, tmp_path / "none", 0.0).reason.startswith("ended by signal ")

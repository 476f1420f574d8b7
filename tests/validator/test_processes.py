"""Whole processes: killed, crashed, forgotten to be closed, forked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reports.reader import read_run
from reports.record.words import Verdict
from validator.gate.judgement import judge

ROOT = Path(__file__).parents[2]

HOST = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from tests.validator.test_session import *
lockstep = Lockstep({out!r}, ValidationConfig(run_id="run", selftest=False, window_s=0.0))
cache = lockstep.shadow(control=manager(), candidate={candidate})
exercise(lockstep, cache)
{then}
"""


def run(tmp_path: Path, candidate: str, then: str) -> subprocess.CompletedProcess[str]:
    code = HOST.format(root=str(ROOT), out=str(tmp_path), candidate=candidate, then=then)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def gate(*runs: Path) -> int:
    command = [sys.executable, "-m", "validator.cli", "gate", *map(str, runs)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120).returncode


def test_divergences_before_a_sigkill_are_readable_and_fail_the_gate(tmp_path: Path) -> None:
    done = run(tmp_path, "WrongAt(30)", "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL, done.stderr
    recorded = read_run(tmp_path / "run")
    assert recorded.state == "crashed"
    assert len(recorded.divergences) == 1
    assert gate(tmp_path / "run") == 1


def test_a_clean_run_that_was_killed_is_inconclusive(tmp_path: Path) -> None:
    done = run(tmp_path, "manager()", "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert gate(tmp_path / "run") == 5


def test_a_run_nobody_closed_is_closed_at_exit(tmp_path: Path) -> None:
    done = run(tmp_path, "manager()", "")
    assert done.returncode == 0, done.stderr
    recorded = read_run(tmp_path / "run")
    assert recorded.state == "complete"
    assert "closed_at_exit" in (tmp_path / "run" / "rank-0000.jsonl").read_text()


def test_an_uncaught_error_makes_the_run_a_crashed_one(tmp_path: Path) -> None:
    done = run(tmp_path, "manager()", "raise ValueError('the training broke')")
    assert done.returncode == 1
    assert "the training broke" in done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["state"] == "crashed"
    assert judge([read_run(tmp_path / "run")]).verdict is Verdict.INCONCLUSIVE


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    then = """
lines = (lockstep.run_dir / "rank-0000.jsonl").read_text()
child = os.fork()
if not child:
    exercise(lockstep, cache)
    lockstep.close("crashed")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert (lockstep.run_dir / "rank-0000.jsonl").read_text() == lines
assert not (lockstep.run_dir / "summary.json").exists()
lockstep.close()
"""
    done = run(tmp_path, "manager()", then)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["state"] == "complete"


@pytest.mark.slow
def test_a_real_training_killed_in_the_middle_keeps_its_divergences(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "validator.cli", "train", "--config", "configs/smoke.toml", "--out", str(tmp_path)]
    command += ["--candidate", "tests.validator.candidates:WrongAtFifty", "--set", "total_env_steps=100000", "--quiet"]
    command += ["--set", "world_model_cfg.cache_validation_mode=true"]
    command += ["--set", "world_model_cfg.cache_validation.selftest=false"]
    training = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and training.poll() is None:
            streams = list(tmp_path.glob("*/rank-0000.jsonl"))
            if streams and '"divergence"' in streams[0].read_text():
                break
            time.sleep(0.1)
        assert training.poll() is None, training.stdout and training.stdout.read()
        os.kill(training.pid, signal.SIGKILL)
    finally:
        training.kill()
        training.communicate()
    (path,) = tmp_path.iterdir()
    assert read_run(path).divergences
    assert gate(path) == 1

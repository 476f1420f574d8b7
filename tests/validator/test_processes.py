"""Whole processes that are killed; how else they end, ``test_endings`` looks at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reports.reader import read_run
from tests.validator.sessions import HOST

ROOT = Path(__file__).parents[2]


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

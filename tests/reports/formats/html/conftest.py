"""Real runs and a real browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reports.formats.html.chrome import PROGRAM, Chrome

ROOT = Path(__file__).parents[4]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "validator.cli", *arguments]


def train(out: Path, *arguments: str) -> list[str]:
    settings = ("--set", "world_model_cfg.cache_validation_mode=true", "--out", str(out), "--quiet", "--no-shrink")
    return command("train", "--config", "configs/smoke.toml", *settings, *arguments)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run directory each that passes, fails by a planted fault, is inconclusive, and was killed."""
    out = tmp_path_factory.mktemp("runs")
    candidate = "tests.reports.formats.html.planted:last_token_lost"
    untested = ("--set", "world_model_cfg.cache_validation.selftest=false")  # its seconds prove nothing for these
    finished = {
        "passing": (0, train(out / "passing")),
        "failing": (1, train(out / "failing", "--candidate", candidate, "--set", "total_env_steps=60", *untested)),
        "inconclusive": (5, train(out / "inconclusive", "--set", "total_env_steps=30", *untested)),
    }
    for name, (code, line) in finished.items():
        done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == code, f"{name}: {done.stdout}{done.stderr}"
        assert "report.html" in done.stdout
    _kill_one(out / "crashed")
    line = command("report", str(out / "crashed"), "--format", "html")
    subprocess.run(line, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=120)
    return {name: next((out / name).iterdir()) for name in (*finished, "crashed")}


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    if PROGRAM is None:
        pytest.skip("no Chromium here; on Debian: apt-get install -y chromium")
    with Chrome() as browser:
        yield browser


def _kill_one(out: Path) -> None:
    """Start a training, and kill it once it has written some windows."""
    process = subprocess.Popen(
        train(out, "--set", "total_env_steps=1000000", "--set", "world_model_cfg.cache_validation.selftest=false"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            lines = [line for file in out.glob("*/rank-0000.jsonl") for line in file.read_text().splitlines()[:-1]]
            if sum(json.loads(line)["type"] == "window" for line in lines) >= 5:
                break
            time.sleep(0.1)
        assert process.poll() is None, "the training ended before it was killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

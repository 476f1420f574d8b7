"""Real runs and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reports.formats.html.chrome import PROGRAM, Chrome
from tests.validator.sessions import SMOKE, killed_training
from validator import cli

SHORT = {"total_env_steps": 16, "collect_steps": 4, "learning_starts": 8}
UNTESTED = "world_model_cfg.cache_validation.selftest=false"  # its seconds prove nothing for these


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run directory each that passes, fails by a planted fault, is inconclusive, and was killed."""
    out = tmp_path_factory.mktemp("runs")
    candidate = "tests.reports.formats.html.planted:last_token_lost"
    short = [word for name, number in SHORT.items() for word in ("--set", f"{name}={number}")] + ["--set", UNTESTED]
    finished = {
        "passing": (0, []),
        "failing": (1, ["--candidate", candidate, *short]),
        "inconclusive": (5, short),
    }
    for name, (code, arguments) in finished.items():
        assert cli.main([*SMOKE, "--no-shrink", "--out", str(out / name), *arguments]) == code
    crashed = killed_training(out / "crashed", "window", 5)
    assert cli.main(["report", str(crashed), "--format", "html"]) == 0
    made = {"crashed": crashed, **{name: next((out / name).iterdir()) for name in finished}}
    assert all((run / "report.html").exists() for run in made.values())
    return made


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    if PROGRAM is None:
        pytest.skip("no Chromium here; on Debian: apt-get install -y chromium")
    with Chrome() as browser:
        yield browser

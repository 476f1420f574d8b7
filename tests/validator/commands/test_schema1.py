"""Runs that version 0.1 recorded are reported, gated and compared as they were then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from validator import cli

RUNS = Path(__file__).parents[2] / "reports" / "read" / "schema1"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of a clean run and of one with a divergence."""
    return Path(shutil.copytree(RUNS, tmp_path / "runs"))


def test_report_shows_what_it_holds(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(runs / "wrong")]) == 0

    shown = capsys.readouterr().out
    assert "values corrupted" in shown
    assert "1,443 operations" in shown


def test_gate_judges_it_as_then(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [cli.main(["gate", str(runs / name)]) for name in ("clean", "wrong")] == [0, 1]

    assert "0 divergences in 4,800 lookups" in capsys.readouterr().out


def test_compare_tells_two_apart(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(runs / "clean"), str(runs / "wrong")]) == 0

    shown = capsys.readouterr().out
    assert "4,800" in shown
    assert "appeared" in shown

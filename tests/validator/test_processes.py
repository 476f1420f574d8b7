"""Whole processes that are killed; how else they end, ``test_endings`` looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.reader import read_run
from tests.torture.ends import OPENED, PRELUDE
from tests.validator.sessions import killed_training
from tests.warm import script
from validator import cli

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(("candidate", "n_divergences", "code"), [("WrongAt(30)", 1, 1), ("manager()", 0, 5)])
def test_divergences_before_a_sigkill_are_readable_and_the_gate_never_passes(
    tmp_path: Path, candidate: str, n_divergences: int, code: int
) -> None:
    done = script(PRELUDE.format(out=str(tmp_path), candidate=candidate) + OPENED + KILL, tmp_path)
    assert done.returncode == -9, done.stderr
    recorded = read_run(tmp_path / "run")
    assert recorded.state == "crashed"
    assert len(recorded.divergences) == n_divergences
    assert cli.main(["gate", str(tmp_path / "run")]) == code


def test_a_real_training_killed_in_the_middle_keeps_its_divergences(tmp_path: Path) -> None:
    path = killed_training(tmp_path, "divergence", 1, "--candidate", "tests.validator.candidates:WrongAtFifty")
    assert read_run(path).divergences
    assert cli.main(["gate", str(path)]) == 1

"""A job of several ranks: one launch, one run directory, and the verdict of what all of them left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reports.read.campaign import read_campaign
from reports.reader import find_runs, read_run
from reports.record.campaign import Fate
from tests.guards import guards
from tests.validator.gate.runs import window, write_run
from validator import cli
from validator.campaign import one

TINY = ["train", "--config", "smoke", "--set", "total_env_steps=30", "--no-shrink"]


def test_the_ranks_of_a_job_share_a_run_and_the_job_has_its_verdict(tmp_path: Path) -> None:
    unproven = ["--set", "world_model_cfg.cache_validation.selftest=false"]
    asked = ["--seeds", "1", "--ranks", "2", "--quiet", "--out", str(tmp_path)]

    code = cli.main(["campaign", *asked, "--", *TINY, *unproven])

    campaign = read_campaign(next(tmp_path.iterdir()))
    (attempt,) = campaign.attempts
    (path,) = find_runs(campaign.path / attempt.directory)
    run = read_run(path)
    assert sorted(run.ranks) == [0, 1]
    assert (run.state, run.problems, run.manifest["seed"]) == ("complete", [], 1)
    assert (attempt.fate, attempt.code, code) == (Fate.JUDGED, 5, 5)  # torchrun itself says 1


@guards("validator/campaign/one.py", "return code or (os.EX_SOFTWARE if failed else 0)", "return code")
def test_a_rank_that_failed_is_no_verdict_whatever_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "one", window())
    for said, code in ((0, 0), (1, os.EX_SOFTWARE)):
        monkeypatch.setattr(one, "LAUNCHER", (sys.executable, "-c", f"raise SystemExit({said})"))
        assert one.launched(2, ["train", "--out", str(tmp_path)]) == code

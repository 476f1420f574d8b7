"""Two processes of the stock script under torchrun: DI-engine renames the experiments, and they share a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reports.reader import find_runs, read_run
from reports.record.words import Verdict
from tests.lightzero.conftest import ROOT, sizes, stock_script
from validator.gate.judgement import judge


def test_two_processes_of_the_stock_script_share_one_run(tmp_path: Path) -> None:
    (tmp_path / "data" / "two").mkdir(parents=True)  # so DI-engine puts the time behind the name
    flags = sizes(max_env_step="60", exp_name="data/two", cache_validation__selftest="false")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [sys.executable, "-m", "validator.cli", "run", *flags, "--", str(stock_script())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *command], cwd=tmp_path, env=environment, check=False, capture_output=True, timeout=900)

    (path,) = find_runs(tmp_path / "data" / "two-validation")
    run = read_run(path)
    assert sorted(run.ranks) == [0, 1]
    assert all(about["exp_name"].startswith("data/two_") for about in run.ranks.values())
    assert (run.state, run.problems, run.divergences) == ("complete", [], [])
    of_ranks = {one.demanded: one.verdict for one in judge([run]).demands if "rank" in one.demanded}
    assert len(of_ranks) == 2
    assert set(of_ranks.values()) == {Verdict.PASS}

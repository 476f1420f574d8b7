"""Candidates with one planted fault each fail a real training of LightZero 0.2.0; a sound one may serve it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.record.words import Cause, Fault
from tests.lightzero.conftest import KvLockstep, last_run, sizes, stock_script


@pytest.mark.parametrize(
    ("candidate", "cause"),
    [
        ("StoredByReference", Cause.ALIASED_ON_SET),
        ("ValuesFromKeys", Cause.LAYER_MIXED),
        ("EvictsOneEarly", Cause.CAPACITY_OFF),
    ],
)
def test_a_planted_fault_fails_the_real_run(
    kv_lockstep: KvLockstep, tmp_path: Path, candidate: str, cause: Cause
) -> None:
    flags = [*sizes(max_env_step="60", exp_name="data/fault", cache_validation__selftest="false"), "--out", "runs"]
    flags += ["--set", f"cache_validation.candidate=tests.lightzero.faults:{candidate}"]

    done = kv_lockstep(tmp_path, "run", *flags, "--", str(stock_script()))

    run = last_run(tmp_path / "runs")
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert cause in {found.cause for found in run.divergences}
    assert {found.fault for found in run.divergences} == {Fault.CANDIDATE}
    assert run.state == "complete"

    n = len(run.divergences)
    again = kv_lockstep(tmp_path, "replay", str(run.path), "--out", "again", elsewhere=True)
    assert again.returncode == 1, again.stdout[-2000:] + again.stderr[-2000:]
    assert f"{n:,} of {n:,} recorded divergences came again" in " ".join(again.stdout.split())
    flags = ["--cause", cause.value, "--out", "shrunk", "--seconds", "60"]
    shrunk = kv_lockstep(tmp_path, "shrink", str(run.path), *flags, elsewhere=True)
    assert shrunk.returncode == 0, shrunk.stdout[-2000:] + shrunk.stderr[-2000:]
    (test,) = (tmp_path / "shrunk").iterdir()
    assert f"{cause.value}, candidate at fault" in " ".join(test.read_text().split())
    assert test.read_text().count("cache.") <= 12


def test_in_the_canary_stage_the_training_runs_on_the_candidate(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    flags = [*sizes(max_env_step="60", exp_name="data/canary"), "--primary", "new"]

    done = kv_lockstep(tmp_path, "run", *flags, "--", str(stock_script()))

    run = last_run(tmp_path / "data" / "canary" / "validation")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert run.caches[0]["primary"] == "candidate"

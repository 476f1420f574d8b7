"""The embedded run on repeating keys: small pools show the legacy store's quirks, ample ones do not."""

from __future__ import annotations

from pathlib import Path

from reports.reader import read_run
from reports.record.run import Run
from shadow.hosts.unizero import load_config, train
from validator import Lockstep, ValidationConfig, Verdict

CONFIGS = Path(__file__).parents[2] / "configs"


def recorded(name: str, total_env_steps: int, out: Path) -> tuple[Verdict, Run]:
    config = load_config(CONFIGS / f"{name}.toml", total_env_steps=total_env_steps)
    with Lockstep(out, ValidationConfig()) as lockstep:
        train(config, validation=lockstep)
    return lockstep.verdict.verdict, read_run(lockstep.run_dir)


def test_small_pools_fail_with_every_quirk_named_and_nobody_but_the_control_at_fault(tmp_path: Path) -> None:
    verdict, run = recorded("small_pools", 90, tmp_path)

    assert verdict is Verdict.FAIL
    assert set(run.totals.divergences_by(2)) == {"control"}
    assert set(run.totals.divergences_by(1)) == {
        "duplicate-key slot leak",
        "age refreshed by re-set",
        "capacity eaten",
        "reverse map survived clear",
    }


def test_ample_pools_pass_although_keys_repeat(tmp_path: Path) -> None:
    verdict, run = recorded("ample_pools", 150, tmp_path)

    assert verdict is Verdict.PASS
    assert run.totals.coverage["overwrites"] > 400

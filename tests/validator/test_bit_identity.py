"""Training is the same to the bit whether it is watched or not, and whatever the secondary does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from reports.reader import read_run
from reports.record.words import Fault, Verdict
from shadow.hosts.unizero import TrainResult, load_config, train
from tests.guards import guards
from validator.config import OracleConfig, ValidationConfig
from validator.gate.judgement import judge
from validator.gate.policy import CoveragePolicy, GatePolicy
from validator.session import Lockstep

ROOT = Path(__file__).parents[2]
BAD = ("Raises", "Exits", "Garbage", "Draws", "Switches", "EditsInput")


def config(**world_model: Any) -> Any:
    short = {"total_env_steps": 24, "collect_steps": 6, "learning_starts": 10}
    return load_config(ROOT / "configs" / "smoke.toml", world_model_cfg=world_model, **short)


def fingerprint(result: TrainResult) -> tuple[Any, ...]:
    return result.actions_digest, result.weights_digest, result.episode_returns, result.losses


def watched(tmp_path: Path, **world_model: Any) -> tuple[TrainResult, Path]:
    with Lockstep(tmp_path, ValidationConfig(run_id="run", selftest=False)) as lockstep:
        result = train(config(cache_validation_mode=True, **world_model), validation=lockstep)
    return result, lockstep.run_dir


@pytest.fixture(scope="module")
def legacy_only() -> TrainResult:
    return train(config(cache_validation_mode=False))


@pytest.fixture(scope="module")
def manager_only() -> TrainResult:
    return train(config(cache_validation_mode=False, use_new_cache_manager=True))


def test_the_run_does_something(legacy_only: TrainResult) -> None:
    assert legacy_only.train_iters > 0
    assert legacy_only.episode_returns


def test_the_shadow_stage_trains_as_the_legacy_store_alone(tmp_path: Path, legacy_only: TrainResult) -> None:
    result, path = watched(tmp_path)
    assert fingerprint(result) == fingerprint(legacy_only)
    assert result.cache_stats == legacy_only.cache_stats
    assert read_run(path).totals.n_lookups > 100


def test_the_canary_stage_trains_as_the_manager_alone(tmp_path: Path, manager_only: TrainResult) -> None:
    result, _ = watched(tmp_path, use_new_cache_manager=True)
    assert fingerprint(result) == fingerprint(manager_only)
    assert result.cache_stats == manager_only.cache_stats


def test_recomputing_without_a_cache_changes_no_bit(tmp_path: Path, legacy_only: TrainResult) -> None:
    settings = ValidationConfig(run_id="run", selftest=False, oracle=OracleConfig(envs=2, searches=2, budget=0.0))
    with Lockstep(tmp_path, settings) as lockstep:
        result = train(config(cache_validation_mode=True), validation=lockstep)
    run = read_run(lockstep.run_dir)

    assert fingerprint(result) == fingerprint(legacy_only)
    assert result.cache_stats == legacy_only.cache_stats
    assert run.totals.coverage["recomputations"] == run.totals.coverage["recomputations that agreed"] > 60
    policy = GatePolicy(selftest=False, coverage=CoveragePolicy(overwrites=0, recomputations=60))
    assert judge([run], policy).verdict is Verdict.PASS


@guards("validator/judge/side.py", "if count < _LOOK_FIRST or self.wary:", "if count < _LOOK_FIRST:")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_candidate_changes_no_bit_and_fails_the_run(tmp_path: Path, name: str, legacy_only: TrainResult) -> None:
    result, path = watched(tmp_path, cache_validation={"candidate": f"tests.validator.candidates:{name}"})
    assert fingerprint(result) == fingerprint(legacy_only)
    run = read_run(path)
    assert judge([run]).verdict is Verdict.FAIL
    assert {divergence.fault for divergence in run.divergences} == {Fault.CANDIDATE}
    assert "harness faults" not in run.totals.dropped


@pytest.mark.parametrize("name", ["Raises", "EditsInput"])
def test_a_bad_control_changes_no_bit_of_the_canary(tmp_path: Path, name: str, manager_only: TrainResult) -> None:
    settings = {"control": f"tests.validator.candidates:{name}"}
    result, path = watched(tmp_path, use_new_cache_manager=True, cache_validation=settings)
    assert fingerprint(result) == fingerprint(manager_only)
    assert {divergence.fault for divergence in read_run(path).divergences} == {Fault.CONTROL}


@pytest.mark.parametrize("method", ["pair.Pair.before", "pair.Pair.observed", "lookups.Lookups.got", "pair.Pair.audit"])
def test_a_broken_harness_changes_no_bit(
    tmp_path: Path, method: str, legacy_only: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(f"validator.observe.{method}", fail)
    result, path = watched(tmp_path)
    assert fingerprint(result) == fingerprint(legacy_only)
    assert judge([read_run(path)]).verdict is not Verdict.PASS


def test_a_run_directory_removed_in_the_middle_changes_no_bit(tmp_path: Path, legacy_only: TrainResult) -> None:
    with Lockstep(tmp_path, ValidationConfig(run_id="run", selftest=False, window_ops=50)) as lockstep:

        def remove(progress: Any) -> None:
            shutil.rmtree(lockstep.run_dir, ignore_errors=True)

        result = train(config(cache_validation_mode=True), validation=lockstep, on_progress=remove)
    assert fingerprint(result) == fingerprint(legacy_only)

"""Policies: the default one, files, and files that are refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from validator.errors import ConfigError
from validator.gate.policy import CoveragePolicy, GatePolicy


def written(directory: Path, text: str) -> Path:
    path = directory / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_policy_allows_nothing_and_demands_what_a_training_run_exercises() -> None:
    policy = GatePolicy()

    assert policy.max_divergences == 0
    demanded = {field.name for field in fields(CoveragePolicy) if getattr(policy.coverage, field.name)}
    every = {"every_env", "every_rank", "weights_in_step"}
    assert demanded == {"lookups", "both_hits", "overwrites", "evictions", "clears", "weight_updates", *every}


def test_a_file_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    policy = GatePolicy.load(written(tmp_path, "[coverage]\nlookups = 20_000\nevery_env = false\n"))

    assert policy == GatePolicy(name="mine", coverage=CoveragePolicy(lookups=20_000, every_env=False))


def test_a_file_may_name_its_policy(tmp_path: Path) -> None:
    assert GatePolicy.load(written(tmp_path, 'name = "smoke"\nmax_divergences = 0\n')).name == "smoke"


@pytest.mark.parametrize("text", ["", 'name = "nothing"\n', "[coverage]\n"])
def test_a_policy_that_demands_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: demands nothing; expected at least one demand"):
        GatePolicy.load(written(tmp_path, text))


@pytest.mark.parametrize("name", ["lookups", "both_hits"])
def test_a_policy_without_a_comparison_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="would pass a run that looked at nothing"):
        GatePolicy.load(written(tmp_path, f"[coverage]\n{name} = 0\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_divergence = 0", "unknown setting 'max_divergence'; did you mean 'max_divergences'?"),
        ("[coverage]\nevictoins = 1", "coverage: unknown setting 'evictoins'; did you mean 'evictions'?"),
        ('max_divergences = "none"', "max_divergences: expected int, got 'none'"),
        ("max_divergences = true", "max_divergences: expected int, got True"),
        ("max_divergences = -1", "max_divergences must be at least 0, got -1"),
        ("[coverage]\nclears = -2", "clears must be at least 0, got -2"),
        ("coverage = 3", "coverage: expected a table of settings, got int"),
        ("max_divergences = ", "expected a gate policy in TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatePolicy.load(written(tmp_path, text))

    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: a gate policy can't be read \(No such file or directory\)"):
        GatePolicy.load(Path("nowhere.toml"))


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"max_divergences = 0 # \xff\n")

    with pytest.raises(ConfigError, match="expected a gate policy as UTF-8 text, got other bytes at 22"):
        GatePolicy.load(path)

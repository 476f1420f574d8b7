"""The host's settings: what is refused, with which words, and that the shipped files load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shadow.hosts.unizero import TrainConfig, WorldModelConfig, load_config
from shadow.settings import SettingsError

CONFIGS = Path(__file__).parents[4] / "configs"


@pytest.mark.parametrize("name", ["validate", "smoke", "learn", "small_pools", "ample_pools"])
def test_shipped_configs_load(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    assert config.world_model_cfg.cache_validation_mode is (name != "learn")


def test_overrides_replace_only_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 3\n[world_model_cfg]\nnum_layers = 1\nkey_buckets = 4\n")
    config = load_config(path, env_num=2, world_model_cfg={"key_buckets": 8})
    assert (config.seed, config.env_num) == (3, 2)
    assert (config.world_model_cfg.num_layers, config.world_model_cfg.key_buckets) == (1, 8)


def test_an_unknown_setting_names_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[world_model_cfg]\nnum_simulation = 5\n")
    with pytest.raises(SettingsError, match="world_model_cfg: unknown setting 'num_simulation'; did you mean"):
        load_config(path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = = 3\n")
    with pytest.raises(SettingsError, match=r"run\.toml: not a TOML file: "):
        load_config(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": 60}, "embed_dim must be a multiple of num_heads and of group_size, got 60 with 4 and 8"),
        ({"context_length": 7}, r"even number of tokens from 4 to max_tokens \(20\), got 7"),
        ({"context_length": 22}, r"even number of tokens from 4 to max_tokens \(20\), got 22"),
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, got 0"),
        ({"key_buckets": 256}, r"key_buckets must be 0 \(exact keys\) or 1 to 255 levels, got 256"),
    ],
)
def test_impossible_world_models_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldModelConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env_num": 0}, "env_num must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"lr": 0.0}, r"lr must be greater than 0, got 0\.0"),
        ({"max_seconds": -1.0}, r"max_seconds must be at least 0, got -1\.0"),
        ({"discount": 1.5}, r"discount must be in \[0, 1\], got 1\.5"),
        ({"unroll": 10}, r"unroll of 10 env steps takes 21 tokens, more than max_tokens \(20\)"),
    ],
)
def test_impossible_runs_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_a_search_takes_as_many_simulations_as_the_pools_are_made_for_unless_told() -> None:
    sized = WorldModelConfig(num_simulations=6)
    assert TrainConfig(world_model_cfg=sized).simulations == 6
    assert TrainConfig(world_model_cfg=sized, search_simulations=9).simulations == 9

"""What ``kv-lockstep train`` is to do: file and flags put together, and tried out before any training starts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from shadow.hosts.unizero import TrainConfig
from shadow.hosts.unizero.envs import Envs
from shadow.settings import from_mapping
from shadow.switch import implementation
from validator.config import ValidationConfig
from validator.errors import ConfigError
from validator.gate.shipped import TRAININGS, find_file
from validator.shapes import find
from validator.toml import parse_setting, put_setting, read_toml

_VALIDATION = "world_model_cfg.cache_validation"


def read_config(arguments: Namespace) -> tuple[TrainConfig, ValidationConfig]:
    """Put file and flags together, flags last, and check all of it.

    Args:
        arguments: ``config, out, seed, primary, control, candidate, record, no_shrink, oracle, settings,
            no_validation``.

    Returns:
        What to train and how to validate it.

    Raises:
        ConfigError: If a setting is unknown, mistyped or impossible on this machine.
    """
    path = find_file(TRAININGS, arguments.config, "training configuration")
    where = str(path)
    tables = read_toml(path, "a training configuration")
    for key, value in (
        ("seed", arguments.seed),
        ("world_model_cfg.use_new_cache_manager", arguments.primary and arguments.primary == "new"),
        ("world_model_cfg.cache_validation_mode", False if arguments.no_validation else None),
        (f"{_VALIDATION}.out", arguments.out),
        (f"{_VALIDATION}.control", arguments.control),
        (f"{_VALIDATION}.candidate", arguments.candidate),
        (f"{_VALIDATION}.record", getattr(arguments, "record", None)),
        (f"{_VALIDATION}.shrink_s", 0.0 if getattr(arguments, "no_shrink", False) else None),
        *map(parse_setting, arguments.settings),
    ):
        if value is not None:
            put_setting(tables, key, value, where)
    if getattr(arguments, "oracle", False):
        validation = tables.setdefault("world_model_cfg", {}).setdefault("cache_validation", {})
        validation.setdefault("oracle", {})
    with _as_config_error(""):
        config = from_mapping(TrainConfig, tables, where)
        settings = ValidationConfig.from_mapping(config.world_model_cfg.cache_validation, f"{where}: cache_validation")
    validated = config.world_model_cfg.cache_validation_mode
    if arguments.no_validation and (validated or arguments.control or arguments.candidate):
        raise ConfigError(
            "--no-validation trains with one cache alone; leave --control, --candidate and --set of it away"
        )
    _try_out(config, settings, where)
    return config, settings


def _try_out(config: TrainConfig, settings: ValidationConfig, where: str) -> None:
    """Build everything that can be impossible here, once and small."""
    with _as_config_error(f"{where}: device {config.device!r} can't be used: "):
        torch.empty(0, device=config.device)
    with _as_config_error(f"{where}: env_id {config.env_id!r} can't be used: "):
        Envs(config.env_id, 1, np.random.default_rng(0)).close()
    world_model = config.world_model_cfg
    names = [settings.candidate if world_model.use_new_cache_manager else settings.control]
    if world_model.cache_validation_mode:
        names = [settings.control, settings.candidate]
    for name in names:
        with _as_config_error(f"{where}: cache {name!r} can't be built: "):
            cache = implementation(name)(config=world_model, env_num=config.env_num)
            if not find(cache, "pools").takes(cache):
                raise TypeError(f"it made an object of type {type(cache).__name__}, without a cache's methods")


@contextmanager
def _as_config_error(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        raise ConfigError(f"{what}{problem or type(problem).__name__}") from problem

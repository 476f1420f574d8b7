"""``kv-lockstep ab``: train with the control alone and the candidate alone, over several seeds; is it as good?"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from reports.disk.run_id import run_id
from reports.errors import RunDirectoryError
from reports.read.trainings import write_trainings
from reports.record.codec import to_json
from reports.record.trainings import SIDES, Trainings
from validator.ab.series import run_series
from validator.commands.ab_shown import series_display, show_trainings
from validator.commands.show import console
from validator.commands.train_config import read_config
from validator.errors import ConfigError
from validator.gate.judgement import decide
from validator.gate.policy import GatePolicy, TrainingPolicy
from validator.gate.rules.training import whole_and_judged
from validator.gate.shipped import find_file
from validator.provenance import provenance
from validator.toml import parse_setting

_TAPPED = (
    "with one cache alone at a time, nothing compared. Each serves the model through kv-lockstep's taps, because "
    "release 0.2.0 has no switch for another store than its own; both sides pay for them alike. Trajectories are not "
    "compared: LightZero seeds its tree search from the clock, so no run of a seed repeats"
)

Specify = Callable[[int, str], Mapping[str, Any]]


class Plan(NamedTuple):
    """What a series is to run.

    Attributes:
        seeds: Its seeds.
        specify: Makes the specification of one training.
        total_env_steps: Env steps of one training; None if the script alone knows.
        about: What ran, for ``ab.json``.
    """

    seeds: list[int]
    specify: Specify
    total_env_steps: int | None
    about: dict[str, Any]


def main(arguments: Namespace) -> int:
    """Run the series, write it down, and judge it.

    Args:
        arguments: ``config, script, args, out, seeds, seed, control, candidate, settings, policy, quiet``; see
            ``arguments.py``.

    Returns:
        The verdict's exit code.

    Raises:
        ConfigError: If settings are wrong or nothing says what to train.
    """
    if (arguments.config is None) is (arguments.script is None):
        raise ConfigError("ab: expected either --config FILE for the embedded agent, or -- SCRIPT.py for LightZero's")
    if arguments.seeds < 1:
        raise ConfigError(f"--seeds {arguments.seeds}: expected at least 1")
    policy = _policy(arguments)
    path = Path(arguments.out or "runs") / f"ab-{run_id()}"
    plan = _embedded(arguments) if arguments.config else _lightzero(arguments, path)
    try:
        path.mkdir(parents=True)
    except OSError as problem:
        raise RunDirectoryError(f"{path}: can't be made ({problem.strerror}); choose another --out") from None
    about = {"ab_id": path.name, "created": time.time(), **provenance(), **plan.about, "seeds": plan.seeds}
    trainings = Trainings(path, "running", about)
    out, err = console(), console(stderr=True)
    n_trainings = len(plan.seeds) * len(SIDES)
    try:
        with series_display(err, n_trainings, plan.total_env_steps, arguments.quiet) as display:
            for step in run_series(plan.seeds, plan.specify, path, display.started, display.stepped):
                trainings.trainings.append(step.training)
                if step.difference is not None:
                    trainings.differences.append(step.difference)
                display.ended(step.training)
                write_trainings(trainings, {})
        trainings.state = "complete"
    except KeyboardInterrupt:
        trainings.state = "interrupted"
        err.print("interrupted; what was recorded is judged as an incomplete series")
    demands = tuple(whole_and_judged(trainings, policy))
    judgement = decide(demands, "training", lambda: iter([f"{d.demanded}: {d.found}" for d in demands[1:]]))
    write_trainings(trainings, {"verdict": judgement.verdict.value, "demands": list(map(to_json, judgement.demands))})
    show_trainings(trainings, policy, judgement, out)
    return judgement.exit_code


def _policy(arguments: Namespace) -> TrainingPolicy:
    if arguments.policy is None:
        return TrainingPolicy()
    training = GatePolicy.load(find_file("gate", arguments.policy, "gate policy")).training
    if training is None:
        raise ConfigError(f"{arguments.policy}: no table [training] in it, so there is nothing to judge trainings by")
    return training


def _embedded(arguments: Namespace) -> Plan:
    """Plan trainings of the embedded agent: the two switches as a rollout would set them, without validation."""
    configs = {}
    for side, primary in zip(SIDES, ("legacy", "new"), strict=True):
        settings = [*arguments.settings, "world_model_cfg.cache_validation_mode=false"]
        given = {**vars(arguments), "primary": primary, "settings": settings, "no_validation": False, "out": None}
        configs[side], _ = read_config(Namespace(**given))
    first = configs["control"]
    repeatable = first.device == "cpu" and not first.max_seconds
    return Plan(
        [first.seed + index for index in range(arguments.seeds)],
        lambda seed, side: {"host": "unizero", "config": asdict(replace(configs[side], seed=seed))},
        first.total_env_steps,
        {
            "host": "unizero",
            "ran": "the embedded agent with use_new_cache_manager False and True, validation off"
            + ("" if repeatable else "; trajectories are not compared: with this device or time limit none repeats"),
            "repeatable": repeatable,
            "config": {side: asdict(config) for side, config in configs.items()},
        },
    )


def _lightzero(arguments: Namespace, path: Path) -> Plan:
    """Plan trainings of a LightZero script."""
    if not arguments.script.is_file():
        raise ConfigError(f"{arguments.script}: expected a Python script; paths are relative to {Path.cwd()}")
    given = dict(map(parse_setting, arguments.settings))
    for side in SIDES:
        if getattr(arguments, side):
            given[f"cache_validation.{side}"] = getattr(arguments, side)
    # Relative, because LightZero puts './' before it.
    experiments = os.path.relpath(path)
    first = arguments.seed or 0

    def specify(seed: int, side: str) -> dict[str, Any]:
        settings = {
            **given,
            "seed": seed,
            "exp_name": f"{experiments}/seed-{seed}-{side}",
            "world_model_cfg.use_new_cache_manager": side == "candidate",
        }
        return {"host": "lightzero", "script": str(arguments.script), "args": arguments.args, "settings": settings}

    return Plan(
        list(range(first, first + arguments.seeds)),
        specify,
        None,
        {
            "host": "lightzero",
            "ran": f"{arguments.script} {_TAPPED}",
            "repeatable": False,
            "script": [str(arguments.script), *arguments.args],
            "overrides": {name: str(value) for name, value in given.items()},
        },
    )

"""``kv-lockstep train``: train the embedded agent with both caches in lockstep; the exit code is the verdict's."""

from __future__ import annotations

import dataclasses
import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler

from reports.record.words import EXIT_CODE, Verdict
from shadow.hosts.unizero import TrainConfig, train
from validator.commands.at_close import judge_at_close
from validator.commands.byte_work import tell_if_not_compiled
from validator.commands.progress import display
from validator.commands.show import console
from validator.commands.train_config import read_config
from validator.config import ValidationConfig
from validator.session import Lockstep


def main(arguments: Namespace) -> int:
    """Train, and judge what was recorded.

    Args:
        arguments: ``config, out, seed, primary, control, candidate, no_shrink, settings, no_validation, quiet``; see
            ``arguments.py``.

    Returns:
        The verdict's exit code; 0 as well after a training that was asked not to be validated.

    Raises:
        ConfigError: If the configuration is wrong; nothing was trained then.
    """
    config, settings = read_config(arguments)
    out, err = console(), console(stderr=True)
    if not arguments.quiet:
        tell_if_not_compiled(err)
    with _log_lines_on(err, arguments.quiet):
        if config.world_model_cfg.cache_validation_mode:
            return _validated(config, settings, arguments.quiet, out, err)
        return _alone(config, arguments, out, err)


def _validated(config: TrainConfig, settings: ValidationConfig, quiet: bool, out: Console, err: Console) -> int:
    with Lockstep(settings.out, settings, manifest_extra=_what_ran(config)) as lockstep:
        try:
            with display(err, config.total_env_steps, lockstep.totals, quiet) as shown:
                train(config, validation=lockstep, on_progress=shown)
        except KeyboardInterrupt:
            lockstep.close()
            err.print("interrupted; what was recorded is judged as an incomplete run")
        except BaseException:
            err.print(f"the training stopped with an error; recorded until then: {lockstep.run_dir}", soft_wrap=True)
            raise
    return judge_at_close(lockstep, out, err, lockstep.config.shrink_s) or 0


def _alone(config: TrainConfig, arguments: Namespace, out: Console, err: Console) -> int:
    wanted = bool(arguments.no_validation)
    if not wanted:
        err.print(
            f"{arguments.config}: cache_validation_mode is off, so nothing will be judged; add --set "
            "world_model_cfg.cache_validation_mode=true to judge, or --no-validation if that is meant",
            soft_wrap=True,
        )
    with display(err, config.total_env_steps, None, arguments.quiet) as shown:
        result = train(config, on_progress=shown)
    recent = result.mean_return(slice(-20, None))
    out.print(f"{result.env_steps:,} env steps in {result.wall_s:.0f} s, mean return {recent:.1f} at the end")
    out.print(f"{result.system}; nothing was validated", soft_wrap=True)
    return 0 if wanted else EXIT_CODE[Verdict.INCONCLUSIVE]


def _what_ran(config: TrainConfig) -> dict[str, object]:
    return {
        "host": "unizero",
        "config": dataclasses.asdict(config),
        "seed": config.seed,
        "device": config.device,
        "env_num": config.env_num,
        "num_layers": config.world_model_cfg.num_layers,
        "switches": {
            "use_new_cache_manager": config.world_model_cfg.use_new_cache_manager,
            "cache_validation_mode": config.world_model_cfg.cache_validation_mode,
        },
    }


@contextmanager
def _log_lines_on(err: Console, quiet: bool) -> Iterator[None]:
    """Show the line that names the cache system in use, and every warning, above the progress."""
    root, switch = logging.getLogger(), logging.getLogger("shadow.switch")
    handler = RichHandler(console=err, show_time=False, show_level=False, show_path=False, highlighter=None)
    level = switch.level
    root.addHandler(handler)
    switch.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        switch.setLevel(level)

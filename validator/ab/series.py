"""Runs the trainings of a series: every seed with both sides, in alternating order, one process after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reports.record.codec import from_json
from reports.record.trainings import SIDES, FirstDifference, Training
from validator.ab.trajectory import Happened, first_difference
from validator.errors import ConfigError

_LAST_LINES = 300  # characters of what a failed process printed


class Step(NamedTuple):
    """What the series came to with one more training.

    Attributes:
        training: The training.
        difference: Where the two trainings of this seed parted, once both are there and if they did.
    """

    training: Training
    difference: FirstDifference | None


def order(seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield seed and side in the order of running: A B, B A, ..., so that drift of the machine favours neither."""
    for index, seed in enumerate(seeds):
        for side in SIDES if index % 2 == 0 else SIDES[::-1]:
            yield seed, side


def run_series(
    seeds: Sequence[int],
    specify: Callable[[int, str], Mapping[str, Any]],
    logs: Path,
    on_start: Callable[[int, str], None],
    on_steps: Callable[[int], None],
) -> Iterator[Step]:
    """Run a series.

    Args:
        seeds: Seeds, each once.
        specify: Makes the specification of one training from seed and side; see ``validator.ab.one``.
        logs: Directory for what each training prints, ``seed-<seed>-<side>.log``.
        on_start: Called with seed and side before each training.
        on_steps: Called with the env steps of the running training.

    Yields:
        Each training as soon as it has ended, whether or not it succeeded.

    Raises:
        ConfigError: If a training was refused for its settings: the others would be too.
    """
    trajectories: dict[int, dict[str, list[Happened]]] = {}
    for seed, side in order(seeds):
        on_start(seed, side)
        log = logs / f"seed-{seed}-{side}.log"
        training, happened = _one(seed, side, specify(seed, side), log, on_steps)
        done = trajectories.setdefault(seed, {})
        done[side] = happened
        difference = None
        if len(done) == len(SIDES):
            control, candidate = (done[each] for each in SIDES)
            difference = first_difference(seed, control, candidate) if control and candidate else None
            del trajectories[seed]
        yield Step(training, difference)


def _one(
    seed: int, side: str, specification: Mapping[str, Any], log: Path, on_steps: Callable[[int], None]
) -> tuple[Training, list[Happened]]:
    command = [sys.executable, "-m", "validator.ab.one", json.dumps(specification)]
    found: dict[str, Any] = {}
    happened: list[Happened] = []
    with log.open("wb") as printed, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=printed) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                told = json.loads(line)
                if "env_steps" in told:
                    on_steps(told["env_steps"])
                elif "refused" in told:
                    raise ConfigError(told["refused"])
                else:
                    found = told["training"]
                    happened = [Happened(*each) for each in told["trajectory"]]
        except BaseException:
            process.kill()  # an interrupt, mostly; nobody is left to hear it
            raise
    if process.returncode and not found.get("error"):
        found["error"] = f"exit code {process.returncode}: {_last_words(log)}"
    elif not found:
        found["error"] = f"it ended without a result: {_last_words(log)}"
    if found.get("error"):
        found["error"] += f"; see {log.name}"
    return from_json(Training, {"seed": seed, "side": side, **found}), happened


def _last_words(log: Path) -> str:
    words = " ".join(log.read_text(encoding="utf-8", errors="replace")[-2000:].split())
    return words[-_LAST_LINES:] or "it printed nothing"

"""Which jobs is a campaign made of? Seeds, primaries and settings multiplied out, and checked before anything runs."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.record.campaign import Job
from validator.errors import ConfigError

KINDS = ("train", "run", "conformance", "ab", "replay", "drill")  # what leaves evidence in a directory of its own
_OF_RANKS = ("train", "run")  # what several processes can do together
SEED_VARIABLE = "KV_LOCKSTEP_SEED"
MOST_JOBS = 10_000  # without being asked for
_PLACEHOLDER = re.compile(r"\{(seed|primary|run)\}")
_SEEDS = re.compile(r"(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")
_PRIMARIES = {"legacy": ("legacy",), "new": ("new",), "both": ("legacy", "new")}


@dataclass(frozen=True)
class Matrix:
    """Jobs that differ in seed, primary and settings alone.

    Attributes:
        job: What is typed after ``kv-lockstep``, as words.
        seeds: ``"1..16"``, ``"1,2,5"`` or a list; empty to name none.
        primary: ``legacy``, ``new``, ``both``; empty to name none.
        settings: For each setting that ``--set`` of the job knows, the values to go through.
        ranks: How many processes each job is of, started by torchrun on one machine.
    """

    job: tuple[str, ...] = ()
    seeds: str | tuple[int, ...] = ""
    primary: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1

    def __post_init__(self) -> None:
        if not self.job:
            raise ValueError('job is required, such as job = ["train", "--config", "configs/smoke.toml"]')
        if self.primary and self.primary not in _PRIMARIES:
            raise ValueError(f"primary: expected legacy, new or both, got {self.primary!r}")
        if self.ranks < 1 or (self.ranks > 1 and self.job[0] not in _OF_RANKS):
            raise ValueError(
                f"ranks: expected 1 or more, and more than 1 with {' and '.join(_OF_RANKS)} alone; got {self.ranks}"
            )
        for key, values in self.settings.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"settings: {key}: expected a list of values to go through, got {values!r}")


@dataclass(frozen=True)
class Plan:
    """What a file, or a command line, asks for.

    Attributes:
        matrix: Its matrices.
        policy: What the gate demands in the end: a policy's name or file; empty for the built-in one.
        waivers: Names or files of waivers.
        timeout_s: Seconds for one attempt at a job; 0 for no limit.
    """

    matrix: tuple[Matrix, ...] = ()
    policy: str = ""
    waivers: tuple[str, ...] = ()
    timeout_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.matrix:
            raise ValueError("it names no job: expected at least one table [[matrix]] with a job")
        if self.timeout_s < 0:
            raise ValueError(f"timeout_s: expected seconds, 0 for no limit, got {self.timeout_s}")


def seeds_of(said: str | Sequence[int]) -> list[int]:
    """Read seeds.

    Args:
        said: ``1..16`` (both included), ``1,2,5``, both mixed, or a list.

    Returns:
        Each once, in their order.

    Raises:
        ConfigError: If they are no such thing.
    """
    if not isinstance(said, str):
        found = list(said)
    else:
        found = []
        for part in said.split(",") if said else ():
            match = _SEEDS.fullmatch(part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise ConfigError(f"--seeds {said!r:.60}: expected whole numbers, such as 1..16 or 1,2,5")
            if last - first >= 10**6:
                raise ConfigError(f"--seeds {said!r:.60}: more than a million; did you mean fewer?")
            found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise ConfigError(f"--seeds {said!r:.60}: each seed once; a seed that runs twice shows nothing more")
    return found


def jobs_of(plan: Plan, commands: argparse.ArgumentParser) -> list[Job]:
    """Multiply a plan out.

    Args:
        plan: What is asked for.
        commands: The parser of the whole command line, that knows what can be typed.

    Returns:
        Its jobs, numbered from 0: seeds change slowest, so that a campaign that is stopped has whole seeds.

    Raises:
        ConfigError: If a job could not be run as it stands.
    """
    found: list[Job] = []
    for matrix in plan.matrix:
        options = _checked(matrix, commands)
        axes = [[(key, value) for value in values] for key, values in matrix.settings.items()]
        primaries = _PRIMARIES[matrix.primary] if matrix.primary else ("",)
        seeds: list[int | None] = [*seeds_of(matrix.seeds)]
        for seed in seeds or [None]:
            for chosen in itertools.product(*axes):
                settings = [f"{key}={json.dumps(value)}" for key, value in chosen]
                given = [word for text in settings for word in ("--set", text)]
                for primary in primaries:
                    words = list(given)
                    if primary and "--primary" in options:
                        words += ["--primary", "{primary}"]
                    if seed is not None and "--seed" in options:
                        words += ["--seed", "{seed}"]
                    command = (matrix.job[0], *words, *matrix.job[1:])
                    found.append(Job(len(found), command, seed, primary, ", ".join(settings), matrix.ranks))
    return found


def filled(job: Job, run: str, out: str) -> list[str]:
    """Return what to type after ``kv-lockstep`` for one attempt at a job.

    Args:
        job: The job.
        run: The attempt's name, for ``{run}``.
        out: Directory for what it records.
    """
    values = {"seed": str(job.seed), "primary": job.primary, "run": run}
    words = [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in job.command]
    return [words[0], "--out", out, *words[1:]]


def parsed(words: Sequence[str], commands: argparse.ArgumentParser) -> Namespace:
    """Read a job's words as its command would.

    Raises:
        ConfigError: If it would refuse them, with its own words.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return commands.parse_args(list(words))
    except SystemExit:
        last = (said.getvalue().strip().splitlines() or ["refused"])[-1]
        raise ConfigError(
            f"the job {' '.join(words)!r:.120} can't be started: {last.partition('error: ')[2] or last}"
        ) from None


def _checked(matrix: Matrix, commands: argparse.ArgumentParser) -> set[str]:
    """Refuse a job that could not run, or not so; return the options that its command takes."""
    kind = matrix.job[0]
    known = next(action for action in commands._actions if isinstance(action, argparse._SubParsersAction)).choices
    if kind not in KINDS or kind not in known:
        named = ", ".join(each for each in KINDS if each in known)
        raise ConfigError(f"a job is what follows kv-lockstep, one of {named}; got {kind!r:.60}")
    options = set(known[kind]._option_string_actions)
    given = parsed(matrix.job, commands)
    text = " ".join(matrix.job)
    if getattr(given, "out", None):
        raise ConfigError(f"{text!r:.120}: leave --out away; each job gets a directory of its own in the campaign's")
    for name in ("seed", "primary"):
        asked = getattr(matrix, "seeds" if name == "seed" else name)
        if asked and getattr(given, name, None) != known[kind].get_default(name):
            plural = "--seeds" if name == "seed" else "--primary"
            raise ConfigError(f"{text!r:.120}: leave --{name} away; the campaign's own {plural} says it for every job")
        several = asked and (name == "primary" or len(seeds_of(matrix.seeds)) > 1)
        if several and f"--{name}" not in options and not _reaches(name, matrix.job, given):
            reach = f"put {{{name}}} among its words, such as --set {name}={{{name}}}"
            reach += f", or read the variable {SEED_VARIABLE} in the script" if name == "seed" else ", or name none"
            raise ConfigError(f"{text!r:.120}: the {name} doesn't reach this job, so all would run alike; {reach}")
    if matrix.settings and "--set" not in options:
        raise ConfigError(f"{kind} has no --set, so the campaign's settings don't reach it; leave them away")
    return options


def _reaches(name: str, job: Sequence[str], given: Namespace) -> bool:
    """Say whether a job asks for its seed or primary by itself."""
    if any(f"{{{name}}}" in word for word in job):
        return True
    script = getattr(given, "script", None)
    if name != "seed" or not isinstance(script, Path):
        return False
    try:
        return SEED_VARIABLE in script.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        raise ConfigError(f"{script}: the job's script can't be read ({problem.strerror}); check the path") from None


def configurations(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the first job of each configuration: what can be wrong with one is wrong with all of its seeds."""
    seen = set()
    for job in jobs:
        if job.configuration not in seen:
            seen.add(job.configuration)
            yield job

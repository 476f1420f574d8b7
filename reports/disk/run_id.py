"""What is a run called? Ranks of one job find the same name without talking to each other, so that they share a run."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Mapping

from reports.disk.process import started
from reports.errors import RunDirectoryError

_NUMBER = re.compile("[0-9]{1,9}", re.ASCII)
# Of torchrun, one for each launch on each machine: ``<log dir>/<id>_<random>/attempt_<n>/<local rank>/error.json``.
_ERROR_FILE = re.compile(r"([^/\\]+)[/\\]attempt_\d+[/\\]\d+[/\\]error\.json$")


def run_id(size: int = 1, number: int = 1, environment: Mapping[str, str] | None = None) -> str:
    """Name a run that nobody named, and of which ranks can't talk.

    Ranks of one job share a name where the launcher gives the job one (``torchrun --rdzv-id``, a Slurm step), or where
    all of them run on one machine by one launcher. Else each rank makes a name of its own, and the gate says which
    ranks are missing; ``run_id`` in ``cache_validation`` joins them. A restart by the launcher is another run.

    Args:
        size: Number of ranks.
        number: Which run of this process it is, from 1.
        environment: The process's variables; None for those of this process.

    Returns:
        A plain directory name.
    """
    about = os.environ if environment is None else environment
    if size > 1 and (job := _job(about)):
        restart = launch(about)[1]
        more = (f"-restart{restart}" if restart else "") + (f"-{number}" if number > 1 else "")
        return f"job-{_plain(job)}{more}"
    return of_its_own()


def of_its_own() -> str:
    """Return a name that no other run has."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{_host()}-{os.getpid()}-{secrets.token_hex(2)}"


def launch(environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Say what names this launch and all restarts in it, and no other, and how often the launcher restarted it.

    Args:
        environment: The process's variables; None for those of this process.

    Returns:
        The name, empty where there is no launcher that restarts, and the number of restarts.
    """
    about = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in about:
        found = _ERROR_FILE.search(about.get("TORCHELASTIC_ERROR_FILE", ""))
        return found[1] if found else _parent(), _count(about.get("TORCHELASTIC_RESTART_COUNT"))
    if "SLURM_JOB_ID" in about:
        job = f"slurm-{about['SLURM_JOB_ID']}-{about.get('SLURM_STEP_ID', '')}"
        return job, _count(about.get("SLURM_RESTART_COUNT"))
    return "", 0


def place(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as the launcher says by ``RANK`` and ``WORLD_SIZE``.

    Args:
        environment: The process's variables; None for those of this process.

    Raises:
        RunDirectoryError: If they are no such numbers.
    """
    about = os.environ if environment is None else environment
    said = {name: about.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
    for name, text in said.items():
        if not _NUMBER.fullmatch(text):
            raise RunDirectoryError(
                f"{name}={text!r:.40}: expected a whole number below {10**9:,}; set it, or unset it"
            )
    rank, size = map(int, said.values())
    if not rank < size:
        raise RunDirectoryError(
            f"RANK={rank} of WORLD_SIZE={size}: expected a rank below the number of ranks; set both"
        )
    return rank, size


def _job(about: Mapping[str, str]) -> str:
    """Say what all ranks of this job and no others know, or nothing."""
    named = about.get("TORCHELASTIC_RUN_ID", "")
    if "LOCAL_WORLD_SIZE" in about and about["LOCAL_WORLD_SIZE"] == about.get("WORLD_SIZE"):
        return launch(about)[0] if named else _parent()
    if named not in ("", "none"):  # torchrun calls a job so that was given no name
        return named
    # Only a step's tasks are ranks: a batch script may start any number of jobs.
    return launch(about)[0] if not named and "SLURM_STEP_ID" in about else ""


def _parent() -> str:
    return f"{_host()}-{os.getppid()}-{started(os.getppid()) or 0}"


def _count(said: str | None) -> int:
    return int(said) if said and _NUMBER.fullmatch(said) else 0


def _host() -> str:
    return _plain(socket.gethostname())[:24]


def _plain(name: str) -> str:
    return "".join(c for c in name if c.isascii() and (c.isalnum() or c in "-_"))[:80]

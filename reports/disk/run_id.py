"""What is a run called? Ranks of one job find the same name without talking to each other, so that they share a run."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Mapping

from reports.disk.process import started
from reports.errors import RunDirectoryError

_NUMBER = re.compile("[0-9]{1,9}", re.ASCII)
_NUMBERS = itertools.count(1)  # of the runs of a job that this process opened


def run_id(environment: Mapping[str, str] | None = None) -> str:
    """Name a run that nobody named.

    Ranks of one job share a name where the launcher gives the job one (``torchrun --rdzv-id``, Slurm), or where all of
    them run on one machine as children of one launcher. Else each rank makes a name of its own, and the gate says which
    ranks are missing; ``run_id`` in ``cache_validation`` joins them. A restart by the launcher is another run.

    Args:
        environment: The process's variables; None for those of this process.

    Returns:
        A plain directory name.
    """
    about = os.environ if environment is None else environment
    job = _job(about) if place(about)[1] > 1 else ""
    if job:
        restart, number = about.get("TORCHELASTIC_RESTART_COUNT", "0"), next(_NUMBERS)
        more = (f"-restart{restart}" if restart != "0" else "") + (f"-{number}" if number > 1 else "")
        return f"job-{_plain(job)}{more}"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{_host()}-{os.getpid()}-{secrets.token_hex(2)}"


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
    if named not in ("", "none"):  # torchrun calls a job so that was given no name
        return named
    if "SLURM_JOB_ID" in about:
        return f"slurm-{about['SLURM_JOB_ID']}-{about.get('SLURM_STEP_ID', '0')}"
    if about.get("LOCAL_WORLD_SIZE") == about.get("WORLD_SIZE"):
        return f"{_host()}-{os.getppid()}-{started(os.getppid()) or 0}"
    return ""


def _host() -> str:
    return _plain(socket.gethostname())[:24]


def _plain(name: str) -> str:
    return "".join(c for c in name if c.isascii() and (c.isalnum() or c in "-_"))[:80]

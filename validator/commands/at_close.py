"""How a command ends that ran a session: who judges, and what a person sees of it."""

from __future__ import annotations

import time

from rich.console import Console

from reports.content.text import line
from reports.formats.terminal.run import first_lines
from reports.record.run import Run
from validator.commands.report import write_page
from validator.gate.judgement import judge
from validator.session import Lockstep

_EVERY_S = 0.5


def judge_at_close(lockstep: Lockstep, out: Console, err: Console) -> int | None:
    """Judge a run that this process has closed, and show the verdict and where the run is.

    It is judged from disk, as the gate would: what did not get there is no evidence.

    Args:
        lockstep: The session.
        out: Where to.
        err: Where to say what could not be read or drawn.

    Returns:
        The verdict's exit code; None on a rank that does not judge.
    """
    run = closed_run(lockstep, err)
    if run is None:
        return None
    judgement = judge([run])
    first_lines(run, judgement, out)
    try:
        out.print(line(f"report: {write_page(run, judgement)}", 4000), soft_wrap=True)
    except Exception as problem:  # the verdict stands without a page
        err.print(line(f"no HTML page was written: {problem}", 4000), soft_wrap=True)
    out.print(line(f"run directory: {lockstep.run_dir}", 4000), soft_wrap=True)
    return judgement.exit_code


def closed_run(lockstep: Lockstep, err: Console, wait_s: float = 60.0) -> Run | None:
    """Read a run that this process has closed.

    A launcher ends all ranks when one exits with another code than 0. So ranks beyond the first leave the judging to
    rank 0, and that waits for them: else whoever ends first would find the run incomplete, say so, and end the others.

    Args:
        lockstep: The session.
        err: Where to say who judges.
        wait_s: How long rank 0 waits, seconds.

    Returns:
        The run as it stands on disk; None on a rank that does not judge.
    """
    if lockstep.rank:
        text = f"rank {lockstep.rank} of {lockstep.world_size} closed; rank 0 judges: {lockstep.run_dir}"
        err.print(text, soft_wrap=True)
        return None
    end = time.monotonic() + (wait_s if lockstep.world_size > 1 else 0.0)
    said = ""
    while (run := lockstep.on_disk()).state == "in progress" and time.monotonic() < end:
        waiting = [str(rank) for rank, fate in sorted(run.fates.items()) if fate != "closed"]
        if said != (said := f"waits up to {wait_s:.0f} s for rank {', '.join(waiting[:5])} to close"):
            err.print(said, soft_wrap=True)
        time.sleep(_EVERY_S)
    return run

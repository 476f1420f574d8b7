"""Who judges a run of several ranks when it ends: rank 0, once the others have closed."""

from __future__ import annotations

import time

from rich.console import Console

from reports.reader import read_run
from reports.record.run import Run
from validator.session import Lockstep

_EVERY_S = 0.5


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

    Raises:
        RunUnreadable: If nothing of it is there.
    """
    if lockstep.rank:
        text = f"rank {lockstep.rank} of {lockstep.world_size} closed; rank 0 judges: {lockstep.run_dir}"
        err.print(text, markup=False, soft_wrap=True)
        return None
    end = time.monotonic() + (wait_s if lockstep.world_size > 1 else 0.0)
    while (run := read_run(lockstep.run_dir)).state == "in progress" and time.monotonic() < end:
        time.sleep(_EVERY_S)
    return run

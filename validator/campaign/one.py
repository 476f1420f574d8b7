"""The process of one job: a command of ours, or the launcher of its ranks, that ends with whoever waits for it."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone")
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel, where it can do that, to end this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def launched(ranks: int, words: Sequence[str]) -> int:
    """Run a job of several ranks to its end, and judge what they left: torchrun makes a 1 of whatever a rank says.

    Args:
        ranks: How many.
        words: What to type after ``kv-lockstep``; ``--out`` and a directory are the second and the third.

    Returns:
        The code of the verdict; where that is a PASS and a rank failed all the same, one that is of no verdict.
    """
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS", "1")) // ranks)
    workers = [*LAUNCHER, "--nproc-per-node", str(ranks), "-m", "validator.campaign.one", *words, "--ranks=1"]
    gate = [sys.executable, "-m", "validator.cli", "gate", words[2]]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    failed, code = (
        subprocess.run(command, env=environment, preexec_fn=end_with_parent, check=False).returncode
        for command in (workers, gate)
    )
    return code or (os.EX_SOFTWARE if failed else 0)


if __name__ == "__main__":
    end_with_parent()
    *command, how = sys.argv[1:]
    n_ranks = int(how.removeprefix("--ranks="))
    if n_ranks > 1:
        sys.exit(launched(n_ranks, command))
    sys.argv[1:] = command
    runpy.run_module("validator.cli", run_name="__main__", alter_sys=True)  # not imported: it stands above this

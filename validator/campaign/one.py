"""The process of one job: a command of ours that ends with whoever waits for it."""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel, where it can do that, to end this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("validator.cli", run_name="__main__", alter_sys=True)  # not imported: it stands above this

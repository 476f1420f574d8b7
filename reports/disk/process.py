"""Which process wrote a run, and does it still live?"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IMPORTED = time.time()
_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 1


def identity() -> dict[str, Any]:
    """Return ``pid``, ``pid_started`` and ``hostname`` of this process, for ``run.json``."""
    return {"pid": os.getpid(), "pid_started": started(os.getpid()), "hostname": socket.gethostname()}


def begun() -> float:
    """Return when this process began, seconds since 1970; where the system does not say, when this was imported."""
    ticks = started(os.getpid())
    return _IMPORTED if ticks is None else time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / _PER_S


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (field 22 of ``/proc/PID/stat``).

    Args:
        pid: Its number.

    Returns:
        The ticks; None where the system does not say. A dead process that nobody waited for (a zombie) counts as gone.
    """
    try:
        # The name in field 2 may hold blanks and brackets; what follows its last bracket is regular (proc_pid_stat(5)).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def alive(manifest: Mapping[str, Any]) -> bool | None:
    """Say whether the process that a manifest names is running.

    Args:
        manifest: ``run.json``. Reads ``pid``, ``pid_started`` (optional, guards against a reused number) and the
            machine's name, ``hostname``; ``host`` is the program that was watched.

    Returns:
        True or False; None if that can't be told from here, because another machine ran it or it names no process.
    """
    pid = manifest.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        return None
    if manifest.get("hostname") != socket.gethostname():
        return None
    if Path("/proc/self/stat").exists():
        ticks, claimed = started(pid), manifest.get("pid_started")
        return ticks is not None and (claimed is None or claimed == ticks)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # not ours to signal, so it is there
    return True

"""Shrinking at the end of a run: in a process of its own, which the verdict does not wait for beyond its time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from rich.console import Console

from reports.content.text import plural
from reports.disk.repros import REPROS_DIR, read_repros
from reports.disk.trace import TRACE_DIR
from reports.record.run import Run
from reports.record.words import EXIT_CODE, Fault, Verdict
from validator.commands.show import counting

_SHRINK = ("-m", "validator.cli", "shrink")
_LOOK_S = 0.1


def shrink_at_close(run: Run, seconds: float, err: Console) -> str:
    """Make the first divergence of each cause a test, as ``kv-lockstep shrink`` does.

    Nothing that becomes of it changes the run's lines, its verdict or the exit code; it raises nothing, and an
    interrupt ends it alone.

    Args:
        run: A run that this process has closed.
        seconds: Time that it may take in all; 0 for none.
        err: Where to show how far it is.

    Returns:
        One line that says what became of it; empty if there was nothing to do.
    """
    asked = {(one.cause, one.fault) for one in run.divergences if one.fault is not Fault.HOST}
    whole = run.state == "complete" and not run.ended and (run.path / TRACE_DIR).is_dir()
    if not (asked and seconds and whole) or run.manifest.get("drill"):  # a planted fault is known
        return ""
    command = [sys.executable, *_SHRINK, str(run.path), "--within", str(seconds)]
    try:
        with tempfile.TemporaryFile() as said:
            why = _ended(command, seconds, said, err)
    except KeyboardInterrupt:
        why = "interrupted"
    except Exception as problem:
        why = f"{type(problem).__name__}: {problem!s:.200}"
    found = {(one.cause, one.fault) for one in read_repros(run.path)[0] if one.source}
    return _told(run, len(asked & found), len(asked), why)


def _told(run: Run, n_found: int, n_asked: int, why: str) -> str:
    where = f": {run.path / REPROS_DIR}" if n_found else ""
    done = f"tests that show it again, for {n_found} of {plural(n_asked, 'cause')}{where}"
    rest = f"; more: kv-lockstep shrink {run.path}" if n_found < n_asked else ""
    return f"{done}{f' ({why})' if why else ''}{rest}"


def _ended(command: list[str], seconds: float, said: IO[bytes], err: Console) -> str:
    """Wait for a process, but not beyond its time; return why it did not do all it should, or nothing."""
    # It finds what this process finds. In a session of its own a person's Ctrl-C reaches this process alone.
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    around = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=around, start_new_session=True
    )
    try:
        with counting(err, "making tests of what differed: seconds", round(seconds)) as shown:
            while process.poll() is None:
                if time.monotonic() - began > seconds:
                    return f"{seconds:g} s were not enough"
                shown(int(time.monotonic() - began), round(seconds))
                time.sleep(_LOOK_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode in (0, EXIT_CODE[Verdict.INCONCLUSIVE]):
        return ""
    said.seek(0)
    last = said.read()[-2000:].decode(errors="replace").strip().splitlines()
    return last[-1] if last else f"exit code {process.returncode}"

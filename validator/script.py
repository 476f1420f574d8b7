"""Runs another program's script in this process as ``python SCRIPT.py`` would, and says how it ended."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from validator.endings import exit_code
from validator.errors import LockstepError


class ScriptMissing(LockstepError):
    """There is no such script."""


class Ending(NamedTuple):
    """How a script ended.

    Attributes:
        code: The exit code that ``python`` would have given.
        error: What it raised, ``SystemExit`` and ``KeyboardInterrupt`` included, or None.
    """

    code: int
    error: BaseException | None


def run_script(script: Path, args: Sequence[str], passed_on: tuple[type[BaseException], ...] = ()) -> Ending:
    """Run a script as ``__main__``, with its arguments and its own directory first on the import path.

    Args:
        script: The file.
        args: Its arguments.
        passed_on: Exceptions that are not the script's own, to be raised instead of reported.

    Returns:
        How it ended. A traceback of its own has been printed by then, without frames of ours.

    Raises:
        ScriptMissing: If there is no such file.
    """
    if not script.is_file():
        found = "a directory" if script.is_dir() else "nothing"
        raise ScriptMissing(f"{script}: expected a Python script, found {found}; paths are relative to {Path.cwd()}")
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *args]
    sys.path[0] = str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        return Ending(exit_code(end), end)
    except passed_on:
        raise
    except BaseException as error:
        error.__traceback__ = _own_frames(error, script)
        sys.excepthook(type(error), error, error.__traceback__)  # the script may have set one of its own
        return Ending(130 if isinstance(error, KeyboardInterrupt) else 1, error)
    finally:
        sys.argv, sys.path[:] = before
    return Ending(0, None)


def _own_frames(error: BaseException, script: Path) -> TracebackType | None:
    """Skip the frames before the script's first line; a script that does not compile has none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
        trace = trace.tb_next
    return trace

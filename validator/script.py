"""Runs another program's script in this process as ``python SCRIPT.py`` would, and says how it ended."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from validator.endings import exit_code
from validator.errors import LockstepError

_OURS = (__file__, runpy.run_path.__code__.co_filename)


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
        script: The file; ``-m`` for a module, whose name is the first of
        args: Its arguments.
        passed_on: Exceptions that are not the script's own, to be raised instead of reported.

    Returns:
        How it ended. A traceback of its own has been printed by then, without frames of ours.

    Raises:
        ScriptMissing: If there is no such file or module.
    """
    before = sys.argv, sys.path[:]
    is_module = str(script) == "-m"
    sys.argv = [str(script), *args][is_module:]
    sys.path[0] = str(Path.cwd() if is_module else script.resolve().parent)
    try:
        _refuse_missing(script, args)
        if is_module:
            runpy.run_module(args[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        return Ending(exit_code(end), end)
    except ScriptMissing:
        raise
    except passed_on:
        raise
    except BaseException as error:
        error.__traceback__ = _own_frames(error)
        sys.excepthook(type(error), error, error.__traceback__)  # the script may have set one of its own
        return Ending(130 if isinstance(error, KeyboardInterrupt) else 1, error)
    finally:
        sys.argv, sys.path[:] = before
    return Ending(0, None)


def _refuse_missing(script: Path, args: Sequence[str]) -> None:
    """Raise ``ScriptMissing`` if there is nothing to run; arguments as for ``run_script``."""
    if str(script) == "-m":
        name = args[0] if args else ""
        with suppress(ImportError, ValueError):
            if name and find_spec(name) is not None:
                return
        raise ScriptMissing(f"-m {name}: no module of this name is found; modules are looked for in {Path.cwd()} too")
    if not script.is_file():
        found = "a directory" if script.is_dir() else "nothing"
        raise ScriptMissing(f"{script}: expected a Python script, found {found}; paths are relative to {Path.cwd()}")


def _own_frames(error: BaseException) -> TracebackType | None:
    """Skip the frames before the script's first line; a script that does not compile has none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return trace

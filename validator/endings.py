"""How did the host end? What can be known of it without tracing it; an exit handler is told nothing.

* That an error went through ``with Lockstep(...)``, ``kv-lockstep run`` or ``train``, or out of a training entry.
* That ``close()`` is called while one is on its way, as in a ``finally``.
* That the main program's outermost frame ended by its return, or by an exception; of one that Python printed, which.
* What ``sys.exit``, ``exit`` and ``quit`` were given: noted while a session is open, and put back with the last one.

What nothing tells: the code of a ``raise SystemExit(1)`` by hand, and of an exit that a module other than the script
imported by name before.
"""

from __future__ import annotations

import builtins
import opcode
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, NamedTuple

from validator.observe.running import interrupted


class HostEnding(NamedTuple):
    """How a host ended.

    Attributes:
        state: ``complete``, or why the run is not: ``interrupted`` or ``crashed``.
        said: What follows "the host ended", empty where there is nothing to say.
    """

    state: str = "complete"
    said: str = ""


def exit_code(given: Any) -> int:
    """Return the exit code that the operating system keeps of what ``sys.exit`` was given."""
    if isinstance(given, SystemExit):
        given = given.code
    return 0 if given is None else given & 0xFF if isinstance(given, int) else 1


def by_error(error: BaseException | None, uncaught: bool = False) -> HostEnding:
    """Say how a host ends that this error goes through, or that nobody catches it in; None for no error."""
    if error is None:
        return HostEnding()
    if isinstance(error, SystemExit):
        return _by_exit(error.code, "SystemExit")
    is_interrupt = isinstance(error, KeyboardInterrupt)
    said = f"{type(error).__name__}: {_shown(str, error)}".removesuffix(": ")
    if is_interrupt and (where := interrupted(error)):
        said += f", {where}"
    how = f"with exit code {130 if is_interrupt else 1}: {said}" if uncaught else f"by {said}"
    return HostEnding("interrupted" if is_interrupt else "crashed", how)


def on_its_way() -> BaseException | None:
    """Return the error that is being handled here, or goes through here, or None."""
    return sys.exc_info()[1]


class MainProgram:
    """The main program, from when a session opens until the last one closes."""

    def __init__(self) -> None:
        self._noted: HostEnding | None = None
        self._n_sessions = 0
        self._frame: FrameType | None = None
        self._put_back: list[Callable[[], None]] = []

    def watch(self) -> None:
        """Begin for one session."""
        self._n_sessions += 1
        if self._n_sessions > 1:
            return
        self._noted = None
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_back is not None:
            frame = frame.f_back
        self._frame = frame
        script = sys.modules.get("__main__")
        by_name = [name for name, value in list(vars(script).items()) if value is sys.exit] if script else []
        quitter = type(getattr(builtins, "exit", None))
        doors: list[tuple[Any, str]] = [(sys, "exit"), *((script, name) for name in by_name)]
        doors += [(quitter, "__call__")] if quitter.__name__ == "Quitter" else []  # there is none under python -S
        for place, name in doors:
            self._note_calls(place, name)

    def let_go(self) -> None:
        """End for one session."""
        self._n_sessions -= 1
        if not self._n_sessions:
            self._frame = None
            while self._put_back:
                self._put_back.pop()()

    def ending(self) -> HostEnding:
        """Say how it ended; for exit handlers, when it has."""
        frame = self._frame
        if frame is not None and _returned(frame):
            return HostEnding("complete", "without close")
        error, trace = getattr(sys, "last_value", None), getattr(sys, "last_traceback", None)
        if error is not None and trace is not None and (frame is None or trace.tb_frame is frame):
            return _without_close(by_error(error, uncaught=True))
        if self._noted is not None:
            return _without_close(self._noted)
        unknown = "without close, by a SystemExit that was raised by hand: its code can't be known"
        return HostEnding("complete", unknown if frame is not None else "without close")

    def _note_calls(self, place: Any, name: str) -> None:
        original = getattr(place, name)

        @wraps(original)
        def noting(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread():  # elsewhere it ends a thread
                given = args[isinstance(place, type) :]
                self._noted = _by_exit(given[0] if given else kwargs.get("code"), "sys.exit")
            return original(*args, **kwargs)

        def put_back() -> None:
            if getattr(place, name) is noting:  # else somebody stands on it
                setattr(place, name, original)

        setattr(place, name, noting)
        self._put_back.append(put_back)


def _without_close(ending: HostEnding) -> HostEnding:
    return ending._replace(said=", ".join(filter(None, ("without close", ending.said))))


def _by_exit(given: Any, how: str) -> HostEnding:
    code = exit_code(given)
    return HostEnding("crashed", f"with exit code {code}: {how}({_shown(repr, given)})") if code else HostEnding()


def _shown(how: Callable[[Any], str], given: Any) -> str:
    try:
        return how(given)[:300]
    except Exception:  # of the host's own making; it must end as it would
        return "?"


def _returned(frame: FrameType) -> bool:
    """Say whether a frame that is no longer running ended by its return; one that is still running has not."""
    return opcode.opname[frame.f_code.co_code[frame.f_lasti]] in ("RETURN_VALUE", "RETURN_CONST")

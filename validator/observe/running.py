"""Which side's call is a thread in? Read off its frames, so that an operation pays nothing for being asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import isfunction
from time import perf_counter_ns
from types import FrameType
from typing import Any, NamedTuple

from shadow.wrapper.both import Both
from shadow.wrapper.clock import called
from validator.judge.side import Side
from validator.judge.side_view import SideView

_LOOKS = {
    function.__code__: name
    for name, function in {**vars(Side), **vars(SideView)}.items()
    if isfunction(function) and name[0] != "_"
}


class Running(NamedTuple):
    """A call of a side under way.

    Attributes:
        of: The observer of the operation that it is a part of; the side's view, where kv-lockstep asks outside of one.
        op_index: The operation's ordinal, -1 outside of one.
        where: Side and call, as in ``candidate's get_recur_cache``.
        began_ns: When the operation began, by ``perf_counter_ns``; 0 outside of one.
    """

    of: Any
    op_index: int
    where: str
    began_ns: int


def running(frames: Iterable[FrameType]) -> Running | None:
    """Return the call of a side that a thread is in, given its frames from the innermost outwards; None for none."""
    side, doing, view = None, "", None
    for frame in frames:
        code = frame.f_code
        if code is called.__code__:
            side, doing = frame.f_locals["side"], frame.f_locals["method"]
        elif code in _LOOKS and (view is not None or not doing):  # the outermost says what was looked for
            view = frame.f_locals["self"]
            side, doing = view.cache, f"{_LOOKS[code]}, asked by kv-lockstep"
        elif code is Both.run.__code__:
            found = frame.f_locals
            both, operation = found["self"], found["operation"]
            names = ("control's", "candidate's") if both._control_is_primary else ("candidate's", "control's")
            name = {id(both._primary): names[0], id(both._secondary): names[1]}.get(id(side))
            where = f"{name} {doing}" if name else f"looks of kv-lockstep itself at {operation.name}"
            op_index, began_ns = found.get("op_index", both._index), found.get("began", perf_counter_ns())
            return Running(both._observer, op_index, where, began_ns)
    return None if view is None else Running(view, -1, f"{view.name}'s {doing}", 0)


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def interrupted(error: BaseException) -> str:
    """Say in which side's call an error struck, empty for none; of use where it came from outside, as an interrupt."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    found = running(reversed(frames))
    if found is None:
        return ""
    return f"in the {found.where}" + (f", after {since_s(found.began_ns):.1f} s" if found.began_ns else "")


def since_s(began_ns: int) -> float:
    """Return seconds since then, by ``perf_counter_ns``."""
    return (perf_counter_ns() - began_ns) / 1e9

"""Which side's call is a thread in? Read off its frames, so that an operation pays nothing for being asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import isfunction
from time import perf_counter_ns
from types import FrameType
from typing import NamedTuple

from shadow.wrapper.clock import called
from shadow.wrapper.shadow_cache import ShadowCache
from validator.judge.side import SideView

_LOOKS = {function.__code__: name for name, function in vars(SideView).items() if isfunction(function)}


class Running(NamedTuple):
    """An operation under way.

    Attributes:
        shadow: On which cache.
        op_index: Its ordinal there; the next one's where it has none yet.
        where: Side and operation, as in ``candidate's get_recur_cache``.
        began_ns: When it began, by ``perf_counter_ns``.
    """

    shadow: ShadowCache
    op_index: int
    where: str
    began_ns: int

    def __str__(self) -> str:
        return f"in the {self.where}, after {(perf_counter_ns() - self.began_ns) / 1e9:.1f} s"


def running(frames: Iterable[FrameType]) -> Running | None:
    """Return the operation that a thread is in, given its frames from the innermost outwards; None for none."""
    side, doing = None, ""
    for frame in frames:
        code = frame.f_code
        if code is called.__code__:
            side, doing = frame.f_locals["side"], frame.f_locals["method"]
        elif code in _LOOKS and not doing:
            view = frame.f_locals.get("self")
            side, doing = getattr(view, "cache", None), f"{_LOOKS[code]}, which was asked by kv-lockstep"
        elif code is ShadowCache._run.__code__:
            found = frame.f_locals
            shadow, operation = found["self"], found["operation"]
            name = {id(shadow._control): "control's", id(shadow._candidate): "candidate's"}.get(id(side))
            where = f"{name} {doing}" if name else f"looks of kv-lockstep itself at {operation.name}"
            return Running(shadow, found.get("index", shadow._index), where, found.get("began", perf_counter_ns()))
    return None


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
    return str(running(reversed(frames)) or "")

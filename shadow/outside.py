"""Which exceptions of a call are not the cache's own: those that came from outside while it ran."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import CodeType, FunctionType, MethodType
from typing import Any

handler_of: Any = import_module("_signal").getsignal  # that of signal, without enums: a tenth of the time
_NUMBERS = tuple(map(int, signal.valid_signals()))


def from_outside(raised: BaseException) -> bool:
    """Tell whether an exception that is being handled came from outside the call that it ended.

    That is a person's interrupt, or what a signal's handler raised: it belongs to the host, whichever side it meets.
    """
    if issubclass(type(raised), KeyboardInterrupt):
        return True
    handlers = {_code(handler_of(number)) for number in _NUMBERS} - {None}
    trace = sys.exc_info()[2] if handlers else None
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    if type(handler) is MethodType:
        handler = handler.__func__
    return handler.__code__ if type(handler) is FunctionType else None

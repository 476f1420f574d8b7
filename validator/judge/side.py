"""One side of a pair, and how it is asked for what is no operation without its noticing."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import is_grad_enabled, is_inference_mode_enabled

from reports.record.words import Fault
from shadow.interface import offered
from shadow.outside import from_outside
from shadow.wrapper import process_state
from validator.judge import words

_LOOK_FIRST = 1  # calls of a method around which all state of the process is looked at


class Unreadable:
    """Stands for an entry that a side raised about instead of showing it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Report(Protocol):
    """Where goes what a side, by its name, does outside of operations."""

    def misbehaved(self, name: str, method: str, what: BaseException | str) -> None:
        """Charge it with what it raised, or with the odd thing that it answered, in one of its methods."""

    def meddled(self, name: str, changed: list[str], note: str) -> None:
        """Charge it with having changed process-wide state."""


def tried(report: Report, name: str, call: Callable[..., Any], *args: Any) -> Any:
    """Ask a side for something outside of operations.

    Nobody but the validator asks for this, so whatever it does to the process is put back, whichever side it is.

    Args:
        report: Told of what it changes.
        name: The side.
        call: Asks it.
        args: What ``call`` is given.

    Returns:
        What it answers, or ``Unreadable`` if it raised; but what came from outside is raised here too.
    """
    before = process_state.state()
    try:
        return call(*args)
    except BaseException as error:
        if from_outside(error):
            raise
        return Unreadable(error)
    finally:
        _put_back(report, name, before, process_state.EVERYTHING)


def _put_back(report: Report, name: str, before: process_state.State, parts: tuple[process_state.Part, ...]) -> None:
    changed = process_state.changed(before, process_state.state(parts), parts)
    if changed:
        report.meddled(name, changed, words.put_back(process_state.put_back(before, parts)))


class Side:
    """One side, whatever its shape: its cache, its name, and how to ask it for what is no operation.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache.
        report: Told of what its optional methods raise, answer that can't be, or do to the process.

    Attributes:
        wary: Whether all state of the process is looked at around every call from here on.
    """

    def __init__(self, name: str, cache: Any, report: Report) -> None:
        self.name = name
        self.fault = Fault(name)
        self.cache = cache
        self.label = f"{name} ({type(cache).__name__})"
        self.wary = False
        self._report = report
        self._fresh: dict[str, int] = {}
        self._tells_nbytes = True

    def nbytes(self) -> int | None:
        """Return how many bytes the side says that it holds, or None if it doesn't."""
        if not self._tells_nbytes:
            return None
        found = self._called("nbytes", offered, self.cache, "nbytes")
        if type(found) is int or issubclass(type(found), np.integer):
            found = operator.index(found)
            if 0 <= found < 1 << 63:
                return found
        self._tells_nbytes = False
        if type(found) is Unreadable:
            self.misbehaved("nbytes", found.error)
        elif found is not None and not callable(found):
            self.misbehaved("nbytes", f"{described(found)} as a size")
        return None

    def misbehaved(self, method: str, what: BaseException | str) -> None:
        """Charge the side with what it raised, or with the odd thing that it answered."""
        self._report.misbehaved(self.name, method, what)

    def _method(self, name: str, arguments: int) -> Any:
        found = tried(self._report, self.name, offered, self.cache, name)
        if type(found) is Unreadable:
            self.misbehaved(name, found.error)
        return found if callable(found) and _takes(found, arguments) else None

    def _called(self, method: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call an optional method as ``tried`` does; after the first calls only modes of this thread are looked at."""
        count = self._fresh.get(method, 0)
        if count < _LOOK_FIRST or self.wary:
            self._fresh[method] = count + 1
            return tried(self._report, self.name, call, *args)
        grad, inference = is_grad_enabled(), is_inference_mode_enabled()
        try:
            return call(*args)
        except BaseException as error:
            if from_outside(error):
                raise
            return Unreadable(error)
        finally:
            if is_grad_enabled() is not grad or is_inference_mode_enabled() is not inference:
                _put_back(self._report, self.name, (inference, grad), process_state.THREAD)


def described(found: object) -> str:
    """Name what a method answered: a number as it is, anything else by its type."""
    return f"{found!r:.40}" if type(found) in (int, float, bool) else f"a {type(found).__name__}"


def _takes(method: Any, arguments: int) -> bool:
    """Tell whether a method can be called with so many arguments; another one of the same name is none of ours."""
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError:
        return False
    except Exception:  # nobody can tell before it is called
        return True
    return True

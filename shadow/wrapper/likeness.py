"""What makes the wrapper look like the primary: attributes, length, membership, and what else its class can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from inspect import isroutine
from typing import Any

_READS = ("__len__", "__bool__", "__contains__", "__iter__", "__reversed__")
_CHANGES = ("__getitem__", "__setitem__", "__delitem__", "__call__", "__enter__", "__exit__")
_KNOWN = (  # methods that change nothing of what is held
    *("policy", "live_keys", "peek"),
    *("state_dict", "train", "eval", "parameters", "named_parameters", "buffers", "named_buffers"),  # of a module
    *("modules", "named_modules", "children", "named_children"),
)


class Likeness:
    """Passes on to the primary whatever is no operation, and tells the observer of calls that it can't judge.

    The host sees the class, the attributes and the special methods of the primary, and sets attributes on it.
    """

    _primary: Any
    _observer: Any
    _lock: Any

    def __new__(
        cls, control: Any, candidate: Any, observer: Any = None, primary: str = "control", *more: Any, **named: Any
    ) -> Any:
        """Make one of a class that has the special methods of the primary's class as well."""
        kind: Any = type(candidate if primary == "candidate" else control)
        like: Any = _like
        return object.__new__(like(cls, kind))

    @property  # type: ignore[misc]  # mypy knows __class__ as an attribute only
    def __class__(self) -> Any:
        return type(self._primary) if "_primary" in self.__dict__ else type(self)

    def __getattr__(self, name: str) -> Any:
        # Reached for what the wrapper does not have itself.
        if name == "_primary" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = getattr(self._primary, name)
        if name in _KNOWN or not isroutine(found) or name in getattr(self._primary, "__dict__", ()):
            return found
        return _told(self, name, found)

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if "_made" not in own or name in own:
            object.__setattr__(self, name, value)
        else:
            setattr(self._primary, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._primary, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._primary)})


def _told(like: Likeness, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the primary of which the observer is told whenever it is called."""

    @wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        with like._lock:
            try:
                return method(*args, **named)
            finally:
                like._observer.unobserved(name)

    return call


@lru_cache(maxsize=64)
def _like(cls: type, primary: Any) -> type:
    """Return a subclass of the wrapper with the special methods of a primary's class."""

    def passed_on(name: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            method = getattr(self._primary, name)
            return (_told(self, name, method) if name in _CHANGES else method)(*args)

        call.__name__ = name
        return call

    known = {name for base in cls.__mro__ if issubclass(base, Likeness) for name in vars(base)}
    has = [name for name in (*_READS, *_CHANGES) if hasattr(primary, name) and name not in known]
    if primary.__eq__ is not object.__eq__:
        has += ["__eq__", "__hash__"]
    if not has:
        return cls
    own = {name: None if getattr(primary, name) is None else passed_on(name) for name in has}
    return type(cls.__name__, (cls,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__, **own})

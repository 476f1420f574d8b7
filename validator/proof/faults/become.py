"""How is any cache broken that nobody may stand before? It is made one of a subclass of its own class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_HEAP_TYPE = 1 << 9  # of ``__flags__``: a class that an object can be made one of


def can_become(cache: Any) -> bool:
    """Tell whether a cache can be made one of a subclass: no object of a class of C's own can."""
    return bool(type(cache).__flags__ & _HEAP_TYPE)


def become(cache: Any, **verbs: Callable[..., Any]) -> Any:
    """Give a cache other methods.

    Args:
        cache: The cache; the same object is returned.
        verbs: By name; each is given the sound class before what the method is given, to call that one's.
    """
    own = type(cache)
    body = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    methods = {name: _method(own, verb) for name, verb in verbs.items()}
    cache.__class__ = type(own.__name__, (own,), {**body, **methods})
    return cache


def _method(own: type, verb: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **named: verb(own, self, *args, **named)

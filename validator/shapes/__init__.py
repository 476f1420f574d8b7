"""The shapes of cache: one module each, the only place that knows it."""

from __future__ import annotations

from typing import Any

from validator.shapes.append import AppendShape
from validator.shapes.mapping import MappingShape
from validator.shapes.pools import PoolsShape
from validator.shapes.shape import Shape

SHAPES: tuple[Shape, ...] = (PoolsShape(), MappingShape(), AppendShape())


def find(control: Any, name: str | Shape = "auto") -> Shape:
    """Return the shape of two caches.

    Args:
        control: Trusted cache.
        name: The shape or its name, ``auto`` to find out.

    Raises:
        ValueError: If there is no such shape, none takes the control, or several do.
    """
    names = [shape.name for shape in SHAPES]
    if not isinstance(name, str):
        return name
    if name != "auto":
        if name not in names:
            raise ValueError(f"shape must be 'auto' or one of {', '.join(names)}, got {name!r}")
        return SHAPES[names.index(name)]
    fitting = [shape for shape in SHAPES if shape.takes(control)]
    if len(fitting) > 1:
        which = " and ".join(shape.name for shape in fitting)
        raise ValueError(f"{type(control).__name__} is of more than one shape ({which}): name one, as in shape=...")
    if not fitting:
        raise ValueError(
            f"the control is a {type(control).__name__}, which is no cache: give one with the methods of "
            "shadow.CacheStore, a MutableMapping, or a Cache of transformers"
        )
    return fitting[0]

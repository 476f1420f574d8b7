"""How does a record become JSON, and again a record? ``to_json`` and ``from_json`` are exact inverses.

A reader ignores fields that it does not know, so that a newer writer of the same schema stays readable.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

R = typing.TypeVar("R")


def to_json(record: Any) -> dict[str, Any]:
    """Turn a record into what ``json.dumps`` takes."""
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def from_json(cls: type[R], data: Mapping[str, Any]) -> R:
    """Rebuild a record.

    Args:
        cls: Its class.
        data: What ``to_json`` made, perhaps with unknown fields beside.

    Returns:
        The record.

    Raises:
        ValueError: If a required field is missing or a word is none of the closed list.
    """
    values = {}
    for name, rebuilt in _rebuilders(typing.cast(Any, cls)):
        if name in data:
            values[name] = rebuilt(data[name])
    try:
        return cls(**values)
    except TypeError as missing:
        raise ValueError(f"not a {cls.__name__}: {missing}") from None


Rebuild = Callable[[Any], Any]


@functools.cache
def _rebuilders(cls: type) -> tuple[tuple[str, Rebuild], ...]:
    """Return what rebuilds each field; a run may have ten thousand divergences, so hints are looked at once."""
    hints = typing.get_type_hints(cls)
    return tuple((f.name, _rebuilder(hints[f.name])) for f in dataclasses.fields(cls))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _rebuilder(hint: Any) -> Rebuild:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        inner = _rebuilder(next(option for option in typing.get_args(hint) if option is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _rebuilder(typing.get_args(hint)[0])
        return lambda value: tuple(map(item, _of(list, "a list", value)))
    if origin is dict:
        return lambda value: _of(dict, "an object", value)
    if issubclass(hint, Enum):
        return typing.cast(Rebuild, hint)
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return lambda value: from_json(kind, _of(Mapping, "an object", value))
    if hint is float:
        return _float
    return lambda value: value if type(value) is hint else _of(hint, hint.__name__, value)


def _float(value: Any) -> float:
    try:
        return float(value) if type(value) is int else float(_of(float, "float", value))
    except OverflowError:
        raise ValueError(f"{value!r:.40} is no number of seconds or the like") from None


def _of(kind: Any, called: str, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"expected {called}, got {value!r:.80}")
    return value

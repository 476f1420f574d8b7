"""Turn a mapping a person wrote (TOML, a config dict) into a dataclass, refusing what it does not know."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type or impossible."""


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a settings dataclass from a mapping.

    Args:
        cls: Dataclass; its own ``__post_init__`` checks ranges by raising ``ValueError``.
        mapping: What the person wrote. Nested dataclass fields take nested mappings. Never written to.
        where: What to call it in messages, such as a file name and table.

    Returns:
        The settings.

    Raises:
        SettingsError: If a key is unknown (the nearest known one is named), a value has another type, or a range check
            fails.
    """
    if not isinstance(mapping, Mapping):
        raise SettingsError(f"{where}: expected a table of settings, got {type(mapping).__name__}")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    values = {}
    for key, value in mapping.items():
        if key not in known:
            raise SettingsError(f"{where}: unknown setting {key!r}; {nearest(str(key), known)}")
        values[key] = _checked(hints[key], value, f"{where}: {key}")
    try:
        return cls(**values)
    except SettingsError:
        raise
    except (ValueError, TypeError) as problem:
        raise SettingsError(f"{where}: {problem}") from None


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def _checked(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if len(options) == 1:
            return _checked(options[0], value, where)
        for option in options:
            with contextlib.suppress(SettingsError):
                return _checked(option, value, where)
        expected = " or ".join(getattr(option, "__name__", str(option)) for option in options)
        raise SettingsError(f"{where}: expected {expected}, got {value!r} ({type(value).__name__})")
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            allowed = ", ".join(repr(option) for option in typing.get_args(hint))
            raise SettingsError(f"{where}: expected one of {allowed}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    if origin is tuple or hint is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"{where}: expected a list, got {value!r}")
        item = (typing.get_args(hint) or (Any,))[0]
        return tuple(_checked(item, element, where) for element in value)
    if hint is Any:
        return value
    if origin is dict or hint is dict or origin is not None:
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: expected a table, got {value!r}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{where}: expected {hint.__name__}, got {value!r} ({type(value).__name__})")
    return value

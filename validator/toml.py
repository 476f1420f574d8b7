"""TOML from files and from flags, and what to say when it is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from validator.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        what: What it should hold, for messages.

    Returns:
        Its tables.

    Raises:
        ConfigError: If it can't be read or is no TOML.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path}: {what} can't be read ({problem.strerror}); check the path") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: expected {what} as UTF-8 text, got other bytes at {problem.start}") from None
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path}: expected {what} in TOML; {problem}") from None
    return tables


def put_setting(tables: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put one setting into tables, making the tables on its way.

    Args:
        tables: Changed in place.
        key: Dotted name, such as ``world_model_cfg.num_simulations``.
        value: Its value.
        where: What to call the tables in messages.

    Raises:
        ConfigError: If something on the way is a value.
    """
    *parents, name = key.split(".")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {key} can't be set, because {parent} is the value {table!r} and no table")
    table[name] = value


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE`` with a TOML value; a bare word counts as text, so that a shell need not see quotes.

    Args:
        text: What the person wrote.

    Returns:
        The dotted key and the value.

    Raises:
        ConfigError: If it is no ``KEY=VALUE``.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (equals and all(key.split("."))):
        raise ConfigError(f"--set {text!r}: expected KEY=VALUE, such as --set world_model_cfg.num_simulations=25")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value

"""Finds what somebody names as ``package.module:name``, such as a cache of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def named(name: str) -> Callable[..., Any]:
    """Return what can be called by this name; modules of the working directory are found as well, last of all.

    Args:
        name: ``package.module:name``.

    Raises:
        ValueError: If nothing is found; the text says why.
    """
    module, _, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not module or not attribute or module.startswith("."):
        raise ValueError("no full module name before, or no class after, a colon")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ValueError(str(problem)) from None
    except Exception as problem:  # of the module itself
        raise ValueError(f"{module} can't be imported: {type(problem).__name__}: {problem}") from None
    finally:
        sys.path.reverse()
        sys.path.remove(here)  # the last one
        sys.path.reverse()
    if not callable(found):
        raise ValueError(f"{attribute} is no class but of type {type(found).__name__}")
    made: Callable[..., Any] = found
    return made

"""Where do two records part?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def parted(said: Any, found: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return where two pieces of JSON differ first, and what stands there in each; None if they are equal."""
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        names = dict.fromkeys((*said, *found))  # ``...`` stands for what is absent, and is no JSON
        parts = ((f"{path}.{name}".strip("."), said.get(name, ...), found.get(name, ...)) for name in names)
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        parts = ((f"{path}[{n}]", *pair) for n, pair in enumerate(zip(said, found, strict=True)))
    else:
        one, other = ("absent" if each is ... else f"{each!r:.60}" for each in (said, found))
        return None if type(said) is type(found) and said == found else (path[:60], one, other)
    return next((first for part in parts if (first := parted(part[1], part[2], part[0]))), None)

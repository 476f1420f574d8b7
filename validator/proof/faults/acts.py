"""How often did a planted fault do something? One that never did can't have been noticed, and its host says nothing."""

from __future__ import annotations

from typing import Any

from shadow.entries import leaves
from validator.entries.digest import digest

_count = 0


def acted(did: object = True) -> None:
    """Tell that a planted fault did what a sound cache would not have done, if it did."""
    global _count
    _count += bool(did)


def acts() -> int:
    """Return how often any planted fault of this process did something."""
    return _count


def contents(entry: Any) -> Any:
    """Return what tells an entry from a changed one, to the last bit."""
    try:
        return digest(leaves(entry))
    except (AttributeError, TypeError):
        return type(entry)  # it is no entry any more

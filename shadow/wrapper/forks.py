"""What a forked child finds of the shadows of its parent: locks that nobody holds, and primaries that answer alone.

A lock that another thread held at the moment of the fork would never be free in the child, where that thread is not.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from shadow import lent


class Renewable(Protocol):
    """What must be told in a child."""

    def in_forked_child(self) -> None:
        """Begin anew, with locks of its own."""


_told: dict[int, weakref.ref[Renewable]] = {}  # by id: a shadow compares and hashes as its primary does


def tell_in_children(one: Renewable) -> None:
    """Have this object told in every forked child, as long as it lives."""
    at = id(one)
    _told[at] = weakref.ref(one, lambda _: _told.pop(at, None) and None)


def _in_child() -> None:
    lent.touching = threading.RLock()
    for one in [each() for each in _told.values()]:
        if one is not None:
            one.in_forked_child()


if hasattr(os, "register_at_fork"):  # what is registered there stays for good, so it is one function
    os.register_at_fork(after_in_child=_in_child)

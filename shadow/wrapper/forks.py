"""What a forked child finds of the shadows of its parent: locks that nobody holds, and primaries that answer alone.

A lock that another thread held at the moment of the fork would never be free in the child, where that thread is not.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

from shadow import lent


class Renewable(Protocol):
    """What must be told in a child; hashable."""

    def in_forked_child(self) -> None:
        """Begin anew, with locks of its own."""


_told: WeakSet[Renewable] = WeakSet()


def tell_in_children(one: Renewable) -> None:
    """Have this object told in every forked child, as long as it lives."""
    _told.add(one)


def _in_child() -> None:
    lent.touching = threading.RLock()
    for one in list(_told):
        one.in_forked_child()


if hasattr(os, "register_at_fork"):  # what is registered there stays for good, so it is one function
    os.register_at_fork(after_in_child=_in_child)

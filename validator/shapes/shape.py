"""What the session asks of a shape of cache."""

from __future__ import annotations

from typing import Any, Protocol

from shadow.wrapper.both import LOOK_FIRST
from validator.judge.case import Pairing
from validator.observe.pair import Pair, Session


class Shape(Protocol):
    """One shape of cache."""

    @property
    def name(self) -> str:
        """What it is called."""

    def takes(self, cache: Any) -> bool:
        """Tell whether a cache is of this shape."""

    def pair(self, pairing: Pairing, session: Session) -> Pair:
        """Make the observer of two caches; ValueError says why they can't be compared."""

    def door(self, pairing: Pairing, pair: Pair, seed: int, look_first: int = LOOK_FIRST) -> Any:
        """Return what the host is to use in place of its cache; ``look_first`` as for ``Both``."""

    def let_be(self, cache: Any) -> None:
        """Make what the host holds the primary alone: nobody watches in a forked child."""

"""What the session asks of a shape of cache."""

from __future__ import annotations

from typing import Any, Protocol

from shadow.switch import HostPromises
from shadow.wrapper.both import LOOK_FIRST
from validator.config import ValidationConfig
from validator.observe.pair import Pair, Session


class Shape(Protocol):
    """One shape of cache."""

    @property
    def name(self) -> str:
        """What it is called."""

    def takes(self, cache: Any) -> bool:
        """Tell whether a cache is of this shape."""

    def pair(
        self,
        name: str,
        control: Any,
        candidate: Any,
        primary: str,
        config: ValidationConfig,
        session: Session,
        promises: HostPromises | None,
    ) -> Pair:
        """Make the observer of a pair; arguments as for ``KeyedPair``."""

    def door(
        self, control: Any, candidate: Any, pair: Pair, primary: str, seed: int, look_first: int = LOOK_FIRST
    ) -> Any:
        """Return what the host is to use in place of its cache; arguments as for ``ShadowCache``."""

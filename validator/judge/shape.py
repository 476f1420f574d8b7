"""What the judgement of one keyed cache is told by its shape; who implements it is in ``validator.shapes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from shadow.interface import CachePolicy
from shadow.operation import Operation, Pool
from validator.judge.side import Report
from validator.judge.side_view import Reader
from validator.models.places import Places


class Promised(NamedTuple):
    """What both sides promise.

    Attributes:
        control: Policy of the control, or what is assumed.
        candidate: Policy of the candidate.
        sizes: Entries that each pool may hold by what they declare, None for any number: of control, of candidate.
        env_num: Number of environments if either says it.
        assumed: What had to be assumed, one sentence each.
    """

    control: CachePolicy
    candidate: CachePolicy
    sizes: tuple[Mapping[Pool, int | None], Mapping[Pool, int | None]]
    env_num: int | None
    assumed: list[str]


class KeyedShape(Protocol):
    """A shape of cache in which a key maps to an entry."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def spared(self) -> tuple[str, ...]:
        """What the gate's default policy does not ask of it, by the names of ``CoveragePolicy``."""

    @property
    def places(self) -> Places:
        """Its pools."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Its operations; the pool of each ``get`` is one that lookups are counted by."""

    def promised(self, control: Any, candidate: Any, report: Report) -> Promised:
        """Find out what both sides promise; ``report`` is told of one that raises, or answers what can't be."""

    def reader(self, cache: Any, offered: Callable[[str, int], Any]) -> Reader:
        """Return how to look into a cache; ``offered`` returns an optional method of it by name and arguments taken."""

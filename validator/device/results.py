"""Numbers that a device computes and nobody waits for, and the batches in which they come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shadow.memory.buffers import ordinary
from validator.device import fingerprint

Check = Callable[[], None]

ROOM = 8192  # numbers of one batch: a lookup of 4 layers takes 24


class HostEvent:
    """Stands in for an event where there is no device: not done at the first look, done at the second."""

    def __init__(self) -> None:
        self._looks = 0

    def query(self) -> bool:
        """Tell whether this is not the first look."""
        self._looks += 1
        return self._looks > 1

    def synchronize(self) -> None:
        """Everything on a processor is done by now."""


@dataclass(slots=True)
class Group:
    """Copies of entries of one structure, and what they come to.

    Attributes:
        pairs: Copies of two entries each, ``(2, leaves, B, num_heads, size, head_dim)``.
        counts: Where the two of a pair differ, per leaf; one per pair.
        of_pairs: Hashes of both of each pair; empty where they are not hashed.
        singles: Other copies, ``(k, leaves, B, num_heads, size, head_dim)``.
        of_singles: Their hashes.
    """

    pairs: list[Tensor] = field(default_factory=list)
    counts: list[Result] = field(default_factory=list)
    of_pairs: list[Result] = field(default_factory=list)
    singles: list[Tensor] = field(default_factory=list)
    of_singles: list[Result] = field(default_factory=list)


class Batch:
    """Numbers of one stream that come back together, and what is to be done then."""

    __slots__ = ("checks", "event", "groups", "host", "nbytes", "numbers", "used")

    def __init__(self, device: torch.device) -> None:
        with ordinary():
            self.numbers = torch.empty(ROOM, dtype=torch.int64, device=device)
            self.host = torch.empty(ROOM, dtype=torch.int64, pin_memory=device.type == "cuda")
        self.begin()

    def begin(self) -> None:
        self.used = self.nbytes = 0
        self.groups: dict[Any, Group] = defaultdict(Group)  # by structure
        self.checks: list[Check] = []
        self.event: Any = None  # a ``torch.cuda.Event`` or a ``HostEvent``, once sent


class Result(Sequence[int]):
    """Whole numbers that a device computes; whoever reads one before it came back waits for it.

    Equal to any sequence of the same numbers, so that the hashes of a ``Digest`` may be one.
    """

    __slots__ = ("_at", "_bring", "_size", "_values", "batch")

    def __init__(self, bring: Callable[[Batch], None], batch: Batch, size: int) -> None:
        self._bring = bring  # waits until a batch is here
        self.batch: Batch | None = batch  # None once the numbers are here
        self._at = -1
        self._size = size
        self._values: tuple[int, ...] = ()

    def lie_at(self, at: int) -> None:
        """Learn where among the numbers of the batch they will be."""
        self._at = at

    def arrive(self, numbers: Sequence[int]) -> None:
        """Take the numbers out of those of the whole batch."""
        self._values = self._of(numbers[self._at : self._at + self._size])
        self.batch = None

    def _of(self, numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(numbers)

    def _read(self) -> tuple[int, ...]:
        if self.batch is not None:
            self._bring(self.batch)
        return self._values

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Sequence) and self._read() == tuple(other))

    def __hash__(self) -> int:
        return hash(self._read())

    def __deepcopy__(self, memo: dict[int, Any]) -> Result:
        return self  # what it will hold does not change


class Hashes(Result):
    """Fingerprints: of what is not empty, never 0."""

    __slots__ = ()

    def _of(self, numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(fingerprint.unlike_empty, numbers))

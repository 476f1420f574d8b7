"""Numbers that a device computes and nobody waits for, and the batches in which they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from shadow.memory.buffers import ordinary
from shadow.memory.regions import Layout
from validator.device import fingerprint

Check = tuple[Any, ...]  # a function and its arguments: what is to be done once numbers are here

ROOM = 8192  # numbers of one batch: a lookup of 2 layers takes 12
_NBYTES = 8  # of a number


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


class Structure:
    """What copies have in common that are looked at together.

    Args:
        layout: Of each entry.
        size: Valid tokens.
        each: Entries that belong together: 2 that are compared, or 1.
        hashed: Whether they are hashed.
    """

    __slots__ = ("each", "empty", "hashed", "layout", "numbers", "right", "size")

    def __init__(self, layout: Layout, size: int, each: int, hashed: bool) -> None:
        self.layout, self.size, self.each, self.hashed = layout, size, each, hashed
        self.empty = not size or not layout.nbytes
        self.numbers = layout.n_leaves * (each * hashed + each - 1)  # that come of one
        self.right = bytes(_NBYTES * layout.n_leaves)  # counts of differences, where there are none


class Batch:
    """Numbers of one stream that come back together, and what is to be done then.

    Attributes:
        looks: By structure copies of entries, each of one or more times ``each``, and what they come to, one result for
            every ``each`` entries.
    """

    __slots__ = ("bring", "checks", "event", "host", "looks", "nbytes", "numbers", "used")

    def __init__(self, device: torch.device, bring: Callable[[Batch], None]) -> None:
        with ordinary():
            self.numbers = torch.empty(ROOM, dtype=torch.int64, device=device)
            self.host = torch.empty(ROOM, dtype=torch.int64, pin_memory=device.type == "cuda")
        self.bring = bring  # waits until a batch is here
        self.begin()

    def begin(self) -> None:
        """Begin anew, in the same memory."""
        self.used = self.nbytes = 0
        self.looks: dict[Structure, tuple[list[Tensor], list[Result]]] = {}
        self.checks: list[Check] = []
        self.event: Any = None  # a ``torch.cuda.Event`` or a ``HostEvent``, once sent

    def arrived(self) -> None:
        """Give out the numbers, which are here."""
        found = self.host[: self.used].numpy().tobytes()
        at = 0
        for structure, (_, results) in self.looks.items():
            step = _NBYTES * structure.numbers
            for result in results:
                result.raw = found[at : at + step]
                result.batch = None
                at += step


class Result(Sequence[int]):
    """Whole numbers that a device computes; whoever reads one before it came back waits for it.

    Equal to any sequence of the same numbers, so that the hashes of a ``Digest`` may be one.

    Attributes:
        raw: The numbers as they came back; nothing before.
        batch: Where they are computed; None once they are here.
        structure: Of what they are computed from.
    """

    __slots__ = ("batch", "raw", "structure")

    def __init__(self, batch: Batch | None, structure: Structure) -> None:
        self.batch = batch
        self.structure = structure
        self.raw = b""

    def read(self) -> bytes:
        """Return the numbers as they came back; waits if they did not."""
        if self.batch is not None:
            self.batch.bring(self.batch)
        return self.raw

    def _of(self) -> tuple[int, ...]:
        return tuple(np.frombuffer(self.read(), np.int64).tolist())

    def __getitem__(self, index: Any) -> Any:
        return self._of()[index]

    def __len__(self) -> int:
        return len(self._of())

    def __iter__(self) -> Iterator[int]:
        return iter(self._of())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._of() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._of())

    def __deepcopy__(self, memo: dict[int, Any]) -> Result:
        return self  # what it will hold does not change


class Hashes(Result):
    """Fingerprints, one per leaf: of what is not empty, never 0."""

    __slots__ = ()

    def _of(self) -> tuple[int, ...]:
        found = super()._of()
        return found if self.structure.empty else tuple(map(fingerprint.unlike_empty, found))

    def __eq__(self, other: Any) -> bool:
        if type(other) in _HASHES and other.structure.empty is self.structure.empty:
            return self is other or bool(self.read() == other.read())
        return super().__eq__(other)

    __hash__ = Result.__hash__


class Compared(Result):
    """What came of comparing two entries: the hashes of both, if they were hashed, and how much differs per leaf."""

    __slots__ = ()

    def are(self, expected: Result) -> bool:
        """Tell whether nothing differs and both, if they were hashed, are what was hashed before."""
        found, structure = self.raw if self.batch is None else self.read(), self.structure
        if not structure.hashed:
            return found == structure.right
        return found == (expected.raw or expected.read()) * 2 + structure.right

    @property
    def counts(self) -> tuple[int, ...]:
        """How many numbers of each leaf differ."""
        return self._of()[-self.structure.layout.n_leaves :]

    def hashes(self, index: int) -> Hashes:
        """Return the hashes of one of the two entries, which may still be on their way."""
        return _Half(self, index)


class _Half(Hashes):
    """The hashes of one of two entries that are compared."""

    __slots__ = ("_index", "_whole")

    def __init__(self, whole: Compared, index: int) -> None:
        super().__init__(None, whole.structure)
        self._whole = whole
        self._index = index

    def read(self) -> bytes:
        """Return them as they came back; waits if they did not."""
        size = len(self.structure.right)
        return self._whole.read()[self._index * size : (self._index + 1) * size]


_HASHES = (Hashes, _Half)
R = TypeVar("R", bound=Result)

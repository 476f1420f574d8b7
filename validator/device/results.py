"""Numbers that a device computes and nobody waits for, and the batches in which they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

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

    __slots__ = ("each", "empty", "hashed", "layout", "numbers", "size")

    def __init__(self, layout: Layout, size: int, each: int, hashed: bool) -> None:
        self.layout, self.size, self.each, self.hashed = layout, size, each, hashed
        self.empty = not size or not layout.nbytes
        self.numbers = layout.n_leaves * (each * hashed + each - 1)  # that come of one


class Batch:
    """Numbers of one stream that come back together, and what is to be done then.

    Attributes:
        copies: By structure copies of entries, each of one or more times ``each``.
        results: By structure what they come to, one for every ``each`` entries.
    """

    __slots__ = ("bring", "checks", "copies", "event", "host", "nbytes", "numbers", "results", "used")

    def __init__(self, device: torch.device, bring: Callable[[Batch], None]) -> None:
        with ordinary():
            self.numbers = torch.empty(ROOM, dtype=torch.int64, device=device)
            self.host = torch.empty(ROOM, dtype=torch.int64, pin_memory=device.type == "cuda")
        self.bring = bring  # waits until a batch is here
        self.begin()

    def begin(self) -> None:
        """Begin anew, in the same memory."""
        self.used = self.nbytes = 0
        self.copies: dict[Structure, list[Tensor]] = {}
        self.results: dict[Structure, list[Result]] = {}
        self.checks: list[Check] = []
        self.event: Any = None  # a ``torch.cuda.Event`` or a ``HostEvent``, once sent

    def arrived(self) -> None:
        """Give out the numbers, which are here."""
        found = self.host[: self.used].numpy().tobytes()
        at = 0
        for structure, results in self.results.items():
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
    """

    __slots__ = ("batch", "raw")

    def __init__(self, batch: Batch | None, raw: bytes = b"") -> None:
        self.batch = batch
        self.raw = raw

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
        if type(other) is type(self):
            return self is other or self.read() == other.read()
        return isinstance(other, Sequence) and self._of() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._of())

    def __deepcopy__(self, memo: dict[int, Any]) -> Result:
        return self  # what it will hold does not change


class Hashes(Result):
    """Fingerprints: of what is not empty, never 0."""

    __slots__ = ()

    def _of(self) -> tuple[int, ...]:
        return tuple(map(fingerprint.unlike_empty, super()._of()))


class Compared(Result):
    """What came of comparing two entries: the hashes of both, if they were hashed, and how much differs per leaf.

    Attributes:
        structure: Of both.
    """

    __slots__ = ("structure",)

    def __init__(self, batch: Batch, structure: Structure) -> None:
        super().__init__(batch)
        self.structure = structure

    def are(self, expected: Result) -> bool:
        """Tell whether nothing differs and both, if they were hashed, are what was hashed before."""
        wanted = expected.read() * 2 if self.structure.hashed else b""
        return self.read() == wanted + bytes(_NBYTES * self.structure.layout.n_leaves)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many numbers of each leaf differ."""
        return self._of()[-self.structure.layout.n_leaves :]

    def hashes(self, index: int) -> Result:
        """Return the hashes of one of the two entries, which may still be on their way."""
        return _Half(self, index)


class _Half(Result):
    """The hashes of one of two entries that are compared."""

    __slots__ = ("_index", "_whole")

    def __init__(self, whole: Compared, index: int) -> None:
        self._whole = whole
        self._index = index

    @property
    def batch(self) -> Batch | None:  # type: ignore[override]  # a field there, worked out here
        """Where they are computed; None once they are here."""
        return self._whole.batch

    def read(self) -> bytes:
        """Return them as they came back; waits if they did not."""
        size = _NBYTES * self._whole.structure.layout.n_leaves
        return self._whole.read()[self._index * size : (self._index + 1) * size]

    def _of(self) -> tuple[int, ...]:
        found = super()._of()
        return found if self._whole.structure.empty else tuple(map(fingerprint.unlike_empty, found))

"""What should an append cache hold? Digests of all that was appended, by layer, row and position.

This needs no second cache: whatever is answered at a position must be what was appended there, or what a later
rearrangement moved there. What was there before stays known for a while, so that what is found there can be named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from shadow.memory.dense import columns_of, parts

_hashed: Any = xxh3_64_intdigest  # its types don't know that an array is a buffer
_MOST_BEFORE = 4  # states of a layer that are remembered from before a crop, a reset and the like
_ROOM = 64  # positions that a table has room for at first


class Source(NamedTuple):
    """Where something was appended.

    Attributes:
        part: 0 for the key vector, 1 for the value vector.
        layer: Layer.
        row: Row of the batch.
        position: Absolute position, from 0.
        until: The verb that put an end to it, such as ``crop``; empty for what stands.
    """

    part: int
    layer: int
    row: int
    position: int
    until: str = ""


class Table:
    """One layer: digests ``(2, rows, positions)`` of the key and value vectors appended at each position.

    Attributes:
        length: Positions appended, those that a window forgets included.
        rows: Rows of the batch.
    """

    def __init__(self) -> None:
        self.length = self.rows = 0
        self._cells = np.zeros((2, 0, 0), np.uint64)
        self._before: deque[tuple[str, Any]] = deque(maxlen=_MOST_BEFORE)

    def append(self, found: Any) -> None:
        """Append digests ``(2, rows, positions)``.

        Raises:
            ValueError: If there are other rows by then.
        """
        rows, new = found.shape[1:]
        end = self.length + new
        if not self.length:
            self._cells, self.rows = np.zeros((2, rows, max(_ROOM, 2 * end)), np.uint64), rows
        elif rows != self.rows:
            raise ValueError(f"{rows} rows were appended to {self.rows}")
        elif end > self._cells.shape[2]:
            room = np.zeros((2, rows, 2 * end), np.uint64)
            room[:, :, : self.length] = self._cells[:, :, : self.length]
            self._cells = room
        self._cells[:, :, self.length : end] = found
        self.length = end

    def expected(self, begin: int, end: int) -> Any:
        """Return the digests ``(2, rows, end - begin)`` of positions."""
        return self._cells[:, :, begin:end]

    def holds(self, which: slice, begin: int, found: Any) -> bool:
        """Tell whether digests of some parts, from a position on, are those that were appended."""
        return bool(self._cells[which, :, begin : begin + found.shape[2]].tobytes() == found.tobytes())

    def crop(self, length: int) -> None:
        """Drop what lies at and behind a position."""
        self._remember("crop")
        self.length = max(0, min(length, self.length))

    def take(self, verb: str, rows: Any) -> None:
        """Put other rows in the place of each, by index."""
        self._remember(verb)
        self._cells = self._cells[:, rows]
        self.rows = self._cells.shape[1]

    def reset(self) -> None:
        """Hold nothing."""
        self._remember("reset")
        self.length = 0

    def sources(self, layer: int) -> Iterator[tuple[int, Source]]:
        """List what stands and what stood before, each digest with its source."""
        states = [*self._before, ("", self._cells[:, :, : self.length])]
        for until, cells in reversed(states):
            for (part, row, position), digest in np.ndenumerate(cells):
                yield int(digest), Source(part, layer, row, position, until)

    def _remember(self, verb: str) -> None:
        if self.length:
            self._before.append((verb, self._cells[:, :, : self.length].copy()))


class AppendedModel:
    """All layers of one cache.

    Attributes:
        layers: The table of each layer by its index.
    """

    def __init__(self) -> None:
        self.layers: dict[int, Table] = {}

    def table(self, layer: int) -> Table:
        """Return the table of a layer, a new one if there is none."""
        found = self.layers.get(layer)
        if found is None:
            found = self.layers[layer] = Table()
        return found

    def sources(self) -> dict[int, list[Source]]:
        """Return where each digest that is known was appended; those that stand come first."""
        found: dict[int, list[Source]] = {}
        for layer, table in self.layers.items():
            for digest, source in table.sources(layer):
                found.setdefault(digest, []).append(source)
        return found


def digests(contents: tuple[bytes, ...], rows: int, positions: int) -> Any:
    """Digest what ``columns_of`` returned: one hash of 64 bits per row and position, over all heads.

    Args:
        contents: Of each tensor.
        rows: Rows of the batch.
        positions: Positions.

    Returns:
        Array of whole numbers ``(len(contents), rows, positions)``.
    """
    count = rows * positions
    lines = chain.from_iterable(map(parts, contents, repeat(count))) if count else ()
    found = np.fromiter(map(_hashed, lines), np.uint64, count * len(contents))
    return found.reshape(len(contents), rows, positions)


def both_digests(keys: Tensor, values: Tensor) -> Any:
    """Digest keys and values of the same positions: ``(2, rows, positions)``."""
    rows, _, positions, _ = keys.shape
    return digests(columns_of((keys, values), 0, positions), rows, positions)


def zero_digest(width: int, dtype: torch.dtype) -> int:
    """Return the digest of a vector of so many zeros over all heads."""
    return int(digests(columns_of((torch.zeros(1, 1, 1, width, dtype=dtype),), 0, 1), 1, 1)[0, 0, 0])

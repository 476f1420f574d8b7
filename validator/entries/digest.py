"""Order-sensitive digests of what an entry holds: a 64-bit hash of all of it and one per buffer, valid regions only.

Norms and XOR sums are blind to permuted tokens and swapped heads. Structure is part of the digest: the same bytes in
another shape, dtype or length are another entry. The hash is XXH3 over the valid bytes, buffer by buffer; of what is
hashed on an accelerator it is an inner product (``validator.device.fingerprint``), and never that of all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from xxhash import xxh3_64, xxh3_64_intdigest

from shadow.entries import Form, form_of
from shadow.memory.buffers import Leaf, bytes_of
from shadow.memory.dense import gather, parts
from shadow.memory.regions import Region, of_leaves
from shadow.operation import make
from validator.entries.compare import LARGE, hash_at, valid

_PIECE = 1 << 18


class Digest(NamedTuple):
    """What an entry held at one moment.

    Attributes:
        contents: One hash per leaf, K then V, layer by layer, 0 of an empty one; of device entries perhaps still on its
            way.
        layout: Per leaf ``(shape, dtype, device, valid length)``.
        whole: XXH3 of all contents, leaf by leaf; None where they are inner products, hashed on a device.
        form: Of a nest, what it is besides these; None of a ``KeysValues``.
    """

    contents: Sequence[int]
    layout: tuple[tuple[tuple[int, ...], torch.dtype, torch.device, int], ...]
    whole: int | None
    form: Form | None = None

    @property
    def layers(self) -> int:
        """Layers, or 0 if a key or value tensor of one holds nothing; of a nest each tensor is one."""
        contents = self.contents
        if self.form is not None:
            return len(contents) if all(contents) else 0
        if type(contents) is tuple:
            return len(contents) // 2 if all(contents) else 0
        # Hashes that are still on their way are not waited for.
        return len(self.layout) // 2 if all(size and 0 not in shape for shape, _, _, size in set(self.layout)) else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all its buffers, valid or not."""
        return sum([math.prod(shape) * dtype.itemsize for shape, dtype, _, _ in self.layout])

    def same_contents(self, other: Digest) -> bool:
        """Tell whether two digests of one kind are of the same contents, whatever their structure."""
        return (self.whole is None) is (other.whole is None) and self.contents == other.contents


def digest(entry_leaves: Sequence[Leaf]) -> Digest:
    """Digest an entry.

    Args:
        entry_leaves: Its leaves; tensors on an accelerator are copied to the host, which waits for them.

    Returns:
        The digest.
    """
    dense = of_leaves(entry_leaves) if form_of(entry_leaves) is None else None
    if dense is not None:
        return digest_region(dense)
    contents = []
    layout = []
    whole = xxh3_64()
    for leaf in entry_leaves:
        tensor, size = leaf
        layout.append((tuple(tensor.shape), tensor.dtype, tensor.device, size))
        found = bytes_of(valid(leaf))
        contents.append(xxh3_64_intdigest(found) if found.nbytes else 0)
        whole.update(found)
    return Digest(tuple(contents), tuple(layout), whole.intdigest(), form_of(entry_leaves))


def digest_region(found: Region) -> Digest:
    """Digest a dense entry where it lies."""
    runs, described = found.layout.at(found.size)
    if found.layout.nbytes > LARGE:
        return _digest_large(found.addresses, *runs, described)
    contents = gather(found.addresses, *runs)
    count = len(described)
    hashes = tuple(map(xxh3_64_intdigest, parts(contents, count))) if contents else (0,) * count
    made: Digest = make(Digest, (hashes, described, xxh3_64_intdigest(contents), None))
    return made


def _digest_large(addresses: tuple[int, ...], rows: int, step: int, n: int, described: Any) -> Digest:
    """Digest where it lies what is large, each piece for its buffer and for all while a processor's cache holds it."""
    contents = []
    whole = xxh3_64()
    for address in addresses:
        own = xxh3_64()
        for row in range(rows):
            for at in range(0, n, _PIECE):
                piece = gather((address + row * step + at,), 1, 0, min(_PIECE, n - at))
                own.update(piece)
                whole.update(piece)
        contents.append(own.intdigest() if rows * n else 0)
    return Digest(tuple(contents), described, whole.intdigest())


def holds(found: Region, expected: Digest) -> bool:
    """Tell whether a dense entry is what was digested: one hash over all of it, where a digest takes one per buffer."""
    runs, described = found.layout.at(found.size)
    return expected.layout == described and expected.whole == hash_at(found.addresses, *runs)

"""Order-sensitive digests of what an entry holds: one 64-bit hash per key and value tensor, valid region only.

Norms and XOR sums are blind to permuted tokens and swapped heads. Structure is part of the digest: the same bytes in
another shape, dtype or length are another entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from shadow.entry import Leaf, leaves, readable, region
from shadow.memory.dense import hash, hashes
from shadow.memory.regions import Region
from shadow.operation import make
from validator.entries.compare import valid


class Digest(NamedTuple):
    """What an entry held at one moment.

    Attributes:
        contents: One hash per leaf, K then V, layer by layer; of device entries perhaps still on its way.
        layout: Per leaf ``(shape, dtype, device, valid length)``.
    """

    contents: Sequence[int]
    layout: tuple[tuple[tuple[int, ...], torch.dtype, torch.device, int], ...]

    @property
    def layers(self) -> int:
        """Layers, or 0 if a key or value tensor of one holds nothing."""
        contents = self.contents
        if type(contents) is tuple:
            return len(contents) // 2 if all(contents) else 0
        # Hashes that are still on their way are not waited for.
        return len(contents) // 2 if all(size and 0 not in shape for shape, _, _, size in self.layout) else 0


def digest(entry_leaves: Sequence[Leaf]) -> Digest:
    """Digest an entry.

    Args:
        entry_leaves: Its leaves; tensors on an accelerator are copied to the host, which waits for them.

    Returns:
        The digest.
    """
    contents = []
    layout = []
    for leaf in entry_leaves:
        tensor, size = leaf
        layout.append((tuple(tensor.shape), tensor.dtype, tensor.device, size))
        region = valid(leaf)
        if not region.is_cpu:
            region = region.cpu()
        if not region.is_contiguous():
            region = region.contiguous()
        if region.dtype == torch.bfloat16:  # NumPy has no such type; only the bytes matter
            region = region.view(torch.int16)
        contents.append(hash(region.numpy()))
    return Digest(tuple(contents), tuple(layout))


def digest_entry(entry: Any) -> Digest:
    """Digest an entry of any kind; a lent one stays as it is.

    Raises:
        AttributeError: If it is no entry.
    """
    plain = region(entry)
    return digest(leaves(readable(entry))) if plain is None else digest_region(plain)


def digest_region(plain: Region) -> Digest:
    """Digest a plain entry where it lies."""
    runs, described = plain.layout.at(plain.size)
    found: Digest = make(Digest, (hashes(plain.addresses, *runs), described))
    return found

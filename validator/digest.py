"""Order-sensitive digests of what an entry holds: one 64-bit hash (xxh3) per key and value tensor, valid region only.

Norms and XOR sums are blind to permuted tokens and swapped heads. Structure is part of the digest: the same bytes in
another shape, dtype or length are another entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from xxhash import xxh3_64_intdigest

from shadow.entry import Leaf, leaves, readable, region
from shadow.memory import Region
from shadow.operation import make
from shadow.plain import pack
from validator.compare import valid


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
        # Hashes that are still on their way are not waited for.
        held = contents if type(contents) is tuple else [size and 0 not in shape for shape, _, _, size in self.layout]
        return len(contents) // 2 if all(held) else 0


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
        array: Any = region.numpy()  # xxhash takes any contiguous buffer; its stubs are too narrow
        contents.append(xxh3_64_intdigest(array) if region.numel() else 0)
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
    layout, size = plain.layout, plain.size
    runs, described = layout.at(size)
    contents = tuple(map(xxh3_64_intdigest, pack(plain.addresses, *runs))) if size else (0,) * layout.n_leaves
    found: Digest = make(Digest, (contents, described))
    return found

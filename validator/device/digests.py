"""Digests entries where they lie: in host memory at once, on a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

from shadow.memory.buffers import Leaf
from validator.device.fingerprint import layout_of, regular
from validator.device.queue import DeferredQueue
from validator.entries import digest as host
from validator.entries.digest import Digest


class DeviceDigests:
    """Digests the entries of one pair.

    Args:
        queue: Where what a device computes is waited for.
        deferred: ``auto`` for entries on a CUDA device, ``always``, or ``never``; as ``ValidationConfig`` has it.
    """

    def __init__(self, queue: DeferredQueue, deferred: str) -> None:
        self._queue = queue
        self._never = deferred == "never"
        self._everywhere = deferred == "always"

    def __call__(self, entry: Sequence[Leaf]) -> Digest:
        """Digest an entry; whoever reads the hashes of one on a device waits for them."""
        if self._never or not entry or not (self._everywhere or entry[0].tensor.is_cuda) or not regular(entry):
            return host.digest(entry)
        (hashes,) = self._queue.hashes([entry])
        return Digest(hashes, layout_of(entry), None)

"""Results of kernels that nobody waits for: snapshots gather on the device, and what they come to is read in batches.

An operation launches one kernel: it copies what is to be looked at, on the stream that is current then, so nothing
written later can be seen. A batch of copies is hashed and compared together, a few kernels for all, its numbers are
brought to the host behind them on the same stream, and the copies are let go: launching is what costs, not copying. On
a processor the same queue runs with an event that says "not yet" once, so that its tests see the order of things that
an accelerator has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from shadow.memory.buffers import Leaf, stream_of
from shadow.memory.regions import Region, of_leaves, together
from shadow.operation import make
from validator.device import fingerprint
from validator.device.results import ROOM, Batch, Check, Compared, Hashes, HostEvent, R, Result, Structure
from validator.entries.digest import Digest, digest

_MOST_CHECKS = 512  # of one batch, so that a difference is at most so many looks old
_MOST_NBYTES = 1 << 24  # of the copies of one batch
_MOST_STRUCTURES = 1024
_AT_ONCE = {"cpu": 1 << 21}  # bytes hashed together: of more, what that takes is asked of the system each time


class DeferredQueue:
    """Looks under way, of one shadowed pair.

    Args:
        deferred: ``auto`` for entries on a CUDA device, ``always``, or ``never``; as ``ValidationConfig`` has it.
    """

    def __init__(self, deferred: str = "auto") -> None:
        self._never = deferred == "never"
        self._everywhere = deferred == "always"
        self._structures: dict[Any, Structure] = {}
        self.abandon()
        self.batches = 0  # brought to the host so far

    def abandon(self) -> None:
        """Let go of everything under way, as after a failure of the device: nobody will be told what came of it."""
        self._open: dict[Any, Batch] = {}  # by device and stream
        self._flying: deque[tuple[Any, Batch]] = deque()
        self._idle: dict[Any, list[Batch]] = {}
        self._due: deque[Check] = deque()
        self._weights: dict[Any, Tensor] = {}
        self._running = False
        self._streams: dict[Any, Any] = {}
        self._last: Any = None  # device and stream that were used last
        self._latest: Batch | None = None  # what was open there

    # -- what an operation launches -----------------------------------------------------------------------------------

    def digest(self, entry: Sequence[Leaf]) -> Digest:
        """Digest an entry where it lies; whoever reads the hashes of one on a device waits for them."""
        late = entry and (self._everywhere or entry[0].tensor.is_cuda)
        found = of_leaves(entry, anywhere=True) if late else None
        return (found and self.digest_region(found)) or digest(entry)

    def digest_region(self, found: Region) -> Digest | None:
        """Digest a regular entry if it lies on a device whose entries are looked at late."""
        if self._never or not (self._everywhere or found.layout.device.type == "cuda"):
            return None
        hashes = self._launched((found,), 1, True, Hashes)[0]
        digested: Digest = make(Digest, (hashes, found.layout.at(found.size)[1], None, None))
        return digested

    def hashes(self, entries: Sequence[Region]) -> list[Hashes]:
        """Hash regular entries of one structure; one result per entry, one hash per leaf."""
        layout = entries[0].layout
        step = max(1, min(_MOST_NBYTES // max(1, layout.nbytes), ROOM // layout.n_leaves))
        parts = [entries[start : start + step] for start in range(0, len(entries), step)]
        return [result for some in parts for result in self._launched(some, 1, True, Hashes)]

    def compare(self, one: Region, other: Region, hashed: bool) -> Compared:
        """Count per leaf how many numbers of two regular entries of one structure differ, and perhaps hash both."""
        return self._launched((one, other), 2, hashed, Compared)[0]

    # -- what comes back ----------------------------------------------------------------------------------------------

    def when_known(self, check: Check, *results: Result) -> None:
        """Run a check once all these are here; later results of the same stream are not waited for."""
        for result in reversed(results):
            if result.batch is not None:
                result.batch.checks.append(check)
                return
        self._due.append(check)

    def when_shipped(self, check: Check, device: torch.device) -> None:
        """Run a check once everything that was launched on this device's current stream is done."""
        self._batch(device).checks.append(check)

    @property
    def pending(self) -> bool:
        """Whether anything is under way."""
        return bool(self._flying or self._due) or any(batch.used or batch.checks for batch in self._open.values())

    def ship(self) -> None:
        """Send what has gathered on its way to the host; returns at once."""
        self._latest = None
        for place, batch in list(self._open.items()):
            if not (batch.used or batch.checks):
                continue
            del self._open[place]
            self._send(place, batch)

    def poll(self) -> None:
        """Look at what has come back; returns at once."""
        while self._flying and self._flying[0][1].event.query():
            self._arrived()
        if self._due:
            self._run_due()

    def flush(self) -> None:
        """Wait until everything has come back and was looked at."""
        while self.pending and not self._running:
            self.ship()
            while self._flying:
                self._await_first()
            self._run_due()

    def bring(self, batch: Batch) -> None:
        """Wait for one batch; its checks are run later."""
        if batch.event is None:
            self.ship()
        while any(batch is each for _, each in self._flying):
            self._await_first()

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _launched(self, entries: Sequence[Region], each: int, hashed: bool, kind: type[R]) -> list[R]:
        """Copy entries of one structure into a batch; return what will come of every ``each`` of them."""
        layout = entries[0].layout
        key = layout, entries[0].size, each, hashed
        structure = self._structures.get(key)
        if structure is None:
            if len(self._structures) >= _MOST_STRUCTURES:  # a host of ever new shapes must not pile them up
                self._structures.clear()
            structure = self._structures[key] = Structure(*key)
        units = len(entries) // each
        count = units * structure.numbers
        batch = self._batch(layout.device, count)
        looks = batch.looks.get(structure)
        if looks is None:
            looks = batch.looks[structure] = ([], [])
        copies, results = looks
        copied = entries[0].copied if len(entries) == 1 else None
        copies.append(together(entries) if copied is None else copied)
        batch.used += count
        batch.nbytes += len(entries) * layout.nbytes
        made = [*map(kind, repeat(batch, units), repeat(structure))]
        results.extend(made)
        return made

    def _batch(self, device: torch.device, count: int = 0) -> Batch:
        """Return the batch of the stream that is current on a device, with room for so many numbers more."""
        place = device, stream_of(device)
        batch = self._latest
        if batch is None or self._last != place:
            batch = self._latest = self._opened(place)
        if (
            (batch.used and batch.used + count > ROOM)
            or batch.nbytes > _MOST_NBYTES
            or len(batch.checks) >= _MOST_CHECKS
        ):
            self.ship()
            batch = self._latest = self._opened(place)
        return batch

    def _opened(self, place: tuple[torch.device, int]) -> Batch:
        last, self._last = self._last, place
        device = place[0]
        if last != place and device.type == "cuda":
            stream = self._streams[place] = torch.cuda.current_stream(device)
            if last is not None and last[0] == device:
                # Looks at what was stored long ago read memory that the other stream wrote.
                stream.wait_stream(self._streams[last])
        batch = self._open.get(place)
        if batch is None:
            idle = self._idle.get(place)
            batch = self._open[place] = idle.pop() if idle else Batch(device, self.bring)
        return batch

    def _weights_for(self, place: Any, count: int) -> Tensor:
        known = self._weights.get(place)
        if known is None or known.numel() < count:
            known = self._weights[place] = fingerprint.make_weights(1 << max(0, count - 1).bit_length(), place[0])
        return known

    def _send(self, place: Any, batch: Batch) -> None:
        stream = self._streams.get(place)
        with nullcontext() if stream is None else torch.cuda.stream(stream), torch.no_grad():
            self._launch(place, batch)
            batch.host[: batch.used].copy_(batch.numbers[: batch.used], non_blocking=True)
            if stream is None:
                batch.event = HostEvent()
            else:
                batch.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                batch.event.record(stream)
        self._flying.append((place, batch))

    def _launch(self, place: Any, batch: Batch) -> None:
        """Hash and compare the copies of a batch and let them go."""
        used = 0
        most = _AT_ONCE.get(place[0].type, _MOST_NBYTES)
        for structure, (copies, _) in batch.looks.items():
            layout, each = structure.layout, structure.each
            words = layout.leaf_nbytes // min(4, layout.dtype.itemsize)
            weights = self._weights_for(place, words) if structure.hashed else None
            step = max(1, most // max(1, each * layout.nbytes))
            for start in range(0, len(copies), step):
                rows = torch.cat(copies[start : start + step])
                units = rows.shape[0] // (each * layout.n_leaves)
                entries = rows.view(units, each, layout.n_leaves, *rows.shape[1:])[:, :, :, :, :, : structure.size]
                out = batch.numbers[used : used + units * structure.numbers].view(units, structure.numbers)
                fingerprint.look(entries, weights, out)
                used += units * structure.numbers
            copies.clear()

    def _await_first(self) -> None:
        self._flying[0][1].event.synchronize()
        self._arrived()

    def _arrived(self) -> None:
        place, batch = self._flying.popleft()
        batch.arrived()
        self._due.extend(batch.checks)
        batch.begin()
        self._idle.setdefault(place, []).append(batch)
        self.batches += 1

    def _run_due(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._due:
                check, *given = self._due.popleft()
                check(*given)
        finally:
            self._running = False

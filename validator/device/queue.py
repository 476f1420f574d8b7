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
from typing import Any

import torch
from torch import Tensor

from shadow.memory.buffers import Leaf
from validator.device import fingerprint
from validator.device.results import ROOM, Batch, Check, Group, Hashes, HostEvent, Result
from validator.entries.digest import Digest, digest

_MOST_CHECKS = 512  # of one batch, so that a difference is at most so many looks old
_MOST_NBYTES = 1 << 24  # of the copies of one batch; hashing takes two to four times as much for a moment


class DeferredQueue:
    """Looks under way, of one shadowed pair.

    Args:
        deferred: ``auto`` for entries on a CUDA device, ``always``, or ``never``; as ``ValidationConfig`` has it.
    """

    def __init__(self, deferred: str = "auto") -> None:
        self._never = deferred == "never"
        self._everywhere = deferred == "always"
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

    # -- what an operation launches -----------------------------------------------------------------------------------

    def digest(self, entry: Sequence[Leaf]) -> Digest:
        """Digest an entry where it lies; whoever reads the hashes of one on a device waits for them."""
        on_device = entry and (self._everywhere or entry[0].tensor.is_cuda) and not self._never
        if not (on_device and fingerprint.regular(entry)):
            return digest(entry)
        (hashes,) = self.hashes([entry])
        return Digest(hashes, fingerprint.layout_of(entry), None)

    def hashes(self, entries: Sequence[Sequence[Leaf]]) -> list[Result]:
        """Hash regular entries of one structure; one result per entry, one hash per leaf."""
        n = len(entries[0])
        each = max(1, entries[0][0].tensor.nbytes * n)
        step = max(1, min(_MOST_NBYTES // each, ROOM // n))
        found: list[Result] = []
        for start in range(0, len(entries), step):
            batch, group, copy = self._copied(entries[start : start + step], n)
            group.singles.append(copy)
            results = self._hashes_of(copy, batch)
            group.of_singles += results
            found += results
        return found

    def compare(self, one: Sequence[Leaf], other: Sequence[Leaf], hashed: bool) -> tuple[Result, list[Result]]:
        """Count per leaf how many numbers of two regular entries of one structure differ, and perhaps hash both."""
        n = len(one)
        batch, group, both = self._copied((one, other), (3 * n + 1) // 2, hashed)
        counts = Result(self.bring, batch, n)
        group.pairs.append(both)
        group.counts.append(counts)
        hashes = self._hashes_of(both, batch) if hashed else []
        group.of_pairs += hashes
        return counts, hashes

    # -- what comes back ----------------------------------------------------------------------------------------------

    def when_known(self, check: Check, *results: Sequence[int]) -> None:
        """Run a check once all these are here; later results of the same stream are not waited for."""
        batch = next((r.batch for r in reversed(results) if isinstance(r, Result) and r.batch is not None), None)
        if batch is None:
            self._due.append(check)
            return
        self._add(batch, check)

    def when_shipped(self, check: Check, device: torch.device) -> None:
        """Run a check once everything that was launched on this device's current stream is done."""
        self._add(self._batch(device), check)

    @property
    def pending(self) -> bool:
        """Whether anything is under way."""
        return bool(self._flying or self._due) or any(batch.used or batch.checks for batch in self._open.values())

    def ship(self) -> None:
        """Send what has gathered on its way to the host; returns at once."""
        for place, batch in list(self._open.items()):
            if not (batch.used or batch.checks):
                continue
            del self._open[place]
            self._send(place, batch)

    def poll(self) -> None:
        """Look at what has come back; returns at once."""
        while self._flying and self._flying[0][1].event.query():
            self._arrived()
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

    def _add(self, batch: Batch, check: Check) -> None:
        batch.checks.append(check)
        if batch.event is None and len(batch.checks) >= _MOST_CHECKS:
            self.ship()

    def _copied(
        self, entries: Sequence[Sequence[Leaf]], numbers_each: int, hashed: bool = True
    ) -> tuple[Batch, Group, Tensor]:
        """Copy entries of one structure, and return the copy with the batch and group in which it belongs."""
        (tensor, size), n = entries[0][0], len(entries[0])
        batch = self._batch(tensor.device)
        count = len(entries) * numbers_each
        if batch.used and (batch.used + count > ROOM or batch.nbytes > _MOST_NBYTES):
            self.ship()
            batch = self._batch(tensor.device)
        copy = torch.stack([fingerprint.together(entry) for entry in entries])
        batch.used += count
        batch.nbytes += copy.nbytes
        structure = (n, tensor.shape, tensor.dtype, size, hashed)
        return batch, batch.groups[structure], copy

    def _hashes_of(self, copy: Tensor, batch: Batch) -> list[Result]:
        kind = Hashes if copy.numel() else Result
        return [kind(self.bring, batch, copy.shape[1]) for _ in range(len(copy))]

    def _place(self, device: torch.device) -> Any:
        if device.type != "cuda":
            return device, 0
        stream = torch.cuda.current_stream(device)
        place = device, stream.cuda_stream
        last, self._last = self._last, place
        if last != place:
            self._streams[place] = stream
            if last is not None and last[0] == device:
                # Looks at what was stored long ago read memory that the other stream wrote.
                stream.wait_stream(self._streams[last])
        return place

    def _batch(self, device: torch.device) -> Batch:
        place = self._place(device)
        batch = self._open.get(place)
        if batch is None:
            idle = self._idle.get(place)
            batch = self._open[place] = idle.pop() if idle else Batch(device)
        return batch

    def _weights_for(self, place: Any, count: int) -> Tensor:
        known = self._weights.get(place)
        if known is None or known.numel() < count:
            known = self._weights[place] = fingerprint.make_weights(1 << max(0, count - 1).bit_length(), place[0])
        return known

    def _send(self, place: Any, batch: Batch) -> None:
        stream = self._streams.get(place)
        with nullcontext() if stream is None else torch.cuda.stream(stream), torch.no_grad():
            batch.used = used = self._launch(place, batch)
            batch.host[:used].copy_(batch.numbers[:used], non_blocking=True)
            if stream is None:
                batch.event = HostEvent()
            else:
                batch.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                batch.event.record(stream)
        self._flying.append((place, batch))

    def _launch(self, place: Any, batch: Batch) -> int:
        """Hash and compare the copies of a batch and let them go; return how many numbers that makes."""
        used = 0

        def room(results: list[Result]) -> Tensor:
            nonlocal used
            start = used
            for result in results:
                result.lie_at(used)
                used += len(result)
            return batch.numbers[start:used].view(len(results), -1)

        for group in batch.groups.values():
            rows = torch.cat(group.pairs + group.singles)
            hashes = group.of_pairs + group.of_singles
            if hashes:
                numbers = fingerprint.words(rows)
                weights = self._weights_for(place, numbers[0, 0].numel())
                fingerprint.fingerprints(numbers, weights, room(hashes))
            if group.pairs:
                both = rows[: 2 * len(group.pairs)]
                fingerprint.mismatches(both[::2], both[1::2], room(group.counts))
            group.pairs.clear()
            group.singles.clear()
        return used

    def _await_first(self) -> None:
        self._flying[0][1].event.synchronize()
        self._arrived()

    def _arrived(self) -> None:
        place, batch = self._flying.popleft()
        numbers = batch.host[: batch.used].tolist()
        for group in batch.groups.values():
            for result in (*group.of_pairs, *group.of_singles, *group.counts):
                result.arrive(numbers)
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
                self._due.popleft()()
        finally:
            self._running = False

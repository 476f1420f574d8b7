"""Looks at entries whose results come back later: comparisons, digests and times of one pair on an accelerator.

An operation launches its kernels and goes on. When the numbers arrive, the lookup is counted, and a difference is
charged to the operation that showed it, with what can still be said: hashes of both answers name what was stored
elsewhere or before, and an entry that still lies there is read. From the first difference on the pair compares at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from reports.record.records import Cause, Dimension, Fault, LeafDifference
from shadow.entry import leaves
from shadow.lent import readable
from shadow.memory.buffers import Leaf
from shadow.operation import Observation, Pool
from shadow.wrapper.clock import DeviceTime
from validator.device.fingerprint import layout_of, like, regular
from validator.device.queue import DeferredQueue
from validator.device.results import Check, Result
from validator.entries import digest as host
from validator.entries.digest import Digest
from validator.judge.counters import BATCH, DIFFER, EQUAL
from validator.judge.ledger import Charge, Place
from validator.judge.repair import settle
from validator.judge.side import SideView, entry_leaves, storages
from validator.judge.values import Finding, remembered, wrong_value
from validator.models.side_model import Stored

if TYPE_CHECKING:
    from validator.observe.pair import Pair, Sink

_AT_ONCE = 8  # first audited entries of a side that are waited for: they show whether its peek may be believed
_TOLD = "the result came from the device after the operation, and its tensors are gone"
_NEVER = "answers values that were never stored"


class LateLooks:
    """Late looks of one pair, which tells it what to look at, and when to wait.

    Args:
        pair: The pair; its sides digest through this from here on.
        sink: Told when late looks end.
        everywhere: Whether entries in host memory are treated as if they lay on a device.
    """

    def __init__(self, pair: Pair, sink: Sink, everywhere: bool = False) -> None:
        self._pair = pair
        self._sink = sink
        self._everywhere = everywhere
        self._queue = DeferredQueue()
        self._lookups = 0  # launched and not yet counted
        self._at_once = {"control": _AT_ONCE, "candidate": _AT_ONCE}
        # A store that is lossy by design needs the tensors themselves, so there nothing is late but the digests.
        self.active = pair.referee.tolerance is None
        for side in (pair.control, pair.candidate):
            side.digest = self.digest

    def digest(self, entry: Sequence[Leaf]) -> Digest:
        """Digest an entry: on its device where it lies on one, and then whoever reads the hashes waits for them."""
        if not self._takes(entry):
            return host.digest(entry)
        (hashes,) = self._queue.hashes([entry])
        return Digest(hashes, layout_of(entry), None)

    # -- what an operation launches -----------------------------------------------------------------------------------

    def lookup(self, seen: Observation, stored: Stored) -> bool:
        """Take over a lookup that both sides answered, and say so; False if it must be judged at once."""
        if not self.active or stored.key != seen.key or not isinstance(stored.digest.contents, Result):
            return False
        try:
            mine, theirs = leaves(readable(seen.control)), leaves(readable(seen.candidate))
            if not (like(mine, stored.digest.layout) and like(theirs, stored.digest.layout)):
                return False
        except (AttributeError, TypeError):
            return False
        counts, found = self._queue.compare(mine, theirs, self._pair.lookups.looks_at_digest())
        place = Place.of(seen)
        self._lookups += 1
        self._when(partial(self._looked_up, place, stored, counts, found), counts, *found)
        self._pair.ledger.recent.append((seen.op_index, seen.operation.name, seen.env_id, seen.key, "both_hit"))
        self._queue.poll()
        return True

    def arrived(self, side: SideView, stored: Stored, given: list[Leaf] | None, held: list[Leaf] | None) -> bool:
        """Take over the look at a set that arrived; False if it must be looked at right now."""
        if not (self.active and isinstance(stored.digest.contents, Result) and given is not None and held is not None):
            return False
        layout = stored.digest.layout
        if not (like(given, layout) and like(held, layout)) or storages(given) & storages(held):
            return False
        hashes = self._queue.hashes([given, held])
        self._when(partial(self._looked_at_set, side, stored, *hashes), *hashes)
        return True

    def examine(self, side: SideView, live: Iterable[Stored]) -> list[Stored]:
        """Launch the audit of some entries of one side, and return those that must be looked at right now."""
        if not self.active:
            return list(live)
        at_once: list[Stored] = []
        together: dict[Any, list[tuple[Stored, list[Leaf]]]] = {}
        for stored in live:
            if self._pair.ledger.parted(side.name, stored.pool, stored.env_id, stored.key):
                continue
            entry = None
            if isinstance(stored.digest.contents, Result):
                if self._at_once[side.name] > 0:
                    self._at_once[side.name] -= 1
                else:
                    entry = side.read(stored.pool, stored.env_id, stored.key)
            found = None if entry is None else entry_leaves(entry)
            if found is None or not like(found, stored.digest.layout):
                at_once.append(stored)
            else:
                together.setdefault(stored.digest.layout, []).append((stored, found))
        for items in together.values():
            self._pair.counters.coverage["entries_audited"] += len(items)
            for (stored, _), hashes in zip(items, self._queue.hashes([found for _, found in items]), strict=True):
                self._when(partial(self._audited, side, stored, hashes, "audit"), hashes)
        return at_once

    def holds(self, entry: list[Leaf], before: Digest, changed: Check) -> bool:
        """Launch a look whether an entry still holds what it did; False if it must be looked at right now."""
        if not (self.active and isinstance(before.contents, Result) and like(entry, before.layout)):
            return False
        (hashes,) = self._queue.hashes([entry])
        self._when(lambda: None if hashes == before.contents else changed(), hashes)
        return True

    def timed(self, operation: str, control_ns: int, candidate_ns: int) -> bool:
        """Take over two times if they were taken on a device."""
        if not (isinstance(control_ns, DeviceTime) and isinstance(candidate_ns, DeviceTime)):
            return False
        self._queue.when_shipped(
            partial(self._contained, partial(self._count_times, operation, control_ns, candidate_ns)), control_ns.device
        )
        return True

    # -- when to wait -------------------------------------------------------------------------------------------------

    def ship(self) -> None:
        """Send what has gathered on its way, and look at what is back; waits for nothing."""
        self._queue.ship()
        self._queue.poll()

    def flush(self) -> None:
        """Wait for everything under way. What can't be had is said: such a run can't pass."""
        try:
            self._queue.flush()
        except Exception as error:  # a device that failed fails from here on
            self._pair.harness_failed("flush", error)
            self._queue = DeferredQueue()
            self.active = False
        if not self._queue.pending and self._lookups:
            self._pair.counters.dropped["lookups never compared"] += self._lookups
            self._lookups = 0

    # -- what comes back ----------------------------------------------------------------------------------------------

    def _looked_up(self, place: Place, stored: Stored, counts: Result, found: list[Result]) -> None:
        pair = self._pair
        self._lookups -= 1
        differ = any(counts)
        outcome = DIFFER if differ else EQUAL
        pair.counters.lookups[place.pool][outcome] += 1
        pair.counters.coverage["lookups compared late"] += 1
        sides = (pair.control, pair.candidate)
        findings = [
            None if hashes == stored.digest.contents else self._finding(side, place.pool, place.env_id, stored, hashes)
            for side, hashes in zip(sides, found, strict=False)
        ] or [None, None]
        if not differ and findings == [None, None]:
            return
        place = place._replace(outcome=outcome)
        charges = pair.referee.charges(findings, _differences(stored, counts)) or [
            Charge(
                Dimension.VALUE,
                Cause.UNKNOWN,
                Fault.UNKNOWN,
                f"Both sides answered this lookup and their answers differ; {_TOLD}.",
                _differences(stored, counts),
            )
        ]
        for charge in charges:
            if pair.ledger.repeats(charge, place):
                continue
            pair.charge(charge, place)
            for side, other in (sides, sides[::-1]):
                if charge.fault in (Fault(side.name), Fault.BOTH) and side.holds(stored):
                    at = stored.pool, stored.env_id, stored.key
                    settle(pair.ledger, side, other, pair.primary.name, *at, stored, charge)
            self._escalate(place.op_index)

    def _looked_at_set(self, side: SideView, stored: Stored, given: Result, held: Result) -> None:
        if given != stored.digest.contents:
            text = f"changed the entry it was given to store at operation {stored.op_index}"
            finding = Finding(Dimension.ISOLATION, Cause.INPUT_EDITED, text)
            self._pair.auditor.charge(side, stored, finding, f"set.{stored.pool}")
            self._escalate(stored.op_index)
        else:
            self._audited(side, stored, held, f"set.{stored.pool}")

    def _audited(self, side: SideView, stored: Stored, hashes: Result, operation: str) -> None:
        pair, contents = self._pair, stored.digest.contents
        if hashes == contents or pair.ledger.parted(side.name, stored.pool, stored.env_id, stored.key):
            return
        live = side.holds(stored)
        finding = pair.auditor.examine(side, stored) if live else None
        if live and finding is None:
            return  # mended by now, or its peek shows something else than it answers
        finding = finding or self._finding(side, stored.pool, stored.env_id, stored, hashes)
        pair.auditor.charge_and_settle(side, stored, finding, operation, gone=not live)
        self._escalate(stored.op_index)

    def _finding(self, side: SideView, asked: Pool, env_id: int | None, stored: Stored, hashes: Result) -> Finding:
        """Name a wrong value by its hashes, and by its tensors where the side still holds them."""
        found = Digest(hashes, stored.digest.layout, None)
        held = side.read(stored.pool, stored.env_id, stored.key) if side.holds(stored) else None
        now = None if held is None else entry_leaves(held)
        if now is not None and side.digest(now) == found:
            if self._pair.referee.lives_in_input(side, now):
                text = "stored a reference to its input instead of a copy, and the input changed since"
                return Finding(Dimension.ISOLATION, Cause.ALIASED_ON_SET, text)
            return wrong_value(side, asked, env_id, stored, now, self._pair.referee.truth(stored))
        text = f"{_NEVER}; {_TOLD}"
        return remembered(side, asked, env_id, stored, found) or Finding(Dimension.VALUE, Cause.UNKNOWN, text)

    def _count_times(self, operation: str, control: DeviceTime, candidate: DeviceTime) -> None:
        times = self._pair.counters.times[operation]
        times += (control.on_device_ns(), candidate.on_device_ns())
        if len(times) >= BATCH:
            self._pair.counters.sort_in(operation)

    def _escalate(self, op_index: int) -> None:
        """Compare at once from here on: what happens again is then seen with all its evidence."""
        if not self.active:
            return
        self.active = False
        self._sink.event(
            "deferred_comparison_ended",
            f"{self._pair.name}: a difference of operation {op_index} was found late; every lookup is compared at "
            "once from here on, with its tensors as evidence",
        )

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _takes(self, entry: Sequence[Leaf]) -> bool:
        return regular(entry) and (self._everywhere or entry[0].tensor.is_cuda)

    def _when(self, check: Check, *results: Result) -> None:
        self._queue.when_known(partial(self._contained, check), *results)

    def _contained(self, check: Check) -> None:
        try:
            check()
        except Exception as error:
            self._pair.harness_failed("late look", error)


def _differences(stored: Stored, counts: Result) -> tuple[LeafDifference, ...]:
    """Turn counts per leaf into records; distances are not to be had any more."""
    found = []
    for index, (count, (shape, dtype, device, size)) in enumerate(zip(counts, stored.digest.layout, strict=True)):
        if count:
            text = f"{str(dtype).removeprefix('torch.')} {shape} on {device}, {size} valid"
            batch, heads, _, head_dim = shape
            n = batch * heads * size * head_dim
            found.append(LeafDifference(index // 2, "KV"[index % 2], "bits", text, text, n, count))
    return tuple(found)

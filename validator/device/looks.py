"""Looks at entries whose results come back later: comparisons, digests and times of one pair on an accelerator.

An operation launches its kernels and goes on. When the numbers arrive, the lookup is counted, and a difference is
charged to the operation that showed it, with what can still be said: hashes of both answers name what was stored
elsewhere or before, and an entry that still lies there is read. From the first difference on the pair compares at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from reports.record.records import LeafDifference
from reports.record.words import Fault
from shadow.entry import leaves
from shadow.lent import readable
from shadow.memory.buffers import Leaf
from shadow.operation import Observation, Pool
from shadow.wrapper.clock import DeviceTime
from validator.device.fingerprint import like
from validator.device.queue import DeferredQueue
from validator.device.results import Check, Result
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves, overlap
from validator.judge import words
from validator.judge.charge import Finding, Place, of_nobody
from validator.judge.counters import DIFFER, EQUAL
from validator.judge.examination import Examination
from validator.judge.keyed import KeyedCase
from validator.judge.side_view import SideView
from validator.judge.values import remembered
from validator.models.stored import Stored

_AT_ONCE = 8  # first audited entries of a side that are waited for: they show whether its peek may be believed


class DeviceLooks:
    """Looks of one pair at what lies on a device; idle until the first entry on one is stored.

    Args:
        case: The pair.
        examination: Examines what still lies there.
        queue: Where results are waited for; the pair's digests go through it as well.

    Attributes:
        begun: Whether an entry on a device was stored.
        active: Whether results are waited for later; from the first difference on everything is looked at at once.
    """

    def __init__(self, case: KeyedCase, examination: Examination, queue: DeferredQueue) -> None:
        self._case = case
        self._examination = examination
        self._queue = queue
        self._lookups = 0  # launched and not yet counted
        self._at_once = {"control": _AT_ONCE, "candidate": _AT_ONCE}
        self.begun = self.active = False

    @property
    def under_way(self) -> bool:
        """Whether something is launched whose result is not here yet."""
        return bool(self._lookups or self._queue.pending)

    def begin(self) -> None:
        """Learn that an entry was stored whose hashes come from a device."""
        if not self.begun:
            self.begun = True
            # A store that is lossy by design needs the tensors themselves, so there nothing is late but the digests.
            self.active = self._case.referee.tolerance is None

    # -- what an operation launches -----------------------------------------------------------------------------------

    def lookup(self, seen: Observation, stored: Stored, hashed: bool) -> bool:
        """Take over a lookup that both sides answered, and say so; False if it must be judged at once.

        Args:
            seen: The lookup.
            stored: What was looked up.
            hashed: Whether both answers are also held against what was stored.
        """
        if not self.active or stored.key != seen.key or not isinstance(stored.digest.contents, Result):
            return False
        try:
            mine, theirs = leaves(readable(seen.control)), leaves(readable(seen.candidate))
            if not (like(mine, stored.digest.layout) and like(theirs, stored.digest.layout)):
                return False
        except (AttributeError, TypeError):
            return False
        counts, found = self._queue.compare(mine, theirs, hashed)
        place = Place.of(seen)
        self._lookups += 1
        self._when(partial(self._looked_up, place, stored, counts, found), counts, *found)
        self._case.ledger.recent.append((seen.op_index, seen.operation.name, seen.env_id, seen.key, "both_hit"))
        self._queue.poll()
        return True

    def arrived(self, side: SideView, stored: Stored, given: Any, held: Any) -> bool:
        """Take over the look at a set that arrived; False if it must be looked at right now."""
        if not (self.active and isinstance(stored.digest.contents, Result)):
            return False
        mine, theirs, layout = entry_leaves(given), entry_leaves(held), stored.digest.layout
        if mine is None or theirs is None or not (like(mine, layout) and like(theirs, layout)):
            return False
        if overlap(mine, theirs):
            return False
        hashes = self._queue.hashes([mine, theirs])
        self._when(partial(self._looked_at_set, side, stored, *hashes), *hashes)
        return True

    def examine(self, side: SideView, live: Iterable[Stored]) -> Iterable[Stored]:
        """Launch the audit of some entries of one side, and return those that must be looked at right now."""
        if not self.active:
            return live
        at_once: list[Stored] = []
        together: dict[Any, list[tuple[Stored, list[Leaf]]]] = {}
        for stored in live:
            if self._case.ledger.apart(side.name, stored.pool, stored.env_id, stored.key):
                continue
            found = None
            if isinstance(stored.digest.contents, Result):
                if self._at_once[side.name] > 0:
                    self._at_once[side.name] -= 1
                else:
                    found = side.held(stored)
            if found is None or not like(found, stored.digest.layout):
                at_once.append(stored)
            else:
                together.setdefault(stored.digest.layout, []).append((stored, found))
        for items in together.values():
            self._case.counters.coverage["entries_audited"] += len(items)
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
        if self.begun:
            self._queue.ship()
            self._queue.poll()

    def flush(self) -> None:
        """Wait for everything under way. What can't be had is said: such a run can't pass."""
        try:
            self._queue.flush()
        except Exception as error:  # a device that failed fails from here on
            self._case.harness_failed("wait for the device", error)
            self._queue.abandon()
            self.active = False
        if not self._queue.pending and self._lookups:
            self._case.counters.dropped["lookups never compared"] += self._lookups
            self._lookups = 0

    # -- what comes back ----------------------------------------------------------------------------------------------

    def _looked_up(self, place: Place, stored: Stored, counts: Result, found: list[Result]) -> None:
        case = self._case
        self._lookups -= 1
        differ = any(counts)
        outcome = DIFFER if differ else EQUAL
        case.counters.lookups[place.pool][outcome] += 1
        case.counters.coverage["lookups compared late"] += 1
        findings = [
            None if hashes == stored.digest.contents else self._finding(side, place.pool, place.env_id, stored, hashes)
            for side, hashes in zip(case.sides, found, strict=False)
        ] or [None, None]
        if not differ and findings == [None, None]:
            return
        place = place._replace(outcome=outcome)
        differences = _differences(stored, counts)
        nobody = of_nobody(words.ANSWERS_DIFFER)
        nobody = nobody._replace(finding=nobody.finding._replace(note=words.TENSORS_GONE), leaves=differences)
        for found_wrong in case.referee.charges(findings, differences) or [nobody]:
            charge = self._examination.custody.doubted(found_wrong, stored)
            if case.ledger.repeats(charge, place):
                continue
            case.charge(charge, place)
            for side in case.sides:
                if charge.fault in (side.fault, Fault.BOTH) and side.holds(stored):
                    case.repair(side, charge, stored.pool, stored.env_id, stored.key, stored)
            self._escalate(place.op_index)

    def _looked_at_set(self, side: SideView, stored: Stored, given: Result, held: Result) -> None:
        if given != stored.digest.contents:
            finding = Finding(words.INPUT_EDITED, {"op": stored.op_index})
            self._examination.charge(side, stored, finding, f"set.{stored.pool}")
            self._escalate(stored.op_index)
        else:
            self._audited(side, stored, held, f"set.{stored.pool}")

    def _audited(self, side: SideView, stored: Stored, hashes: Result, operation: str) -> None:
        contents = stored.digest.contents
        if hashes == contents or self._case.ledger.apart(side.name, stored.pool, stored.env_id, stored.key):
            return
        live = side.holds(stored)
        finding = self._examination.of_live(side, stored) if live else None
        if live and finding is None:
            return  # mended by now, or its peek shows something else than it answers
        finding = finding or self._finding(side, stored.pool, stored.env_id, stored, hashes)
        if live:
            self._examination.charge_and_repair(side, stored, finding, operation)
        else:
            self._examination.charge(side, stored, finding, operation)
        self._escalate(stored.op_index)

    def _finding(self, side: SideView, asked: Pool, env_id: int | None, stored: Stored, hashes: Result) -> Finding:
        """Name a wrong value by its hashes, and by its tensors where the side still holds them."""
        referee = self._case.referee
        found = Digest(hashes, stored.digest.layout, None)
        now = side.held(stored) if side.holds(stored) else None
        if now is not None and side.digest(now) == found:
            held = side.read(stored.pool, stored.env_id, stored.key)
            changed = referee.changed_input(side, stored, held, now)
            return changed or referee.wrong_value(side, asked, env_id, stored, now, referee.truth(stored))
        unknown = Finding(words.NEVER_STORED, note=words.TENSORS_GONE)
        return remembered(side, asked, env_id, stored, found) or unknown

    def _count_times(self, operation: str, control: DeviceTime, candidate: DeviceTime) -> None:
        self._case.counters.times[operation] += (control.on_device_ns(), candidate.on_device_ns())

    def _escalate(self, op_index: int) -> None:
        """Compare at once from here on: what happens again is then seen with all its evidence."""
        if not self.active:
            return
        self.active = False
        self._case.sink.event(
            "deferred_comparison_ended",
            f"{self._case.name}: a difference of operation {op_index} was found late; every lookup is compared at "
            "once from here on, with its tensors as evidence",
        )

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _when(self, check: Check, *results: Result) -> None:
        self._queue.when_known(partial(self._contained, check), *results)

    def _contained(self, check: Check) -> None:
        try:
            check()
        except Exception as error:
            self._case.harness_failed("look at what a device found", error)


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

"""Looks at entries whose results come back later: comparisons, digests and times of one pair on an accelerator.

An operation launches its kernels and goes on. When the numbers arrive, the lookup is counted, and a difference is
charged to the operation that showed it, with what can still be said: hashes of both answers name what was stored
elsewhere or before, and an entry that still lies there is read. From the first difference on the pair compares at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reports.record.records import LeafDifference
from reports.record.words import Fault
from shadow.memory.regions import Region
from shadow.operation import Observation, Operation, Pool
from shadow.wrapper.clock import DeviceTime
from validator.device.fingerprint import located
from validator.device.queue import DeferredQueue
from validator.device.results import Check, Compared, Result
from validator.entries.digest import Digest
from validator.entries.readable import overlap
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

    def lookup(self, seen: Observation, stored: Stored, hashed: bool) -> Compared | None:
        """Take over a lookup that both sides answered, and return what will come of it; None to judge it at once.

        Args:
            seen: The lookup.
            stored: What was looked up.
            hashed: Whether both answers are also held against what was stored.
        """
        op_index, operation, env_id, key, control, candidate, *_ = seen
        if stored.digest.whole is not None or stored.key != key:
            return None
        mine, theirs = located(control), located(candidate)
        if mine is None or theirs is None or mine.layout is not theirs.layout or mine.size != theirs.size:
            return None
        if mine.layout.at(mine.size)[1] != stored.digest.layout:
            return None
        compared = self._queue.compare(mine, theirs, hashed)
        self._lookups += 1
        self._queue.when_known((self._looked_up, compared, stored, op_index, operation, env_id), compared)
        self._case.ledger.recent.append((op_index, operation.name, env_id, key, "both_hit"))
        self._queue.poll()
        return compared

    def digest(self, copy: Region) -> Digest | None:
        """Digest what is about to be stored, if it lies where results are waited for later."""
        digest = self._queue.digest_region(copy)
        if digest is not None and not self.begun:
            self.begin()
        return digest

    def arrived(self, side: SideView, stored: Stored, given: Any, held: Any) -> bool:
        """Take over the look at a set that arrived; False if it must be looked at right now."""
        mine, theirs = self.like(given, stored.digest), self.like(held, stored.digest)
        if mine is None or theirs is None or overlap(mine.leaves, theirs.leaves):
            return False
        hashes = self._queue.hashes([mine, theirs])
        self._queue.when_known((self._contained, self._looked_at_set, side, stored, *hashes), *hashes)
        return True

    def examine(self, side: SideView, live: Iterable[Stored]) -> Iterable[Stored]:
        """Launch the audit of some entries of one side, and return those that must be looked at right now."""
        if not self.active:
            return live
        at_once: list[Stored] = []
        late: list[tuple[Region, Check]] = []
        for stored in live:
            if self._case.ledger.apart(side.name, stored.pool, stored.env_id, stored.key):
                continue
            found = None
            if stored.digest.whole is None:
                if self._at_once[side.name] > 0:
                    self._at_once[side.name] -= 1
                else:
                    found = self.like(side.read(stored.pool, stored.env_id, stored.key), stored.digest)
            if found is None:
                at_once.append(stored)
            else:
                late.append((found, (self._audited, side, stored, "audit")))
        if late:
            self._case.counters.coverage["entries_audited"] += len(late)
            self._hash(late)
        return at_once

    def like(self, entry: Any, before: Digest) -> Region | None:
        """Return where an entry lies if it is of the structure of one that was hashed on a device."""
        if not self.active or before.whole is not None:
            return None
        found = located(entry)
        return found if found is not None and found.layout.at(found.size)[1] == before.layout else None

    def hold(self, answers: Iterable[tuple[Region, Digest, Callable[[], None]]]) -> None:
        """Launch looks whether entries still hold what they did; what is given for one that does not is called then."""
        self._hash([(found, (_unless, before.contents, changed)) for found, before, changed in answers])

    def timed(self, operation: str, control_ns: int, candidate_ns: int) -> bool:
        """Take over two times of an operation on a device, those that are known there; the host's say nothing of it."""
        if not (isinstance(control_ns, DeviceTime) and isinstance(candidate_ns, DeviceTime)):
            return False
        if control_ns.device is None:
            self._case.counters.untimed(operation)
        else:
            check = (self._contained, self._count_times, operation, control_ns, candidate_ns)
            self._queue.when_shipped(check, control_ns.device)
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

    def _looked_up(
        self, compared: Compared, stored: Stored, op_index: int, operation: Operation, env_id: int | None
    ) -> None:
        self._lookups -= 1
        counters, pool = self._case.counters, operation.pool
        counters.coverage["lookups compared late"] += 1
        try:
            right = compared.are(stored.digest.contents)  # type: ignore[arg-type]  # of a device, or it were not here
        except Exception as error:
            self._case.harness_failed("look at what a device found", error)
            return
        if right:
            counters.lookups[pool][EQUAL] += 1
        else:
            self._contained(self._looked_wrong, compared, stored, op_index, operation, env_id)

    def _looked_wrong(
        self, compared: Compared, stored: Stored, op_index: int, operation: Operation, env_id: int | None
    ) -> None:
        case, pool = self._case, operation.pool
        outcome = DIFFER if any(compared.counts) else EQUAL
        case.counters.lookups[pool][outcome] += 1
        findings: list[Finding | None] = [None, None]
        if compared.structure.hashed:
            for index, side in enumerate(case.sides):
                if (hashes := compared.hashes(index)) != stored.digest.contents:
                    findings[index] = self._finding(side, pool, env_id, stored, hashes)
        place = Place(op_index, operation.name, pool, env_id, stored.key, outcome)
        differences = _differences(stored, compared.counts)
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
            self._audited(side, stored, f"set.{stored.pool}", held)

    def _audited(self, side: SideView, stored: Stored, operation: str, hashes: Result) -> None:
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

    def _hash(self, entries: Iterable[tuple[Region, Check]]) -> None:
        """Hash entries, those of one structure together, and run the check of each with its hashes in the end."""
        alike: dict[Any, list[tuple[Region, Check]]] = {}
        for each in entries:
            alike.setdefault((each[0].layout, each[0].size), []).append(each)
        for some in alike.values():
            for (_, check), hashes in zip(some, self._queue.hashes([found for found, _ in some]), strict=True):
                self._queue.when_known((self._contained, *check, hashes), hashes)

    def _contained(self, check: Callable[..., None], *given: Any) -> None:
        try:
            check(*given)
        except Exception as error:
            self._case.harness_failed("look at what a device found", error)


def _unless(before: Sequence[int], changed: Callable[[], None], hashes: Result) -> None:
    if hashes != before:
        changed()


def _differences(stored: Stored, counts: Sequence[int]) -> tuple[LeafDifference, ...]:
    """Turn counts per leaf into records; distances are not to be had any more."""
    found = []
    for index, (count, (shape, dtype, device, size)) in enumerate(zip(counts, stored.digest.layout, strict=True)):
        if count:
            text = f"{str(dtype).removeprefix('torch.')} {shape} on {device}, {size} valid"
            batch, heads, _, head_dim = shape
            n = batch * heads * size * head_dim
            found.append(LeafDifference(index // 2, "KV"[index % 2], "bits", text, text, n, count))
    return tuple(found)

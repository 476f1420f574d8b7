"""Follows the sets of one pair: what is stored goes into both models, and it is looked at how it arrived."""

from __future__ import annotations

from typing import Any, NamedTuple

from reports.record.words import Cause, Dimension, Fault
from shadow.entries import leaves
from shadow.lent import readable
from shadow.located import region
from shadow.memory.regions import Regions
from shadow.operation import Observation, make
from validator.device.looks import DeviceLooks
from validator.entries.digest import Digest, digest_region
from validator.judge import words
from validator.judge.charge import Finding, Place, against, of_nobody
from validator.judge.examination import Examination
from validator.judge.keyed import KeyedCase
from validator.judge.presence import not_stored
from validator.judge.side_view import SideView
from validator.models.places import Spot
from validator.models.stored import Stored
from validator.observe.audits import Audits


class Pending(NamedTuple):
    """A set that has begun: what is stored, and what either side is given."""

    digest: Digest
    own: Any
    staged: Any


class Sets:
    """What a pair makes of its sets."""

    def __init__(self, case: KeyedCase, examination: Examination, looks: DeviceLooks, audits: Audits) -> None:
        self._case = case
        self._examination = examination
        self._looks = looks
        self._audits = audits
        self._counters = case.counters
        self._ledger = case.ledger
        self._in_place = case.in_place
        self._given = case.referee.given[case.secondary.name]
        self._written: dict[Spot, list[int]] = {}  # sets so far, and what the pool may hold

    def begin(self, entry: Any, staged: Any, regions: Regions) -> Pending:
        """Digest what is about to be stored, and remember whose memory it is."""
        case = self._case
        own, copy = regions
        if copy is not None and self._in_place and copy.layout.in_host:
            digest = digest_region(copy)
        else:
            digest = (copy and self._looks.digest(copy)) or self._digest(staged)
        # One staged copy after the other lies in the same memory: mostly that is known.
        if copy is not None and self._given and self._given[-1].addresses is copy.addresses:
            self._given[-1].until = case.now
        else:
            case.referee.was_given(case.secondary, staged, copy, case.now)
        if case.primary.keeps_the_hosts:
            case.referee.keeps(entry, case.now)
        if readable(entry) is entry:  # a lent one lives in the cache's own memory, and is told from it by no address
            case.referee.was_given(case.primary, entry, own, case.now)
        pending: Pending = make(Pending, (digest, entry, staged))
        return pending

    def was_set(self, seen: Observation, pending: Pending | None) -> None:
        """Count and judge one set; ``pending`` is what ``begin`` returned, None if the harness failed there."""
        op_index, operation, env_id, key, _, _, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        failed = control_error is not None or candidate_error is not None
        self._ledger.recent.append((op_index, operation.name, env_id, key, "raised" if failed else ""))
        self._ledger.was_set(pool, env_id, key)
        if failed:
            self._set_raised(seen)
        case = self._case
        if pending is None:  # nobody knows what lies there now
            case.agree(pool, env_id)
            for side in case.sides:
                side.model.pool(pool, env_id).rebase(key, None)
            return
        ((one, other),) = case.models(pool, env_id)
        met = key in one.held or key in one.gone or key in other.held or key in other.gone
        fields = (
            key,
            pool,
            env_id,
            pending.digest,
            op_index,
            case.episodes[env_id] if env_id is not None else 0,
            case.searches,
            case.sink.env_step,
            case.weight_version,
            (one.versions(key) or other.versions(key)) if met else (),
        )
        stored: Stored = make(Stored, fields)
        coverage = self._counters.coverage
        if met and stored.was_alive:
            coverage["overwrites"] += 1
        self._counters.layers[pending.digest.layers] += 1
        closely = self._audits.begin_set(pending.digest)
        for side, model, error in ((case.control, one, control_error), (case.candidate, other, candidate_error)):
            if error is not None:
                continue
            finding = None
            if closely or side.shows_nothing(pool, env_id, key):
                finding = self._arrival(side, stored, pending.own if side is case.primary else pending.staged)
            if finding is not None and finding.kind.cause in (Cause.SET_IGNORED, Cause.RESET_IGNORED):
                # The side goes on as if nothing had been set, and so does its model.
                charge = self._examination.charge(side, stored, finding, operation.name)
                self._ledger.keys_part(side.name, pool, env_id, key, charge)
                continue
            if model.set(key, stored) is not None:
                case.evicted(side)
            if finding is not None:
                charge = self._examination.charge(side, stored, finding, operation.name)
                if finding.kind.dimension is not Dimension.ISOLATION:
                    case.repair(side, charge, pool, env_id, key, stored)
        written = self._written.get((pool, env_id)) or self._written.setdefault((pool, env_id), [0, one.capacity])
        written[0] += 1
        if not written[0] % written[1]:
            coverage["ring_wraps"] += 1
        if closely:
            self._audits.end_set()

    def _arrival(self, side: SideView, stored: Stored, given: Any) -> Finding | None:
        """Look closely how a set arrived; what a device has to be asked about is judged when it answers."""
        held = side.read(stored.pool, stored.env_id, stored.key)
        if held is None:
            if side.model.pool(stored.pool, stored.env_id).evicts_as_it_likes:
                return None
            return not_stored(side, stored) if side.may_ask or not side.reads_copies else None
        if self._looks.arrived(side, stored, given, held):
            return None
        return self._examination.arrived(side, stored, given, held)

    def _digest(self, staged: Any) -> Digest:
        """Digest what is about to be stored; the first entry on a device begins the looks at those."""
        if self._in_place and (dense := region(staged)) is not None:
            return digest_region(dense)
        digest = self._case.control.digest(leaves(readable(staged)))
        if type(digest.contents) is not tuple:
            self._looks.begin()
        return digest

    def _set_raised(self, seen: Observation) -> None:
        case = self._case
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        assert key is not None
        errors = (seen.control_error, seen.candidate_error)
        if errors[0] is not None and errors[1] is not None:
            case.charge(of_nobody(words.BOTH_REFUSED, {"error": errors[0]}, Fault.HOST), Place.of(seen), errors=errors)
            return
        side, error = (case.control, errors[0]) if errors[0] is not None else (case.candidate, errors[1])
        charge = against(side, Finding(words.RAISED_ON_SET, {"error": type(error).__name__}))
        case.charge(charge, Place.of(seen), errors=errors)
        self._ledger.keys_part(side.name, pool, env_id, key, charge)

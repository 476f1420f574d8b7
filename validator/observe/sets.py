"""Follows the sets of one pair: what is stored goes into both models, and it is looked at how it arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from reports.record.records import Cause, Dimension, Fault
from shadow.entry import leaves
from shadow.lent import readable
from shadow.located import region
from shadow.memory.regions import Regions
from shadow.operation import Observation, Pool, make
from validator.device.looks import LateLooks
from validator.entries.digest import Digest, digest_region
from validator.judge.ledger import Charge, Place
from validator.judge.repair import settle
from validator.models.side_model import PoolModel, Stored

if TYPE_CHECKING:
    from validator.observe.pair import Pair


class Pending(NamedTuple):
    """A set that has begun: what is stored, and what either side is given."""

    digest: Digest
    own: Any
    staged: Any


class _Place:
    """One pool as it is written to.

    Attributes:
        models: Of it the control's and the candidate's.
        capacity: What it may hold.
        writes: Sets so far.
    """

    __slots__ = ("capacity", "models", "writes")

    def __init__(self, control: PoolModel, candidate: PoolModel) -> None:
        self.models = control, candidate
        self.capacity = control.capacity
        self.writes = 0


class Sets:
    """What a pair makes of its sets."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._control = pair.control
        self._candidate = pair.candidate
        self._counters = pair.counters
        self._ledger = pair.ledger
        self._auditor = pair.auditor
        self._given = pair.referee.given[pair.secondary.name]
        self._places: dict[tuple[Pool, int | None], _Place] = {}

    def begin(self, entry: Any, staged: Any, lie: Regions) -> Pending:
        """Digest what is about to be stored, and remember whose memory it is."""
        pair = self._pair
        own, copy = lie if pair.plain else (None, None)
        digest = self._digest(staged) if copy is None else digest_region(copy)
        pending: Pending = make(Pending, (digest, entry, staged))
        # One staged copy after the other lies in the same memory: mostly that is known.
        if copy is None or not self._given or self._given[-1].addresses is not copy.addresses:
            pair.referee.was_given(pair.secondary, staged, copy)
        if readable(entry) is entry:  # a lent one lives in the cache's own memory, and is told from it by no address
            pair.referee.was_given(pair.primary, entry, own)
        return pending

    def was_set(self, seen: Observation, pending: Pending | None) -> None:
        """Count and judge one set."""
        op_index, operation, env_id, key, _, _, control_error, candidate_error, _, _ = seen
        pool = operation.pool
        assert key is not None
        failed = control_error is not None or candidate_error is not None
        self._ledger.recent.append((op_index, operation.name, env_id, key, "raised" if failed else ""))
        self._ledger.was_set(pool, env_id, key)
        if failed:
            self._set_raised(seen)
        if pending is None:
            return
        pair = self._pair
        place = self._places.get((pool, env_id)) or self._place(pool, env_id)
        models = place.models
        fields = (
            key,
            pool,
            env_id,
            pending.digest,
            op_index,
            pair.episodes[env_id] if env_id is not None else 0,
            pair.searches,
            pair.sink.env_step,
            pair.weight_version,
            models[0].versions(key) or models[1].versions(key),
        )
        stored: Stored = make(Stored, fields)
        coverage = self._counters.coverage
        if stored.previous and stored.previous[0].alive:
            coverage["overwrites"] += 1
        self._counters.layers[pending.digest.layers] += 1
        closely = self._auditor.begin_set()
        for side, model, error in zip(
            (self._control, self._candidate), models, (control_error, candidate_error), strict=True
        ):
            if error is not None:
                continue
            finding = None
            if closely or side.shows_nothing(pool, env_id, key):
                given = pending.own if side is pair.primary else pending.staged
                finding = self._auditor.arrival(side, stored, given)
            if finding is not None and finding.cause in (Cause.SET_IGNORED, Cause.RESET_IGNORED):
                # The side goes on as if nothing had been set, and so does its model.
                charge = self._auditor.charge(side, stored, finding, operation.name)
                self._ledger.part(side.name, pool, env_id, key, charge)
                self._ledger.force(pool, env_id, charge)
                continue
            if model.set(key, stored) is not None:
                coverage[side.evictions] += 1
                if side is self._candidate:
                    coverage["evictions"] += 1
            if finding is not None:
                charge = self._auditor.charge(side, stored, finding, operation.name)
                if finding.dimension is not Dimension.ISOLATION:
                    other = self._candidate if side is self._control else self._control
                    settle(self._ledger, side, other, pair.primary.name, pool, env_id, key, stored, charge)
        place.writes += 1
        if not place.writes % place.capacity:
            coverage["ring_wraps"] += 1
        if closely:
            self._auditor.end_set()

    def _place(self, pool: Pool, env_id: int | None) -> _Place:
        # At the first set and not before: a deep copy of a pair is given its models after it was made.
        models = self._control.model.pool(pool, env_id), self._candidate.model.pool(pool, env_id)
        place = self._places[pool, env_id] = _Place(*models)
        return place

    def _digest(self, staged: Any) -> Digest:
        """Digest what is about to be stored; the first entry on a device begins the late looks."""
        pair = self._pair
        if pair.plain and (plain := region(staged)) is not None:
            return digest_region(plain)
        found = leaves(readable(staged))
        if pair.late is None and pair.config.deferred != "never" and any(leaf.tensor.is_cuda for leaf in found):
            pair.late = LateLooks(pair, pair.sink)
        return self._control.digest(found)

    def _set_raised(self, seen: Observation) -> None:
        pool, env_id, key = seen.operation.pool, seen.env_id, seen.key
        assert key is not None
        errors = (seen.control_error, seen.candidate_error)
        if errors[0] is not None and errors[1] is not None:
            text = f"Both sides refused to store this: {errors[0]}."
            self._pair.charge(Charge(Dimension.ERROR, Cause.RAISED, Fault.HOST, text), Place.of(seen), errors=errors)
            return
        side, error = (self._control, errors[0]) if errors[0] is not None else (self._candidate, errors[1])
        text = f"The {side.label} raised {type(error).__name__} instead of storing."
        charge = Charge(Dimension.ERROR, Cause.RAISED, Fault(side.name), text)
        self._pair.charge(charge, Place.of(seen), errors=errors)
        self._ledger.part(side.name, pool, env_id, key, charge)
        self._ledger.force(pool, env_id, charge)

"""The case of one pair of keyed caches: their models, and how both sides are brought back into agreement."""

from __future__ import annotations

from collections import Counter

from reports.record.words import Cause, Dimension
from shadow.entries import cloned
from shadow.lent import readable
from shadow.operation import Pool
from shadow.outside import from_outside
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.judge.case import Case, Pairing, Sink
from validator.judge.charge import Charge, Place
from validator.judge.referee import Referee
from validator.judge.shape import KeyedShape
from validator.judge.side_view import Digests, SideView
from validator.models.places import Spot
from validator.models.side_model import SideModel
from validator.models.stored import PoolModel, Stored

_OTHER_KEYS = (Dimension.PRESENCE, Dimension.LIVE_KEYS, Dimension.ERROR)  # after which the sides hold different ones


class KeyedCase(Case[SideView]):
    """What is known of one pair of keyed caches.

    Args:
        pairing: The two caches.
        shape: The shape of both.
        sink: Where what is found goes.
        digest: Digests the leaves of an entry, wherever they lie.

    Attributes:
        one_store: Sides and pools that are known to be kept in one store with another pool, and the charge for it.
        sought_one_store: How many charges against a side and a pool might have been explained by that.
        in_place: Whether dense entries of host memory are looked at where they lie.
        agreed: Whether a pool of a side that declares something was ever judged by agreement.

    """

    def __init__(self, pairing: Pairing, shape: KeyedShape, sink: Sink, digest: Digests) -> None:
        super().__init__(pairing, sink, shape.places, shape.operations)
        promised = shape.promised(pairing.control, pairing.candidate, self)
        self.env_num, self.assumed = promised.env_num, promised.assumed
        one, other = (
            SideView(name, cache, SideModel(policy, shape.places, sizes, self.env_num), digest, shape.reader, self)
            for name, cache, policy, sizes in (
                ("control", pairing.control, promised.control, promised.sizes[0]),
                ("candidate", pairing.candidate, promised.candidate, promised.sizes[1]),
            )
        )
        self.between(one, other, pairing.primary)
        self.primary.keeps_the_hosts = self.primary.by_reference
        self.referee = Referee(self.control, self.candidate, self.tolerance, self.ledger)
        self.in_place = pairing.config.deferred != "always"
        self.agreed = False
        self._models: dict[Spot, tuple[tuple[PoolModel, PoolModel], ...]] = {}
        self.sought_one_store: Counter[tuple[str, Pool, int | None]] = Counter()
        self.one_store: dict[tuple[str, Pool, int | None], Charge] = {}

    def models(self, asked: Pool, env_id: int | None) -> tuple[tuple[PoolModel, PoolModel], ...]:
        """Return the models of control and candidate of each pool that a lookup looks in, first to last."""
        known = self._models.get((asked, env_id))
        if known is None:
            spots = self.places.asked(asked, env_id)
            known = tuple([(self.control.model.pool(*spot), self.candidate.model.pool(*spot)) for spot in spots])
            self._models[asked, env_id] = known
        return known

    def expected(self, asked: Pool, env_id: int | None, key: int) -> tuple[Stored | None, Stored | None]:
        """Look a key up as both sides should; a lookup that searches several pools ends where it finds something."""
        one = other = None
        for control, candidate in self._models.get((asked, env_id)) or self.models(asked, env_id):
            if one is None:
                one = control.get(key)
            if other is None:
                other = candidate.get(key)
        return one, other

    def models_replaced(self) -> None:
        """Learn that the models of pools may have become others."""
        self._models.clear()

    def evicted(self, side: SideView) -> None:
        """Count an entry that gave way."""
        self.counters.coverage[side.evictions] += 1
        if side is self.candidate:
            self.counters.coverage["evictions"] += 1

    def agree(self, pool: Pool, env_id: int | None) -> None:
        """Judge a pool of both sides by agreement until it is cleared: it may hold what no set explains."""
        for side in self.sides:
            side.model.agree(pool, env_id, keep=True)
        self.agreed = True
        self.models_replaced()

    def lose_track(self, side: SideView) -> None:
        """Take it that nobody knows what a side holds, of any pool, until it is set again or cleared."""
        for pool, env_id, _ in side.model.pools():
            side.model.agree(pool, env_id, keep=False)
        self.agreed = True
        self.models_replaced()

    def repair(
        self, side: SideView, charge: Charge, pool: Pool, env_id: int | None, key: int, expected: Stored | None
    ) -> None:
        """Bring both sides into agreement again after a charge against one, or note that they are apart.

        A secondary that answers wrong values under a live key is given the right ones of the primary. Everything else
        (the primary itself, keys that should be gone and can't be deleted through the interface, rings) stays as it is
        and is known to be apart.

        Args:
            side: The side at fault.
            charge: The charge.
            pool: Pool where it happened; never ``hierarchical``.
            env_id: Environment, or None.
            key: Key.
            expected: What the side should hold there, or None.
        """
        if charge.cause is Cause.ONE_STORE:
            return
        if charge.dimension in _OTHER_KEYS:
            self.ledger.set_keys_apart(pool, env_id, charge)
        if expected is None or side is self.primary or not self._repaired(side, expected):
            self.ledger.set_apart(side.name, pool, env_id, key, charge)

    def follow(self, charge: Charge, place: Place) -> None:
        """Note what follows from a charge beyond the key that it was raised at."""
        side = next((side for side in self.sides if side.fault is charge.fault), None)
        facts = charge.finding.facts
        if side is None:
            return
        if charge.finding.kind is words.ONE_STORE:
            for pool, env_id in (facts["pool"], facts["other_pool"]):
                self.ledger.keys_part(side.name, pool, env_id, None, charge)

    def _repaired(self, side: SideView, expected: Stored) -> bool:
        """Give a side the entry that the other one holds, and tell whether it then holds what it should."""
        pool, env_id, key = expected.pool, expected.env_id, expected.key
        if side.model.policy.kind in ("legacy_ring", "legacy_dict"):  # there a set shifts ages
            return False
        right = self.other(side).read(pool, env_id, key)
        found = entry_leaves(right)
        if found is None or side.digest(found) != expected.digest:
            return False
        try:
            held_before = side.read(pool, env_id, key) is not None
            side.reader.set(pool, env_id, key, cloned(readable(right)))
            model = side.model.pool(pool, env_id)
            if not held_before:
                model.rebase(key, None)  # it comes back as the youngest
            model.set(key, expected)
            return side.intact(expected) is not None
        except BaseException as raised:  # whatever a broken side raises: it stays apart, and is known to
            if from_outside(raised):
                raise
            return False

"""What one whole cache *should* hold: a model of each of its pools, after the policy that it declares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from shadow.interface import CachePolicy
from shadow.operation import Pool
from validator.entries.digest import Digest
from validator.models.agreed import AgreedModel
from validator.models.bounded import BoundedModel
from validator.models.legacy_dict import LegacyDictModel
from validator.models.legacy_ring import LegacyRingModel
from validator.models.places import Places, Spot, covers
from validator.models.stored import PoolModel, Stored

_AS_IT_LIKES = ("undeclared", "expiring")


class _Models(dict[Spot, PoolModel]):
    """The models by pool and env; of an env that nobody announced, one is made when it is first met."""

    def __init__(self, make: Callable[[int | None], PoolModel], sizes: Mapping[Pool, int | None]) -> None:
        super().__init__()
        self._make = make
        self._sizes = sizes

    def __missing__(self, spot: Spot) -> PoolModel:
        made = self[spot] = self._make(self._sizes[spot[0]])
        return made


class SideModel:
    """What one whole cache should hold.

    Args:
        policy: What it declares, or what is assumed of it.
        places: The pools of its shape.
        sizes: Entries that each pool may hold, None for any number.
        env_num: Number of environments, None where nobody says it.
    """

    def __init__(
        self, policy: CachePolicy, places: Places, sizes: Mapping[Pool, int | None], env_num: int | None
    ) -> None:
        self.policy = policy
        self.places = places
        self._sizes = sizes
        self._models = _Models(self._pool, sizes)
        for spot in [
            *((pool, env_id) for pool in places.per_env for env_id in range(env_num or 0)),
            *((pool, None) for pool in places.single),
        ]:
            self._models[spot]

    def _pool(self, capacity: int | None) -> PoolModel:
        if self.policy.kind in _AS_IT_LIKES:
            return AgreedModel()
        if self.policy.kind == "legacy_ring":
            return LegacyRingModel(capacity or 0)
        if self.policy.kind == "legacy_dict":
            return LegacyDictModel(capacity or 0)
        capacity = sys.maxsize if capacity is None else capacity
        return BoundedModel(capacity, self.policy.kind == "lru", self.policy.set_renews)

    def pool(self, pool: Pool, env_id: int | None) -> PoolModel:
        """Return the model of one pool."""
        return self._models[pool, env_id]

    def pools(self) -> list[tuple[Pool, int | None, PoolModel]]:
        """List all pools with their names and envs, those of envs first."""
        found = [(pool, env_id, model) for (pool, env_id), model in self._models.items()]
        return sorted(found, key=lambda each: each[1] is None)

    def get(self, pool: Pool, env_id: int | None, key: int) -> Stored | None:
        """Look a key up as the cache should; a lookup that searches several pools ends where it finds something."""
        if pool not in self.places.searched:
            return self._models[pool, env_id].get(key)
        for spot in self.places.asked(pool, env_id):
            found = self._models[spot].get(key)
            if found is not None:
                return found
        return None

    def _asked(self, asked: Pool, env_id: int | None) -> list[PoolModel]:
        return [self._models[spot] for spot in self.places.asked(asked, env_id)]

    def evicts_as_it_likes(self, asked: Pool, env_id: int | None) -> bool:
        """Tell whether what a lookup misses may be the side's own business."""
        return any(model.evicts_as_it_likes for model in self._asked(asked, env_id))

    def told_all(self, asked: Pool, env_id: int | None) -> bool:
        """Tell whether all that a lookup may find was told of."""
        return all(model.told_all for model in self._asked(asked, env_id))

    def owed(
        self, asked: Pool, env_id: int | None, key: int, expected: Stored | None, answer: Digest | None, op_index: int
    ) -> Stored | None:
        """Tell what a side owes a lookup once its answer is known.

        That is what was expected, except where evictions are its own business: there it owes nothing that it does not
        have, and what it did not have a while ago it may have again.

        Args:
            asked: Pool that was asked.
            env_id: Environment that was asked, if any.
            key: Key that was asked.
            expected: What ``get`` returned.
            answer: Digest of the answer, None for nothing.
            op_index: Ordinal of the operation.
        """
        if not self.evicts_as_it_likes(asked, env_id):
            return expected
        models = self._asked(asked, env_id)
        for index, model in enumerate(models):
            held = model.may_hold(key)
            if held is None or (answer is not None and held.digest != answer):
                continue
            if answer is None:
                if not model.lets_go(key, op_index):
                    return held
                continue
            for passed in models[:index]:
                passed.lets_go(key, op_index)
            if model.peek(key) is None:
                model.set(key, held)
            return held
        return None if answer is None else expected

    def clear(self, pool: Pool, env_id: int | None, op_index: int) -> None:
        """Forget what an operation clears: a pool (of one env, or of all for None), or ``all``."""
        for spot, model in self._models.items():
            if covers(pool, env_id, *spot):
                self._models[spot] = self._cleared(model, self._sizes[spot[0]], op_index)

    def _cleared(self, model: PoolModel, capacity: int | None, op_index: int) -> PoolModel:
        """Clear a pool; one that was judged by agreement for a while is held to what is declared again."""
        model.clear(op_index)
        model.ever_cleared = True
        if not model.evicts_as_it_likes or self.policy.kind in (*_AS_IT_LIKES, "legacy_ring", "legacy_dict"):
            return model  # the write index of a ring outlives a clear
        fresh = self._pool(capacity)
        fresh.gone, fresh.ever_cleared = model.gone, True
        return fresh

    def agree(self, pool: Pool, env_id: int | None, keep: bool) -> None:
        """Judge a pool by agreement until it is cleared: it may hold what was never told of, of whatever age.

        Args:
            pool: Pool.
            env_id: Its environment, if it has one.
            keep: Whether what it held so far is still held against what was stored.
        """
        old, model = self.pool(pool, env_id), AgreedModel()
        for stored in old.live() if keep else ():
            model.set(stored.key, stored)
        model.gone.update(old.gone if keep else {})
        model.told_all, model.ever_cleared = False, old.ever_cleared
        self._models[pool, env_id] = model

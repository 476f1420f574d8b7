"""What one whole cache *should* hold: a model of each of its pools, after the policy that it declares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from shadow.interface import CachePolicy
from shadow.operation import Pool
from validator.entries.digest import Digest
from validator.models.agreed import AgreedModel
from validator.models.bounded import BoundedModel
from validator.models.legacy_dict import LegacyDictModel
from validator.models.legacy_ring import LegacyRingModel
from validator.models.pools import pools_of
from validator.models.stored import PoolModel, Stored


class _Envs(dict[int, PoolModel]):
    """The init pools by env; of an env that nobody announced, one is made when it is first met."""

    def __init__(self, make: Callable[[], PoolModel], env_num: int | None) -> None:
        super().__init__((env_id, make()) for env_id in range(env_num or 0))
        self._make = make

    def __missing__(self, env_id: int) -> PoolModel:
        made = self[env_id] = self._make()
        return made


class SideModel:
    """What one whole cache should hold.

    Args:
        policy: What it declares, or what is assumed of it.
        env_num: Number of environments, None where nobody says it.
    """

    def __init__(self, policy: CachePolicy, env_num: int | None) -> None:
        self.policy = policy
        sizes = policy.capacities
        self.init = _Envs(partial(self._pool, sizes.init), env_num)
        self.recur = self._pool(sizes.recur)
        self.wm = self._pool(sizes.wm)

    def _pool(self, capacity: int) -> PoolModel:
        if self.policy.kind == "undeclared":
            return AgreedModel()
        if self.policy.kind == "legacy_ring":
            return LegacyRingModel(capacity)
        if self.policy.kind == "legacy_dict":
            return LegacyDictModel(capacity)
        return BoundedModel(capacity, recency=self.policy.kind == "lru")

    def pool(self, pool: Pool, env_id: int | None) -> PoolModel:
        """Return the model of one pool."""
        if pool == "init":
            assert env_id is not None
            return self.init[env_id]
        return self.recur if pool == "recur" else self.wm

    def pools(self) -> list[tuple[Pool, int | None, PoolModel]]:
        """List all pools with their names and envs."""
        return [
            *(("init", env_id, model) for env_id, model in self.init.items()),
            ("recur", None, self.recur),
            ("wm", None, self.wm),
        ]

    def get(self, pool: Pool, env_id: int | None, key: int) -> Stored | None:
        """Look a key up as the cache should; ``hierarchical`` looks in init first, then in recur."""
        if env_id is None:
            return (self.recur if pool == "recur" else self.wm).get(key)
        found = self.init[env_id].get(key)
        return self.recur.get(key) if found is None and pool == "hierarchical" else found

    def _asked(self, asked: Pool, env_id: int | None) -> list[PoolModel]:
        return [self.pool(pool, env_id if pool == "init" else None) for pool in pools_of(asked)]

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
        """Forget what an operation clears: ``all``, ``init`` (of one env, or of all for None) or ``recur``."""
        sizes = self.policy.capacities
        if pool in ("all", "init"):
            for each, model in self.init.items():
                if env_id is None or each == env_id:
                    self.init[each] = self._cleared(model, sizes.init, op_index)
        if pool in ("all", "recur"):
            self.recur = self._cleared(self.recur, sizes.recur, op_index)
        if pool == "all":
            self.wm = self._cleared(self.wm, sizes.wm, op_index)

    def _cleared(self, model: PoolModel, capacity: int, op_index: int) -> PoolModel:
        """Clear a pool; one that was judged by agreement for a while is held to what is declared again."""
        model.clear(op_index)
        model.ever_cleared = True
        if not model.evicts_as_it_likes or self.policy.kind in ("undeclared", "legacy_ring", "legacy_dict"):
            return model  # the write index of a ring outlives a clear
        fresh = self._pool(capacity)
        fresh.gone, fresh.ever_cleared = model.gone, True
        return fresh

    def agree(self, pool: Pool, env_id: int | None, keep: bool) -> None:
        """Judge a pool by agreement until it is cleared: it may hold what was never told of, of whatever age.

        Args:
            pool: Pool.
            env_id: Environment of an init pool, else None.
            keep: Whether what it held so far is still held against what was stored.
        """
        old, model = self.pool(pool, env_id), AgreedModel()
        for stored in old.live() if keep else ():
            model.set(stored.key, stored)
        model.gone.update(old.gone if keep else {})
        model.told_all, model.ever_cleared = False, old.ever_cleared
        if env_id is not None:
            self.init[env_id] = model
        else:
            setattr(self, pool, model)

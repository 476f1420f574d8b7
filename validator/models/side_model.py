"""What one whole cache *should* hold: a model of each of its pools, after the policy that it declares."""

from __future__ import annotations

from shadow.interface import CachePolicy
from shadow.operation import Pool
from validator.models.bounded import BoundedModel
from validator.models.legacy_dict import LegacyDictModel
from validator.models.legacy_ring import LegacyRingModel
from validator.models.stored import PoolModel, Stored


class SideModel:
    """What one whole cache should hold.

    Args:
        policy: What it declares, or what is assumed of it.
        env_num: Number of environments.
    """

    def __init__(self, policy: CachePolicy, env_num: int) -> None:
        self.policy = policy
        self.env_num = env_num
        sizes = policy.capacities
        self.init = [self._pool(sizes.init) for _ in range(env_num)]
        self.recur = self._pool(sizes.recur)
        self.wm = self._pool(sizes.wm)

    def _pool(self, capacity: int) -> PoolModel:
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
            *(("init", env_id, model) for env_id, model in enumerate(self.init)),
            ("recur", None, self.recur),
            ("wm", None, self.wm),
        ]

    def get(self, pool: Pool, env_id: int | None, key: int) -> Stored | None:
        """Look a key up as the cache should; ``hierarchical`` looks in init first, then in recur."""
        if env_id is None:
            return (self.recur if pool == "recur" else self.wm).get(key)
        found = self.init[env_id].get(key)
        return self.recur.get(key) if found is None and pool == "hierarchical" else found

    def clear(self, pool: Pool, env_id: int | None, op_index: int) -> None:
        """Forget what an operation clears: ``all``, ``init`` (of one env, or of all for None) or ``recur``."""
        if pool in ("all", "init"):
            for each, model in enumerate(self.init):
                if env_id is None or each == env_id:
                    model.clear(op_index)
        if pool in ("all", "recur"):
            self.recur.clear(op_index)
        if pool == "all":
            self.wm.clear(op_index)

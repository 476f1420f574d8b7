"""World models that keep their store as LightZero's do, written for these tests; no line of LightZero is in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shadow.entry import KeysValues, leaves
from tests.shadow.entries import make_entry


class Release020:
    """Inline store of release 0.2.0: text keys, init rings of 2, a dict that nobody tells of a reused slot."""

    def __init__(self, env_num: int = 2, num_simulations: int = 4, **switches: Any) -> None:
        self.config = SimpleNamespace(num_simulations=num_simulations, **switches)
        self.env_num = env_num
        self._initialize_cache_structures()
        self.shared_pool_init_infer: Any = [[None, None] for _ in range(env_num)]
        self.shared_pool_index_init_envs = [0] * env_num
        self.shared_pool_recur_infer: Any = [None] * (num_simulations * env_num)
        self.shared_pool_index = 0
        self.answers: list[Any] = []

    def _initialize_cache_structures(self) -> None:
        self.past_kv_cache_recurrent_infer: Any = {}
        self.past_kv_cache_init_infer_envs: Any = [{} for _ in range(self.env_num)]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def custom_copy_kv_cache_to_shared_init_envs(self, src_kv: Any, env_id: int) -> int:
        index = self.shared_pool_index_init_envs[env_id]
        self.shared_pool_init_infer[env_id][index] = self._slot(self.shared_pool_init_infer[env_id][index], src_kv)
        self.shared_pool_index_init_envs[env_id] = (index + 1) % len(self.shared_pool_init_infer[env_id])
        return index

    def custom_copy_kv_cache_to_shared_recur(self, src_kv: Any) -> int:
        index = self.shared_pool_index
        self.shared_pool_recur_infer[index] = self._slot(self.shared_pool_recur_infer[index], src_kv)
        self.shared_pool_index = (index + 1) % len(self.shared_pool_recur_infer)
        return index

    @staticmethod
    def _slot(slot: Any, src_kv: Any) -> Any:
        slot = slot or KeysValues.empty_like(leaves(src_kv))
        slot.copy_from(leaves(src_kv))
        return slot

    def key(self, number: int) -> Any:
        return f"{number:016x}"

    def forward_initial_inference(self, asked: list[int | None], stored: list[int]) -> None:
        """Look up the last root of each env, store the new one, and begin a search."""
        for env_id, number in enumerate(asked):
            if number is not None:
                slot = self.past_kv_cache_init_infer_envs[env_id].get(self.key(number))
                self.answers.append(None if slot is None else self.shared_pool_init_infer[env_id][slot])
        for env_id, number in enumerate(stored):
            self.store_root(env_id, number)
        self.past_kv_cache_recurrent_infer.clear()

    def store_root(self, env_id: int, number: int) -> None:
        slot = self.custom_copy_kv_cache_to_shared_init_envs(make_entry(number), env_id)
        self.past_kv_cache_init_infer_envs[env_id][self.key(number)] = slot

    def store_node(self, number: int) -> None:
        slot = self.custom_copy_kv_cache_to_shared_recur(make_entry(number))
        self.past_kv_cache_recurrent_infer[self.key(number)] = slot

    def retrieve_or_generate_kvcache(self, numbers: list[int]) -> None:
        for env_id, number in enumerate(numbers):
            slot = self.past_kv_cache_init_infer_envs[env_id].get(self.key(number))
            found = None if slot is None else self.shared_pool_init_infer[env_id][slot]
            if found is None:
                found = self.shared_pool_recur_infer[self.past_kv_cache_recurrent_infer.get(self.key(number))]
            self.answers.append(found)

    def clear_caches(self) -> None:
        for each in self.past_kv_cache_init_infer_envs:
            each.clear()
        self.past_kv_cache_recurrent_infer.clear()


class MainLegacy(Release020):
    """Inline store of the main branch: whole-number keys, a reverse map, a miss that is only a miss."""

    def __init__(self, env_num: int = 2, num_simulations: int = 4, **switches: Any) -> None:
        super().__init__(env_num, num_simulations, **switches)
        self.pool_idx_to_key_map_init_envs: Any = [[None, None] for _ in range(env_num)]
        self.pool_idx_to_key_map_recur_infer: Any = [None] * (num_simulations * env_num)

    def key(self, number: int) -> Any:
        return number

    def store_root(self, env_id: int, number: int) -> None:
        index, keys = self.shared_pool_index_init_envs[env_id], self.pool_idx_to_key_map_init_envs[env_id]
        if keys[index] is not None and keys[index] in self.past_kv_cache_init_infer_envs[env_id]:
            del self.past_kv_cache_init_infer_envs[env_id][keys[index]]
        super().store_root(env_id, number)
        keys[index] = number

    def store_node(self, number: int) -> None:
        index, keys = self.shared_pool_index, self.pool_idx_to_key_map_recur_infer
        if keys[index] is not None:
            self.past_kv_cache_recurrent_infer.pop(keys[index], None)
        super().store_node(number)
        keys[index] = number

    def retrieve_or_generate_kvcache(self, numbers: list[int]) -> None:
        for env_id, number in enumerate(numbers):
            slot = self.past_kv_cache_init_infer_envs[env_id].get(number)
            pool = self.shared_pool_init_infer[env_id]
            if slot is None:
                slot, pool = self.past_kv_cache_recurrent_infer.get(number), self.shared_pool_recur_infer
            self.answers.append(None if slot is None else pool[slot])


class MainManaged:
    """A world model in manager mode, with any manager."""

    def __init__(self, manager: Any, **switches: Any) -> None:
        self.config = SimpleNamespace(num_simulations=4, use_new_cache_manager=True, **switches)
        self.kv_cache_manager = manager

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def forward_initial_inference(self) -> None:
        self.kv_cache_manager.clear_recur_cache()


def deep_copier(installation: Any, cls: Any, monkeypatch: Any) -> None:
    """Let a class be deep-copied as an installation does it."""
    monkeypatch.setattr(cls, "__deepcopy__", lambda self, memo: installation.copy(self, memo), raising=False)

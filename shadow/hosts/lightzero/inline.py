"""LightZero's own inline store as one side: its dicts, its shared pools and its copy routines keep doing the work.

In the dicts of a world model (``past_kv_cache_init_infer_envs``, ``past_kv_cache_recurrent_infer``) a key leads to a
slot number, in its shared pools (``shared_pool_init_infer``, ``shared_pool_recur_infer``) a slot number leads to the
entry. Nothing is kept here beside them, so what is judged is what the model reads.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from shadow.entry import leaves
from shadow.hosts.lightzero.errors import LightZeroMismatch
from shadow.interface import CacheCapacities, CachePolicy, PolicyKind

COPY_INIT = "custom_copy_kv_cache_to_shared_init_envs"
COPY_RECUR = "custom_copy_kv_cache_to_shared_recur"
SEARCH = "retrieve_or_generate_kvcache"
ROOTS = "forward_initial_inference"
_LISTS = ("past_kv_cache_init_infer_envs", "shared_pool_init_infer", "shared_pool_recur_infer")
_METHODS = (COPY_INIT, COPY_RECUR, SEARCH, ROOTS, "clear_caches")
# Release 0.2.0 indexes the pool with what the dict answered, None included.
_INDEXES_WITH_NONE = re.compile(r"shared_pool_recur_infer\[\s*self\.past_kv_cache_recurrent_infer\.get\(")


class InlineStore:
    """The inline store of one world model behind the interface that every cache shares.

    Args:
        world_model: LightZero's, fully constructed.

    Raises:
        LightZeroMismatch: If its store does not look as expected.
    """

    def __init__(self, world_model: Any) -> None:
        check(world_model)
        self.world_model = world_model
        self.env_num = len(world_model.past_kv_cache_init_infer_envs)
        self.init_dicts: list[Any] = list(world_model.past_kv_cache_init_infer_envs)
        self.recur_dict: Any = world_model.past_kv_cache_recurrent_infer
        self.copy_init: Callable[[Any, int], int] = getattr(world_model, COPY_INIT)
        self.copy_recur: Callable[[Any], int] = getattr(world_model, COPY_RECUR)
        self.text_keys = False  # 0.2.0 hashes to 16 hex digits, main to whole numbers
        self.named: tuple[int, str] = (-1, "")  # the last key that came as text, as a number and as it came
        self.has_reverse_map = hasattr(world_model, "pool_idx_to_key_map_init_envs")
        self.raises_on_miss = _raises_on_miss(world_model)
        # Set for one lookup of the model's: only the model is to meet the exception that 0.2.0 raises.
        self.asked = False
        # Set while the host itself stores: it has made room in its own way and takes the slot number from here.
        self.hosts_copy: Callable[[Any], int] | None = None
        self._capacities = CacheCapacities(
            init=len(world_model.shared_pool_init_infer[0]),
            recur=len(world_model.shared_pool_recur_infer),
            wm=len(getattr(world_model, "shared_pool_wm", None) or range(self.env_num)),
        )

    # -- lookups ------------------------------------------------------------------------------------------------------

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        """Return the slot object that the model would read for a root, or None."""
        self.asked = False
        slot = self.init_dicts[env_id].get(self._raw(cache_key))
        return None if slot is None else self.world_model.shared_pool_init_infer[env_id][slot]

    def get_recur_cache(self, cache_key: int) -> Any:
        """Return the slot object that the model would read for a node, or None.

        Raises:
            TypeError: For the model of 0.2.0 where it is missing, as that would: its pool, indexed with None.
        """
        slot = self.recur_dict.get(self._raw(cache_key))
        asked, self.asked = self.asked, False
        if slot is None and not (asked and self.raises_on_miss):
            return None
        return self.world_model.shared_pool_recur_infer[slot]

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        """Look in the init pool of an env, then in the recurrent pool, as the search does."""
        slot = self.init_dicts[env_id].get(self._raw(cache_key))
        if slot is None:
            return self.get_recur_cache(cache_key)
        self.asked = False
        return self.world_model.shared_pool_init_infer[env_id][slot]

    def get_wm_cache(self, cache_key: int) -> Any:
        """Return None: copies handed to the batch have no key in LightZero, so nothing is ever looked up."""
        return None

    # -- sets ---------------------------------------------------------------------------------------------------------

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        """Copy a root entry with LightZero's own routine and enter its slot number in the dict of its env."""
        world_model = self.world_model
        if self.hosts_copy is not None:
            slot = self.hosts_copy(kv_cache)
        else:
            keys = world_model.pool_idx_to_key_map_init_envs[env_id] if self.has_reverse_map else None
            write_index = world_model.shared_pool_index_init_envs[env_id]
            self._make_room(self.init_dicts[env_id], keys, write_index, cache_key)
            slot = self.copy_init(kv_cache, env_id)
        self.init_dicts[env_id][self._raw(cache_key)] = slot
        return slot

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Copy a node's entry with LightZero's own routine and enter its slot number in the dict."""
        world_model = self.world_model
        if self.hosts_copy is not None:
            slot = self.hosts_copy(kv_cache)
        else:
            keys = world_model.pool_idx_to_key_map_recur_infer if self.has_reverse_map else None
            self._make_room(self.recur_dict, keys, world_model.shared_pool_index, cache_key)
            slot = self.copy_recur(kv_cache)
        self.recur_dict[self._raw(cache_key)] = slot
        return slot

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> int:
        """Refuse: LightZero's batch copies have no key."""
        raise NotImplementedError("LightZero keeps its batch copies without keys; they are not shadowed")

    # -- clears -------------------------------------------------------------------------------------------------------

    def clear_init_cache(self, env_id: int) -> None:
        """Empty the dict of one env, and that alone, as LightZero does."""
        self.init_dicts[env_id].clear()

    def clear_init_caches(self) -> None:
        """Empty the dicts of all envs."""
        for each in self.init_dicts:
            each.clear()

    def clear_recur_cache(self) -> None:
        """Empty the dict of the running search."""
        self.recur_dict.clear()

    def clear_all(self) -> None:
        """Empty every dict."""
        self.clear_init_caches()
        self.clear_recur_cache()

    # -- looks inside -------------------------------------------------------------------------------------------------

    def policy(self) -> CachePolicy:
        """Declare what LightZero's store promises: the ring with a reverse map, or in 0.2.0 a dict that outlives it."""
        kind: PolicyKind = "legacy_ring" if self.has_reverse_map else "legacy_dict"
        return CachePolicy(kind, self._capacities, live_results=True, fixed_slots=True)

    def live_keys(self, pool: str, env_id: int | None = None) -> Collection[int]:
        """List the keys that a dict holds; none for ``wm``."""
        return () if pool == "wm" else _Numbers(self._places(pool, env_id)[0], 16 if self.text_keys else 0)

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        """Return the slot object under a key without touching anything, or None."""
        if pool == "wm":
            return None
        slot_of, slots = self._places(pool, env_id)
        slot = slot_of.get(self._raw(cache_key))
        return None if slot is None else slots[slot]

    @property
    def nbytes(self) -> int:
        """Bytes of all slots allocated so far."""
        pools = [*self.world_model.shared_pool_init_infer, self.world_model.shared_pool_recur_infer]
        slots = (slot for pool in pools for slot in pool if slot is not None)
        return sum(leaf.tensor.numel() * leaf.tensor.element_size() for slot in slots for leaf in leaves(slot))

    def get_stats_summary(self) -> dict[str, Any]:
        """Return LightZero's own counters."""
        names = ("total_query_count", "hit_count", "root_total_query_cnt", "root_hit_cnt")
        return {"stats_enabled": True, **{name: getattr(self.world_model, name, None) for name in names}}

    def reset_stats(self) -> None:
        """Leave LightZero's counters alone."""

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _places(self, pool: str, env_id: int | None) -> tuple[Any, Any]:
        """Return the dict and the slots of a pool."""
        if pool != "init":
            return self.recur_dict, self.world_model.shared_pool_recur_infer
        at = -1 if env_id is None else env_id
        return self.init_dicts[at], self.world_model.shared_pool_init_infer[at]

    def _make_room(self, keys_to_slots: Any, reverse: Any, write_index: int, cache_key: int) -> None:
        if reverse is not None:
            keys_to_slots.pop(reverse[write_index], None)
            reverse[write_index] = self._raw(cache_key)

    def _raw(self, key: int) -> Any:
        if not self.text_keys:
            return key
        number, text = self.named
        return text if number == key else f"{key:016x}"


class _Numbers(Collection[int]):
    """The keys of a dict as numbers; mostly somebody only wants to know how many there are."""

    def __init__(self, keys: Any, base: int) -> None:
        self._keys = keys
        self._base = base

    def __iter__(self) -> Iterator[int]:
        return iter([int(key, self._base) if self._base else int(key) for key in self._keys])

    def __contains__(self, number: object) -> bool:
        return number in list(self)

    def __len__(self) -> int:
        return len(self._keys)


def check(world_model: Any) -> None:
    """Look for everything that the store stands on.

    Raises:
        LightZeroMismatch: Naming what was looked for and what was found.
    """
    where = f"{type(world_model).__module__}.{type(world_model).__qualname__}"
    problems = [f"a list {name}" for name in _LISTS if not isinstance(getattr(world_model, name, None), list)]
    problems += [f"a method {name}" for name in _METHODS if not callable(getattr(world_model, name, None))]
    recur = getattr(world_model, "past_kv_cache_recurrent_infer", None)
    if not isinstance(recur, dict):
        problems.append("a dict past_kv_cache_recurrent_infer")
    if not problems:
        dicts, pools = world_model.past_kv_cache_init_infer_envs, world_model.shared_pool_init_infer
        if not dicts or len(dicts) != len(pools) or not all(isinstance(each, dict) for each in dicts):
            problems.append("one dict and one pool per env in past_kv_cache_init_infer_envs and shared_pool_init_infer")
        elif not all(isinstance(pool, list) and pool for pool in (*pools, world_model.shared_pool_recur_infer)):
            problems.append("pools with at least one slot")
    if problems:
        raise LightZeroMismatch(
            f"kv-lockstep does not know this LightZero: {where} should have {', '.join(problems)}. Known are release "
            "0.2.0 and the main branch of 2026-08. Nothing would be watched, so nothing is trained; switch "
            "cache_validation_mode off to train without validation"
        )


def _raises_on_miss(world_model: Any) -> bool:
    # Read from the source, because where this were wrong the training would change: unreadable means no.
    try:
        source = inspect.getsource(getattr(type(world_model), SEARCH))
    except (OSError, TypeError, AttributeError):
        return False
    return _INDEXES_WITH_NONE.search(source) is not None

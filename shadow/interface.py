"""The interface that every cache shares, and how many entries each of its pools may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any, Literal, Protocol, runtime_checkable

PolicyKind = Literal["fifo", "lru", "priority", "legacy_ring", "legacy_dict", "expiring", "undeclared"]


def read_field(config: Any, name: str, default: Any = None) -> Any:
    """Read one field of a mapping, an EasyDict, a namespace or a dataclass, never writing it back."""
    if isinstance(config, Mapping):
        return config.get(name, default)
    return getattr(config, name, default)


def offered(cache: Any, name: str) -> Any:
    """Return an optional attribute of a cache if it is really there, else None.

    A proxy that answers any attribute (a mock, a remote object) offers only what its class or the object itself has.
    """
    found = getattr(cache, name, None)
    if found is not None and getattr(cache, "is_this_a_proxy_that_answers_anything", None) is not None:
        return None if getattr_static(cache, name, None) is None else found
    return found


@dataclass(frozen=True, slots=True)
class CacheCapacities:
    """How many entries each pool may hold.

    Attributes:
        init: Entries of one env's init pool.
        recur: Entries of the recurrent pool that all envs share.
        wm: Entries of the ring of batch copies.
    """

    init: int
    recur: int
    wm: int

    @classmethod
    def from_config(cls, config: Any, env_num: int) -> CacheCapacities:
        """Derive the capacities from the fields that LightZero's world model config carries.

        Args:
            config: Mapping or object with ``num_simulations`` (50 where absent), ``max_cache_size`` (5000 where
                absent), ``game_segment_length`` and ``cache_capacity_rule``: ``"2026-08"`` (default, init pools of
                ``min(max_cache_size, max(256, 2 * num_simulations))``) or ``"2025-10"`` (``game_segment_length``).
            env_num: Number of environments, at least 1.

        Returns:
            The capacities.

        Raises:
            ValueError: If a field is not a positive whole number or the rule is unknown.
        """
        envs = positive("env_num", env_num)
        simulations = positive("num_simulations", read_field(config, "num_simulations", 50))
        rule = read_field(config, "cache_capacity_rule", "2026-08")
        if rule == "2026-08":
            guard = positive("max_cache_size", read_field(config, "max_cache_size", 5000))
            init = min(guard, max(256, 2 * simulations))
        elif rule == "2025-10":
            init = positive("game_segment_length", read_field(config, "game_segment_length"))
        else:
            raise ValueError(f"cache_capacity_rule must be '2026-08' or '2025-10', got {rule!r}")
        return cls(init=init, recur=simulations * envs, wm=envs)


def positive(name: str, value: Any) -> int:
    """Return a positive whole number, or say what was found instead."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a cache promises about which entries are alive; its referee judges it against this.

    Attributes:
        kind: ``fifo``, ``lru``, ``priority``, ``legacy_ring`` (see ``shadow.legacy``), ``legacy_dict`` (the store of
            LightZero 0.2.0, whose dict outlives its ring), ``undeclared`` (whom it evicts, and when, is its own
            business, and no capacity is held against it) or ``expiring`` (likewise, and by a clock, so that not even
            two of a kind must agree on it).
        capacities: Entries per pool, of a cache of four.
        live_results: Whether a get hands out the stored object itself, which callers must copy before changing it
            and which changes when its slot is reused; None where nothing is said about it.
        fixed_slots: Whether slots keep the dtype and batch size of their first entry, whatever is stored later.
        misses_count: Whether a lookup that misses changes what the cache does later (an admission filter, a list of
            what was asked for), so that audits must not ask it for keys that should be gone.
        capacity: Entries of a cache that is a mapping, None for any number.
        stores: Whether a set stores a ``copy`` or a ``reference`` to what it is given; None for what is usual: a
            mapping stores references, and hands them out, any other cache copies.
        set_renews: Whether a key that is set again counts as the youngest; under LRU it always does.
    """

    kind: PolicyKind
    capacities: CacheCapacities = CacheCapacities(0, 0, 0)  # frozen
    live_results: bool | None = False
    fixed_slots: bool = False
    misses_count: bool = False
    capacity: int | None = None
    stores: Literal["copy", "reference"] | None = None
    set_renews: bool = False


@runtime_checkable
class CacheStore(Protocol):
    """One KV cache: the shadow, both of its sides, and any third object that is to be compared.

    Keys are 64-bit whole numbers. An entry is a ``KeysValues`` or anything of that shape. ``get_*`` return the entry
    or None; ``set_*`` return the slot number.

    Three further methods are optional. ``policy() -> CachePolicy`` declares what the cache promises. Without it FIFO
    of the capacities that its ``config`` asks for (with ``env_num``) is assumed; without these either, presence is
    judged by agreement only, and the report says so. ``live_keys(pool, env_id)`` lists the keys a
    pool holds and ``peek(pool, env_id, cache_key)`` returns a stored entry itself, both without counting a lookup or
    touching an age; without them audits have to ask through ``get``, and keys that should be gone stay unseen.
    """

    def get_init_cache(self, env_id: int, cache_key: int) -> Any: ...
    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any: ...
    def get_recur_cache(self, cache_key: int) -> Any: ...
    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> Any: ...
    def get_wm_cache(self, cache_key: int) -> Any: ...
    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> Any: ...
    def hierarchical_get(self, env_id: int, cache_key: int) -> Any: ...
    def clear_all(self) -> None: ...
    def clear_init_caches(self) -> None: ...
    def clear_init_cache(self, env_id: int) -> None: ...
    def clear_recur_cache(self) -> None: ...
    def get_stats_summary(self) -> dict[str, Any]: ...
    def reset_stats(self) -> None: ...

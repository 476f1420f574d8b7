"""How the validator reads one side between operations, without its noticing."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from shadow.entry import leaves
from shadow.interface import CacheCapacities, CachePolicy
from shadow.lent import readable
from shadow.memory.buffers import Leaf
from shadow.operation import Pool
from validator.entries.digest import Digest, digest
from validator.models.side_model import SideModel, Stored

_GET = {"recur": "get_recur_cache", "wm": "get_wm_cache"}


class Unreadable:
    """Stands for an entry that a side raised about instead of showing it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class SideView:
    """One side: its cache, its model, and how to look into it.

    Looking prefers ``peek`` and ``live_keys``, which leave no trace. A cache without them, or a subclass that keeps
    its entries elsewhere than they look, is asked through ``get``; under LRU that would change its ages, so there it
    is not asked at all.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache.
        policy: What it declares, or what is assumed.
        env_num: Number of environments.
    """

    def __init__(self, name: str, cache: Any, policy: CachePolicy, env_num: int) -> None:
        self.name = name
        self.cache = cache
        self.model = SideModel(policy, env_num)
        self._peek = getattr(cache, "peek", None)
        self._live_keys = getattr(cache, "live_keys", None)
        self.may_ask = policy.kind != "lru"
        self.digest: Callable[[Sequence[Leaf]], Digest] = digest  # ``validator.device.looks`` brings another one
        self.label = f"{name} ({type(cache).__name__})"
        self.evictions = f"evictions_{name}"  # what its evictions are counted under

    @property
    def reads_copies(self) -> bool:
        """Whether ``read`` may return copies, so that addresses say nothing."""
        return self._peek is None

    @property
    def lists_keys(self) -> bool:
        """Whether the side tells which keys a pool holds."""
        return self._live_keys is not None

    def distrust_peek(self) -> None:
        """Ask through ``get`` from now on: what ``peek`` shows is not what the cache answers."""
        self._peek = self._live_keys = None

    def read(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what the side holds under a key of one pool, or None."""
        if self._peek is not None:
            found = self._peek(pool, env_id, key)
            if found is not None or not self.may_ask:
                return found
        return self.ask(pool, env_id, key)

    def shown(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what a side that can be looked into holds under a key, or None; nobody is asked."""
        return None if self._peek is None else self._peek(pool, env_id, key)

    def shows_nothing(self, pool: Pool, env_id: int | None, key: int) -> bool:
        """Tell whether a side that can be looked into holds nothing under a key."""
        return self._peek is not None and self._peek(pool, env_id, key) is None

    def ask(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what the side answers to a host's lookup, or None where asking would change it."""
        if not self.may_ask:
            return None
        try:
            if pool == "init":
                return self.cache.get_init_cache(env_id, key)
            return getattr(self.cache, _GET[pool])(key)
        except Exception as error:
            return Unreadable(error)

    def covered(self, pool: Pool, env_id: int | None) -> list[tuple[Pool, int | None]]:
        """List the pools that a clear of one pool (of one env, or of all for None) empties."""
        return [
            (each, env)
            for each, env, _ in self.model.pools()
            if pool == "all" or (each == pool and (env_id is None or env == env_id))
        ]

    def holds(self, stored: Stored) -> bool:
        """Tell whether the side's model still holds this very set."""
        return self.model.pool(stored.pool, stored.env_id).peek(stored.key) is stored

    def keys(self, pool: Pool, env_id: int | None) -> Collection[int] | None:
        """List the keys a pool holds, or None if the side can't tell."""
        if self._live_keys is None:
            return None
        found: Any = self._live_keys(pool, env_id)
        return found if hasattr(found, "__len__") else list(found)


def entry_leaves(entry: Any) -> list[Leaf] | None:
    """List the leaves of what a side answered, or None if that is no entry; a lent one stays as it is."""
    try:
        found = leaves(readable(entry))
        for tensor, size in found:
            _ = tensor.shape, tensor.dtype, tensor.device, size + 0
    except Exception:  # whatever a foreign object raises, it is no entry
        return None
    return found


def policies(control: Any, candidate: Any) -> tuple[CachePolicy, CachePolicy, int, list[str]]:
    """Find out what both sides promise.

    The kind of eviction is what each side declares. The capacities are one yardstick for both: what the shared config
    asks for where a side carries one, else what the control declares. A side that differs is off, not excused.

    Args:
        control: Trusted cache.
        candidate: New cache.

    Returns:
        Policy of the control, of the candidate, number of envs, and what had to be assumed, one sentence each.

    Raises:
        ValueError: If nothing says how large either side is.
    """
    declared = {name: _declared(cache) for name, cache in (("control", control), ("candidate", candidate))}
    envs = next((n for n in (getattr(side, "env_num", None) for side in (control, candidate)) if isinstance(n, int)), 0)
    wanted = None
    for side in (control, candidate):
        if wanted is None and envs and getattr(side, "config", None) is not None:
            try:
                wanted = CacheCapacities.from_config(side.config, envs)
            except ValueError:
                wanted = None
    stated = [policy.capacities for policy in declared.values() if policy is not None]
    if wanted is None or (stated and wanted not in stated):
        wanted = stated[0] if stated else wanted
    if wanted is None:
        raise ValueError(
            "neither control nor candidate says how many entries it may hold; give one of them a policy() method that "
            "returns shadow.CachePolicy, or the attributes config and env_num"
        )
    assumed = []
    found = []
    for name, policy in declared.items():
        if policy is None:
            assumed.append(f"{name} declares no policy; FIFO with {wanted} is assumed")
        elif policy.capacities != wanted:
            assumed.append(f"{name} declares {policy.capacities}, but {wanted} is what both are held to")
        found.append(CachePolicy("fifo", wanted) if policy is None else replace(policy, capacities=wanted))
    return found[0], found[1], envs or wanted.wm, assumed


def _declared(cache: Any) -> CachePolicy | None:
    declare = getattr(cache, "policy", None)
    policy = declare() if callable(declare) else None
    return policy if isinstance(policy, CachePolicy) else None


def storages(entry: Sequence[Leaf]) -> set[int]:
    """Return the addresses of the storages behind an entry's buffers."""
    return {leaf.tensor.untyped_storage().data_ptr() for leaf in entry if leaf.tensor.numel()}


class Given(NamedTuple):
    """The memory of one entry that a side was given to store.

    Attributes:
        first: Its first buffer, held weakly: once that is gone nobody writes there as its owner, and what lies at these
            addresses may be somebody else's.
        addresses: Where its buffers begin.
        nbytes: Bytes of each, at most.
    """

    first: weakref.ref[Tensor]
    addresses: tuple[int, ...]
    nbytes: int


def memory_of(entry: Any) -> Given | None:
    """Return where the memory of an entry that is not plain lies; None for one without any."""
    buffers = [leaf.tensor for leaf in leaves(readable(entry)) if leaf.tensor.numel()]
    if not buffers:
        return None
    stores = [buffer.untyped_storage() for buffer in buffers]
    return Given(
        weakref.ref(buffers[0]), tuple(store.data_ptr() for store in stores), max(store.nbytes() for store in stores)
    )

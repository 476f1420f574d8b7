"""How the validator reads one side between operations, without its noticing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from reports.record.words import Fault
from shadow.interface import CachePolicy, offered
from shadow.memory.buffers import Leaf
from shadow.operation import Pool
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves
from validator.models.side_model import SideModel
from validator.models.stored import Stored

Digests = Callable[[Sequence[Leaf]], Digest]


class Unreadable:
    """Stands for an entry that a side raised about instead of showing it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class SideView:
    """One side: its cache, its model, and how to look into it.

    Looking prefers ``peek`` and ``live_keys``, which leave no trace. A cache without them, or a subclass that keeps
    its entries elsewhere than they look, is asked through ``get``; under LRU, or where nobody knows, that would change
    its ages, so there it is not asked at all.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache.
        policy: What it declares, or what is assumed.
        env_num: Number of environments, None where nobody says it.
        digest: Digests the leaves of an entry, wherever they lie.
    """

    def __init__(self, name: str, cache: Any, policy: CachePolicy, env_num: int | None, digest: Digests) -> None:
        self.name = name
        self.fault = Fault(name)
        self.cache = cache
        self.model = SideModel(policy, env_num)
        self._peek = offered(cache, "peek")
        self._live_keys = offered(cache, "live_keys")
        self.may_ask = policy.kind not in ("lru", "undeclared")
        self.digest = digest
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

    def held(self, stored: Stored) -> list[Leaf] | None:
        """Return the leaves of what the side holds where a set went, or None if that is no entry."""
        return entry_leaves(self.read(stored.pool, stored.env_id, stored.key))

    def intact(self, stored: Stored) -> list[Leaf] | None:
        """Return the leaves of what the side holds where a set went if that is still what was stored, else None."""
        found = self.held(stored)
        return found if found is not None and self.digest(found) == stored.digest else None

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
            return getattr(self.cache, f"get_{pool}_cache")(*((env_id,) if pool == "init" else ()), key)
        except Exception as error:
            return Unreadable(error)

    def holds(self, stored: Stored) -> bool:
        """Tell whether the side's model still holds this very set."""
        return self.model.pool(stored.pool, stored.env_id).peek(stored.key) is stored

    def keys(self, pool: Pool, env_id: int | None) -> Collection[int] | None:
        """List the keys a pool holds, or None if the side can't tell."""
        if self._live_keys is None:
            return None
        found: Any = self._live_keys(pool, env_id)
        return found if hasattr(found, "__len__") else list(found)

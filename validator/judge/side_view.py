"""How the validator reads one side of a keyed shape between operations, without its noticing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

from shadow.memory.buffers import Leaf
from shadow.operation import Pool
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves
from validator.judge.side import Report, Side, Unreadable, described
from validator.models.side_model import SideModel
from validator.models.stored import PoolModel, Stored

Digests = Callable[[Sequence[Leaf]], Digest]

_LISTS: tuple[type, ...] = (list, tuple, set, frozenset, type({}.keys()))  # whose length and order can be believed
_MOST_KEYS = 1 << 20
_MOST_MORE = 1024  # keys listed beyond twice what a pool may hold, after which nobody listens


class Reader(Protocol):
    """How one side is read and mended, by pool, env and key; one a shape of cache.

    Attributes:
        peek: Returns a stored entry itself and leaves no trace; None where the side has no such method.
        live_keys: Lists the keys that a pool holds and leaves no trace; None likewise.
    """

    peek: Callable[[Pool, int | None, Any], Any] | None
    live_keys: Callable[[Pool, int | None], Any] | None

    def get(self, pool: Pool, env_id: int | None, key: Any) -> Any:
        """Return what the side answers to a host, None for nothing."""

    def set(self, pool: Pool, env_id: int | None, key: Any, entry: Any) -> None:
        """Store an entry as a host does."""


class SideView(Side):
    """One side of a keyed shape: its cache, its model, and how to look into it.

    Looking prefers ``peek`` and ``live_keys``, which leave no trace. A cache without them, or a subclass that keeps
    its entries elsewhere than they look, is asked through ``get``; under LRU, or where nobody knows, that would change
    its ages, so there it is not asked at all. An optional method that raises, or answers what can't be, is charged and
    never asked again.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache.
        model: What it should hold.
        digest: Digests the leaves of an entry, wherever they lie.
        reader: Makes the reader of a cache; see ``KeyedShape``.
        report: Told of what its optional methods raise, answer that can't be, or do to the process.

    Attributes:
        keeps_the_hosts: Whether it stores the very objects that the host gives it.
    """

    def __init__(
        self,
        name: str,
        cache: Any,
        model: SideModel,
        digest: Digests,
        reader: Callable[[Any, Callable[[str, int], Any]], Reader],
        report: Report,
    ) -> None:
        super().__init__(name, cache, report)
        self.model = model
        self.may_ask = model.policy.kind not in ("lru", "undeclared", "expiring")
        self.keeps_the_hosts = False
        self.digest = digest
        self.evictions = f"evictions_{name}"  # what its evictions are counted under
        self.reader = reader(cache, self._method)
        self._peek = self.reader.peek
        self._live_keys = self.reader.live_keys

    @property
    def by_reference(self) -> bool:
        """Whether it stores what it is given itself, as it declares or as is usual of its shape."""
        return self.model.policy.stores == "reference"

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

    def distrust_keys(self) -> None:
        """Go by what the models say from now on: the cache holds more than it lists."""
        self._live_keys = None

    def read(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what the side holds under a key of one pool, or None."""
        found = self.shown(pool, env_id, key)
        return self.ask(pool, env_id, key) if found is None else found

    def held(self, stored: Stored) -> list[Leaf] | None:
        """Return the leaves of what the side holds where a set went, or None if that is no entry."""
        return entry_leaves(self.read(stored.pool, stored.env_id, stored.key))

    def intact(self, stored: Stored) -> list[Leaf] | None:
        """Return the leaves of what the side holds where a set went if that is still what was stored, else None."""
        found = self.held(stored)
        return found if found is not None and self.digest(found) == stored.digest else None

    def shown(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what a side that can be looked into holds under a key, or None; nobody is asked."""
        if self._peek is None:
            return None
        found = self._called("peek", self._peek, pool, env_id, key)
        return None if type(found) is Unreadable and not self._refused_to_show(found) else found

    def shows_nothing(self, pool: Pool, env_id: int | None, key: int) -> bool:
        """Tell whether a side that can be looked into holds nothing under a key."""
        if self._peek is None:
            return False
        found = self._called("peek", self._peek, pool, env_id, key)
        return found is None or (type(found) is Unreadable and self._refused_to_show(found))

    def _refused_to_show(self, refusal: Unreadable) -> bool:
        """Charge the side with what its peek raised, and never look into it again; False, since it showed nothing."""
        self._peek = None
        self.misbehaved("peek", refusal.error)
        return False

    def ask(self, pool: Pool, env_id: int | None, key: Any) -> Any:
        """Return what the side answers to a host's lookup, or None where asking would change it."""
        return self._answer(pool, env_id, key) if self.may_ask else None

    def answers(self, pool: Pool, env_id: int | None, key: int) -> Any:
        """Return what the side answers for a key that it should not hold: a miss changes no age, whatever the policy.

        Nothing is asked of a side that declares that its misses count.
        """
        found = self.shown(pool, env_id, key)
        if found is not None or self.model.policy.misses_count:
            return found
        return self._answer(pool, env_id, key)

    def _answer(self, pool: Pool, env_id: int | None, key: int) -> Any:
        return self._called(f"get.{pool}", self.reader.get, pool, env_id, key)

    def holds(self, stored: Stored) -> bool:
        """Tell whether the side's model still holds this very set."""
        return self.model.pool(stored.pool, stored.env_id).peek(stored.key) is stored

    def keys(self, pool: Pool, env_id: int | None) -> Collection[int] | None:
        """List the keys a pool holds, or None if the side can't tell."""
        if self._live_keys is None:
            return None
        found = self._called("live_keys", self._listed, pool, env_id)
        if type(found) in _LISTS:
            listed: Collection[int] = found
            return listed
        self._live_keys = None
        self.misbehaved("live_keys", found.error if type(found) is Unreadable else found)
        return None

    def unexpected(self, pool: Pool, env_id: int | None, model: PoolModel) -> list[int] | None:
        """List the keys that a pool holds and its model doesn't, or None if the side can't tell."""
        listed = self.keys(pool, env_id)
        if listed is None:
            return None
        found = self._called("live_keys", lambda: [key for key in listed if model.peek(key) is None])
        if type(found) is list:
            return found
        self._live_keys = None
        self.misbehaved("live_keys", "what is no key" if type(found.error) is TypeError else found.error)
        return None

    def _listed(self, pool: Pool, env_id: int | None) -> Any:
        assert self._live_keys is not None
        found = self._live_keys(pool, env_id)
        if type(found) in _LISTS:
            return found
        if not isinstance(found, Iterable) or isinstance(found, (str, bytes)):
            return described(found)
        most = min(2 * self.model.pool(pool, env_id).capacity, _MOST_KEYS) + _MOST_MORE
        listed = list(islice(found, most + 1))
        return listed if len(listed) <= most else f"more than {most:,} keys"

"""How the validator reads one side between operations, without its noticing."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
from torch import is_grad_enabled, is_inference_mode_enabled

from reports.record.words import Fault
from shadow.interface import CachePolicy, offered
from shadow.memory.buffers import Leaf
from shadow.operation import Pool
from shadow.outside import from_outside
from shadow.wrapper import process_state
from validator.entries.digest import Digest
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.models.side_model import SideModel
from validator.models.stored import PoolModel, Stored

Digests = Callable[[Sequence[Leaf]], Digest]

_LOOK_FIRST = 1  # calls of a method around which all state of the process is looked at
_LISTS: tuple[type, ...] = (list, tuple, set, frozenset, type({}.keys()))  # whose length and order can be believed
_MOST_KEYS = 1 << 20
_MOST_MORE = 1024  # keys listed beyond twice what a pool may hold, after which nobody listens


class Unreadable:
    """Stands for an entry that a side raised about instead of showing it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Report(Protocol):
    """Where goes what a side, by its name, does outside of operations."""

    def misbehaved(self, name: str, method: str, what: BaseException | str) -> None:
        """Charge it with what it raised, or with the odd thing that it answered, in one of its methods."""

    def meddled(self, name: str, changed: list[str], note: str) -> None:
        """Charge it with having changed process-wide state."""


def tried(report: Report, name: str, call: Callable[..., Any], *args: Any) -> Any:
    """Ask a side for something outside of operations.

    Nobody but the validator asks for this, so whatever it does to the process is put back, whichever side it is.

    Args:
        report: Told of what it changes.
        name: The side.
        call: Asks it.
        args: What ``call`` is given.

    Returns:
        What it answers, or ``Unreadable`` if it raised; but what came from outside is raised here too.
    """
    before = process_state.state()
    try:
        return call(*args)
    except BaseException as error:
        if from_outside(error):
            raise
        return Unreadable(error)
    finally:
        _put_back(report, name, before, process_state.EVERYTHING)


def _put_back(report: Report, name: str, before: process_state.State, parts: tuple[process_state.Part, ...]) -> None:
    changed = process_state.changed(before, process_state.state(parts), parts)
    if changed:
        report.meddled(name, changed, words.put_back(process_state.put_back(before, parts)))


class SideView:
    """One side: its cache, its model, and how to look into it.

    Looking prefers ``peek`` and ``live_keys``, which leave no trace. A cache without them, or a subclass that keeps
    its entries elsewhere than they look, is asked through ``get``; under LRU, or where nobody knows, that would change
    its ages, so there it is not asked at all. An optional method that raises, or answers what can't be, is charged and
    never asked again.

    Args:
        name: ``control`` or ``candidate``.
        cache: The cache.
        policy: What it declares, or what is assumed.
        env_num: Number of environments, None where nobody says it.
        digest: Digests the leaves of an entry, wherever they lie.
        report: Told of what its optional methods raise, answer that can't be, or do to the process.

    Attributes:
        wary: Whether all state of the process is looked at around every call from here on.
    """

    def __init__(
        self, name: str, cache: Any, policy: CachePolicy, env_num: int | None, digest: Digests, report: Report
    ) -> None:
        self.name = name
        self.fault = Fault(name)
        self.cache = cache
        self.model = SideModel(policy, env_num)
        self.may_ask = policy.kind not in ("lru", "undeclared")
        self.digest = digest
        self.label = f"{name} ({type(cache).__name__})"
        self.evictions = f"evictions_{name}"  # what its evictions are counted under
        self._report = report
        self._fresh: dict[str, int] = {}
        self._peek = self._method("peek", 3)
        self._live_keys = self._method("live_keys", 2)
        self._tells_nbytes = True
        self.wary = False

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
        method = "hierarchical_get" if pool == "hierarchical" else f"get_{pool}_cache"
        return self._called(method, self._get, method, *(() if env_id is None else (env_id,)), key)

    def _get(self, method: str, *args: Any) -> Any:
        return getattr(self.cache, method)(*args)

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

    def nbytes(self) -> int | None:
        """Return how many bytes the side says that it holds, or None if it doesn't."""
        if not self._tells_nbytes:
            return None
        found = self._called("nbytes", offered, self.cache, "nbytes")
        if type(found) is int or issubclass(type(found), np.integer):
            found = operator.index(found)
            if 0 <= found < 1 << 63:
                return found
        self._tells_nbytes = False
        if type(found) is Unreadable:
            self.misbehaved("nbytes", found.error)
        elif found is not None and not callable(found):
            self.misbehaved("nbytes", f"{_described(found)} as a size")
        return None

    def misbehaved(self, method: str, what: BaseException | str) -> None:
        """Charge the side with what it raised, or with the odd thing that it answered."""
        self._report.misbehaved(self.name, method, what)

    def _method(self, name: str, arguments: int) -> Any:
        found = tried(self._report, self.name, offered, self.cache, name)
        if type(found) is Unreadable:
            self.misbehaved(name, found.error)
        return found if callable(found) and _takes(found, arguments) else None

    def _called(self, method: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call an optional method as ``tried`` does; after the first calls only modes of this thread are looked at."""
        count = self._fresh.get(method, 0)
        if count < _LOOK_FIRST or self.wary:
            self._fresh[method] = count + 1
            return tried(self._report, self.name, call, *args)
        grad, inference = is_grad_enabled(), is_inference_mode_enabled()
        try:
            return call(*args)
        except BaseException as error:
            if from_outside(error):
                raise
            return Unreadable(error)
        finally:
            if is_grad_enabled() is not grad or is_inference_mode_enabled() is not inference:
                _put_back(self._report, self.name, (inference, grad), process_state.THREAD)

    def _listed(self, pool: Pool, env_id: int | None) -> Any:
        assert self._live_keys is not None
        found = self._live_keys(pool, env_id)
        if type(found) in _LISTS:
            return found
        if not isinstance(found, Iterable) or isinstance(found, (str, bytes)):
            return _described(found)
        most = min(2 * self.model.pool(pool, env_id).capacity, _MOST_KEYS) + _MOST_MORE
        listed = list(islice(found, most + 1))
        return listed if len(listed) <= most else f"more than {most:,} keys"


def _described(found: object) -> str:
    """Name what a method answered: a number as it is, anything else by its type."""
    return f"{found!r:.40}" if type(found) in (int, float, bool) else f"a {type(found).__name__}"


def _takes(method: Any, arguments: int) -> bool:
    """Tell whether a method can be called with so many arguments; another one of the same name is none of ours."""
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError:
        return False
    except Exception:  # nobody can tell before it is called
        return True
    return True

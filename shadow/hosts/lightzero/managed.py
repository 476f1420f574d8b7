"""Puts the shadow into one world model that asks a manager object, and takes it out again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from shadow.hosts.lightzero.attachment import ATTRIBUTE
from shadow.hosts.lightzero.inline import ROOTS
from shadow.hosts.lightzero.package import METHODS, PackageStore
from shadow.wrapper.unpicklable import Unpicklable


class ManagedAttachment:
    """The shadow of one world model in manager mode.

    Args:
        model: LightZero's world model.
        store: Its ``kv_cache_manager`` as one side.
        serving: The side that serves the model.
        wake: Makes the shadow of both sides. Called at the first lookup or set.
        on_search: Called after each initial inference of a model whose cache is in use.
    """

    def __init__(
        self,
        model: Any,
        store: PackageStore,
        serving: Any,
        wake: Callable[[], Any],
        on_search: Callable[[Any], None],
    ) -> None:
        self.model = model
        self.store = store
        self.serving = serving
        self.shadow: Any = None
        self._wake = wake
        self._on_search = on_search
        self.put_in()

    def put_in(self) -> None:
        """Put a facade in the place of the manager."""
        model = self.model
        model.kv_cache_manager = ManagerFacade(self)
        model.__dict__[ROOTS] = partial(self._rooted, getattr(model, ROOTS))
        model.__dict__[ATTRIBUTE] = self

    def take_out(self) -> None:
        """Leave the world model as LightZero built it."""
        self.model.kv_cache_manager = self.store.manager
        for name in (ROOTS, ATTRIBUTE):
            self.model.__dict__.pop(name, None)

    def copied_to(self, clone: Any, attach_copy: Callable[[Any], Any]) -> None:
        """Attach to a deep copy of the world model, made while this attachment was taken out.

        Args:
            clone: The copy.
            attach_copy: Makes an attachment for a copy that holds nothing yet.
        """
        twin = attach_copy(clone)
        pools = (*self.store.init_pools, self.store.recur_pool, self.store.wm_pool)
        if self.shadow is not None and any(len(pool) for pool in pools):
            twin.take_out()
            memo = {id(self.store): twin.store}
            twin.shadow = copy.deepcopy(self.shadow, memo)
            twin.serving = memo[id(self.serving)]
            twin.put_in()

    def wake(self) -> Any:
        """Make the shadow, if there is none yet, and return it."""
        if self.shadow is None:
            self.shadow = self._wake()
        return self.shadow

    def _rooted(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if self.shadow is not None:
            self._on_search(self.shadow)
        return result


class ManagerFacade(Unpicklable):
    """What a world model in manager mode gets in the place of its manager.

    Operations go through the shadow, clears of single pools included; everything else (statistics, scratch lists,
    ``init_pools[env_id]._key_to_index``) is read off the side that serves the model.

    Args:
        attachment: Where the shadow comes from.
    """

    def __init__(self, attachment: ManagedAttachment) -> None:
        self._attachment = attachment
        self._serving = serving = attachment.serving
        for name in (*METHODS, "clear_init_cache"):
            if name not in ("get_stats_summary", "reset_stats"):
                setattr(self, name, partial(self._operate, name))
        self.init_pools = [
            _PoolFacade(pool, partial(self._operate, "clear_init_cache", env_id))
            for env_id, pool in enumerate(serving.init_pools)
        ]
        self.recur_pool = _PoolFacade(serving.recur_pool, partial(self._operate, "clear_recur_cache"))

    def __getattr__(self, name: str) -> Any:
        if name == "_serving":  # while a copy of this is under construction
            raise AttributeError(name)
        return getattr(self._serving, name)

    def _operate(self, name: str, *args: Any, **kwargs: Any) -> Any:
        attachment = self._attachment
        if attachment.shadow is None and name.startswith("clear"):
            return getattr(self._serving, name)(*args, **kwargs)  # nobody has stored yet, so both sides are empty
        return getattr(attachment.wake(), name)(*args, **kwargs)


class _PoolFacade:
    """One pool of the serving side, whose ``clear`` goes through the shadow."""

    def __init__(self, pool: Any, clear: Callable[[], Any]) -> None:
        self._facade_of = pool
        self.clear = clear

    def get(self, cache_key: int) -> Any:
        """Refuse: a lookup that goes past the manager would not be compared."""
        raise NotImplementedError("look up through the manager: a pool asked directly is not validated")

    def set(self, cache_key: int, kv_cache: Any) -> Any:
        """Refuse: a set that goes past the manager would not be compared."""
        raise NotImplementedError("store through the manager: a pool written directly is not validated")

    def __getattr__(self, name: str) -> Any:
        if name == "_facade_of":
            raise AttributeError(name)
        return getattr(self._facade_of, name)

    def __len__(self) -> int:
        return len(self._facade_of)

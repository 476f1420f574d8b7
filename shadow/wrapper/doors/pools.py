"""The door of a cache of four pools, LightZero's: one cache to the host, two underneath."""

from __future__ import annotations

import copy
import threading
from typing import Any, Final

from shadow.operation import Observer, Operation
from shadow.wrapper.both import LOOK_FIRST, Both
from shadow.wrapper.forks import tell_in_children
from shadow.wrapper.likeness import Likeness
from shadow.wrapper.unpicklable import Unpicklable

GET_INIT: Final = Operation("get_init_cache", "get", "init", "get.init")
GET_RECUR: Final = Operation("get_recur_cache", "get", "recur", "get.recur")
GET_WM: Final = Operation("get_wm_cache", "get", "wm", "get.wm")
GET_HIERARCHICAL: Final = Operation("hierarchical_get", "get", "hierarchical", "get.hierarchical")
SET_INIT: Final = Operation("set_init_cache", "set", "init", "set.init")
SET_RECUR: Final = Operation("set_recur_cache", "set", "recur", "set.recur")
SET_WM: Final = Operation("set_wm_cache", "set", "wm", "set.wm")
CLEAR_ALL: Final = Operation("clear_all", "clear", "all", "clear.all")
CLEAR_INIT: Final = Operation("clear_init_caches", "clear", "init", "clear.init")
CLEAR_INIT_ENV: Final = Operation("clear_init_cache", "clear", "init", "clear.init_env")
CLEAR_RECUR: Final = Operation("clear_recur_cache", "clear", "recur", "clear.recur")

OPERATIONS: Final = (
    *(GET_INIT, GET_RECUR, GET_WM, GET_HIERARCHICAL, SET_INIT, SET_RECUR, SET_WM),
    *(CLEAR_ALL, CLEAR_INIT, CLEAR_INIT_ENV, CLEAR_RECUR),
)


class ShadowCache(Unpicklable, Likeness):
    """Sends every operation to both sides and answers with the primary's own object.

    The host can't tell it from the primary alone: it receives the very object the primary returned and the exception
    the primary raised. The secondary works on private copies of what the host stores; what it raises is recorded and
    goes no further, and neither does a failure of the observer. Which side is called first is drawn for each operation
    from a private generator, so that neither always finds the processor's caches warm.

    Made by ``Lockstep.shadow``; the interface is that of ``CacheStore``.

    Args:
        control: The trusted cache.
        candidate: The new one.
        observer: Told of every operation.
        primary: ``control`` or ``candidate``: whose answers the host receives.
        seed: Seed of the private generator.
        look_first: Operations of each kind around which all state of the process is looked at.

    Raises:
        ValueError: If ``primary`` is neither, or both sides are one object.
    """

    def __init__(
        self,
        control: Any,
        candidate: Any,
        observer: Observer,
        primary: str = "control",
        seed: int = 0,
        look_first: int = LOOK_FIRST,
    ) -> None:
        if primary not in ("control", "candidate"):
            raise ValueError(f"primary must be 'control' or 'candidate', got {primary!r}")
        if control is candidate:
            raise ValueError("control and candidate are the same object; it would only be compared with itself")
        self._control = control
        self._candidate = candidate
        self._observer = observer
        self._control_is_primary = primary == "control"
        self._primary = control if self._control_is_primary else candidate
        self._secondary = candidate if self._control_is_primary else control
        self._seed = seed
        self._lock = observer.lock
        # What is hot is in a plain object: looking up attributes of one that passes them on is slow.
        self._look_first = look_first
        self._both = Both(
            self._primary, self._secondary, observer, self._control_is_primary, OPERATIONS, seed, look_first
        )
        self._run = self._both.run
        tell_in_children(self)
        self._made = True  # from here on what the host sets is the primary's

    def get_init_cache(self, env_id: int, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a root entry of one env on both sides; return the primary's answer."""
        return self._run(GET_INIT, env_id, cache_key, (env_id, cache_key), more, named)

    def get_recur_cache(self, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a search node's entry on both sides; return the primary's answer."""
        return self._run(GET_RECUR, None, cache_key, (cache_key,), more, named)

    def get_wm_cache(self, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a batch copy on both sides; return the primary's answer."""
        return self._run(GET_WM, None, cache_key, (cache_key,), more, named)

    def hierarchical_get(self, env_id: int, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look in the init pool of an env, then in the recurrent pool, on both sides; return the primary's answer."""
        return self._run(GET_HIERARCHICAL, env_id, cache_key, (env_id, cache_key), more, named)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a root entry of one env on both sides; return the primary's answer."""
        return self._run(SET_INIT, env_id, cache_key, (env_id, cache_key, kv_cache), more, named)

    def set_recur_cache(self, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a search node's entry on both sides; return the primary's answer."""
        return self._run(SET_RECUR, None, cache_key, (cache_key, kv_cache), more, named)

    def set_wm_cache(self, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a batch copy on both sides; return the primary's answer."""
        return self._run(SET_WM, None, cache_key, (cache_key, kv_cache), more, named)

    def clear_all(self, *more: Any, **named: Any) -> Any:
        """Clear every pool of both sides."""
        return self._run(CLEAR_ALL, None, None, (), more, named)

    def clear_init_caches(self, *more: Any, **named: Any) -> Any:
        """Clear the init pools of all envs on both sides."""
        return self._run(CLEAR_INIT, None, None, (), more, named)

    def clear_init_cache(self, env_id: int, *more: Any, **named: Any) -> Any:
        """Clear the init pool of one env on both sides."""
        return self._run(CLEAR_INIT_ENV, env_id, None, (env_id,), more, named)

    def clear_recur_cache(self, *more: Any, **named: Any) -> Any:
        """Clear the recurrent pool of both sides."""
        return self._run(CLEAR_RECUR, None, None, (), more, named)

    def get_stats_summary(self) -> dict[str, Any]:
        """Return the primary's own statistics; hit rates of both sides are in the run directory."""
        found: dict[str, Any] = self._primary.get_stats_summary()
        return found

    def reset_stats(self) -> None:
        """Reset the statistics of both sides."""
        self._primary.reset_stats()
        with self._lock:
            _, error = self._both.aside(self._secondary, "reset_stats", ())
            if error is not None:
                self._observer.misbehaved("reset_stats", error)

    @property
    def observer(self) -> Observer:
        """Who is told of every operation."""
        told: Observer = self._observer
        return told

    def __copy__(self) -> ShadowCache:
        return self  # a shallow copy of a cache has the same pools

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with self._lock:
            own = copy.deepcopy(self._primary, memo)
            if own is self._primary:  # one for all: then the host has this shadow in its copy too
                return self
            other, problem = self._both.aside(copy, "deepcopy", (self._secondary, dict(memo)))
            what = "itself" if other is self._secondary else "nothing" if other is None else ""
            if problem is not None or what:
                self._observer.misbehaved("__deepcopy__", problem or what)
                return own
            sides = (own, other) if self._control_is_primary else (other, own)
            try:
                observer = self._observer.copied(*sides)
                primary = "control" if self._control_is_primary else "candidate"
                clone = ShadowCache(*sides, observer, primary, self._seed, self._look_first)
            except Exception as error:
                self._observer.harness_failed("copied", error)
                return own
            if self._run == self._both.run_alone:
                clone.in_forked_child()
            return clone

    def in_forked_child(self) -> None:
        """Become the primary alone: nobody watches in a forked child, and the first operation there says so."""
        self._lock = self._observer.lock = threading.RLock()
        self._run = self._both.run_alone

    def __repr__(self) -> str:
        names = (type(self._control).__name__, type(self._candidate).__name__)
        return f"ShadowCache(control={names[0]}, candidate={names[1]}, primary={type(self._primary).__name__})"

"""The door of a cache of four pools, LightZero's: one cache to the host, two underneath."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from shadow.operation import Operation
from shadow.wrapper.doors.door import Door

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


class ShadowCache(Door):
    """A cache of four pools; made by ``Lockstep.shadow``, the interface is that of ``CacheStore``."""

    _operations: ClassVar[tuple[Operation, ...]] = OPERATIONS

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

    def __copy__(self) -> ShadowCache:
        return self  # a shallow copy of a cache has the same pools

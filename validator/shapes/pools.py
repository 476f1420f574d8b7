"""Caches of four pools, as LightZero has them: roots by env, nodes of the search, batch copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shadow.operation import Operation, Pool
from shadow.wrapper.both import LOOK_FIRST
from shadow.wrapper.doors.pools import OPERATIONS, ShadowCache
from validator.judge.case import Pairing
from validator.judge.shape import Promised
from validator.judge.side import Report
from validator.models.places import Places
from validator.observe.keyed_pair import KeyedPair
from validator.observe.pair import Pair, Session
from validator.shapes.promises import promised


class PoolsReader:
    """Reads one side through the interface of ``CacheStore``; see ``validator.judge.side_view.Reader``."""

    def __init__(self, cache: Any, offered: Callable[[str, int], Any]) -> None:
        self._cache = cache
        self.peek = offered("peek", 3)
        self.live_keys = offered("live_keys", 2)

    def get(self, pool: Pool, env_id: int | None, key: Any) -> Any:
        method = "hierarchical_get" if pool == "hierarchical" else f"get_{pool}_cache"
        return getattr(self._cache, method)(*(() if env_id is None else (env_id,)), key)

    def set(self, pool: Pool, env_id: int | None, key: Any, entry: Any) -> None:
        getattr(self._cache, f"set_{pool}_cache")(*(() if env_id is None else (env_id,)), key, entry)


class PoolsShape:
    """The four pools; see ``Shape`` and ``validator.judge.shape.KeyedShape``."""

    name = "pools"
    spared: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = OPERATIONS
    places = Places(
        single=("recur", "wm"),
        per_env=("init",),
        of_search=("recur",),
        searched={"hierarchical": ("init", "recur")},
    )
    reader = PoolsReader

    def takes(self, cache: Any) -> bool:
        return hasattr(cache, "get_init_cache")

    def promised(self, control: Any, candidate: Any, report: Report) -> Promised:
        return promised(control, candidate, report)

    def pair(self, pairing: Pairing, session: Session) -> Pair:
        return KeyedPair(pairing, self, session)

    def door(self, pairing: Pairing, pair: Pair, seed: int, look_first: int = LOOK_FIRST) -> ShadowCache:
        return ShadowCache(pairing.control, pairing.candidate, pair, pairing.primary, seed, look_first)

    def let_be(self, cache: Any) -> None:
        cache.in_forked_child()

"""Any mutable mapping as a keyed cache of one pool."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from shadow.operation import Operation, Pool
from shadow.wrapper.both import LOOK_FIRST
from shadow.wrapper.doors.mapping import ENTRIES, OPERATIONS, ShadowMapping
from validator.judge.case import Pairing
from validator.judge.shape import Promised
from validator.judge.side import Report
from validator.models.places import Places
from validator.observe.keyed_pair import KeyedPair
from validator.observe.pair import Pair, Session
from validator.shapes.mapping_policies import known_peek, promised, refusal

Peek = Callable[[Pool, int | None, Any], Any]
LiveKeys = Callable[[Pool, int | None], Any]


class MappingReader:
    """Reads one side through its own protocol; see ``validator.judge.side_view.Reader``.

    Keys are those that it lists by iteration. It is looked into by its own ``peek(key)``, or past what its class does
    at a lookup where that is known; see ``known_peek``.
    """

    def __init__(self, cache: Any, offered: Callable[[str, int], Any]) -> None:
        self._cache = cache
        look = known_peek(cache) or offered("peek", 1)
        self.peek: Peek | None = None if look is None else lambda _pool, _env_id, key: look(key)
        self.live_keys: LiveKeys | None = lambda _pool, _env_id: list(cache)

    def get(self, pool: Pool, env_id: int | None, key: Any) -> Any:
        try:
            return self._cache[key]
        except KeyError:
            return None

    def set(self, pool: Pool, env_id: int | None, key: Any, entry: Any) -> None:
        self._cache[key] = entry


class MappingShape:
    """Mutable mappings; see ``Shape`` and ``validator.judge.shape.KeyedShape``."""

    name = "mapping"
    spared: tuple[str, ...] = ("clears", "weight_updates", "every_env", "ring_wraps")  # a training's, or of a ring
    operations: tuple[Operation, ...] = OPERATIONS
    places = Places(single=(ENTRIES,))

    def reader(self, cache: Any, offered: Callable[[str, int], Any]) -> MappingReader:
        return MappingReader(cache, offered)

    def takes(self, cache: Any) -> bool:
        return isinstance(cache, MutableMapping)

    def promised(self, control: Any, candidate: Any, report: Report) -> Promised:
        return promised(control, candidate, report)

    def pair(self, pairing: Pairing, session: Session) -> Pair:
        for side, cache in (("control", pairing.control), ("candidate", pairing.candidate)):
            why = refusal(side, cache)
            if why:
                raise ValueError(why)
        return KeyedPair(pairing, self, session)

    def door(self, pairing: Pairing, pair: Pair, seed: int, look_first: int = LOOK_FIRST) -> ShadowMapping:
        reuses = not pair.case.secondary.by_reference
        return ShadowMapping(pairing.control, pairing.candidate, pair, pairing.primary, seed, look_first, reuses)

    def let_be(self, cache: Any) -> None:
        cache.in_forked_child()

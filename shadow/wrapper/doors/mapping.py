"""The door of a mutable mapping: the whole protocol, each verb on both sides."""

from __future__ import annotations

import copy
from collections.abc import ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import Any, ClassVar, Final

from shadow.operation import Operation
from shadow.wrapper.doors.door import Door

ENTRIES: Final = "entries"  # the one pool that a mapping is
_ABSENT = (KeyError,)
GET: Final = Operation("__getitem__", "get", ENTRIES, "get.entries", _ABSENT)
FIND: Final = Operation("get", "get", ENTRIES, "get.entries")
HAS: Final = Operation("__contains__", "has", ENTRIES, "has.entries")
SET: Final = Operation("__setitem__", "set", ENTRIES, "set.entries")
DELETE: Final = Operation("__delitem__", "delete", ENTRIES, "delete.entries")
POP: Final = Operation("pop", "take", ENTRIES, "get.entries", _ABSENT)
POPITEM: Final = Operation("popitem", "take", ENTRIES, "get.entries", _ABSENT)
CLEAR: Final = Operation("clear", "clear", ENTRIES, "clear.entries")

OPERATIONS: Final = (GET, FIND, HAS, SET, DELETE, POP, POPITEM, CLEAR)
_NOTHING: Any = object()


class ShadowMapping(Door, MutableMapping[Any, Any]):
    """A mapping; made by ``Lockstep.shadow``.

    ``setdefault`` and ``update`` are lookups and sets one by one. What is listed (length, iteration, ``keys``, and
    ``values`` and ``items`` where the primary's class lists them without asking itself) is the primary's own.
    """

    _operations: ClassVar[tuple[Operation, ...]] = OPERATIONS

    def __getitem__(self, key: Any) -> Any:
        return self._run(GET, None, key, (key,), (), {})

    def get(self, key: Any, default: Any = None) -> Any:
        """Look a key up on both sides; return the primary's answer, or the default if it has none."""
        found = self._run(FIND, None, key, (key,), (), {})
        return default if found is None else found

    def __contains__(self, key: Any) -> bool:
        found: bool = self._run(HAS, None, key, (key,), (), {})
        return found

    def __setitem__(self, key: Any, entry: Any) -> None:
        self._run(SET, None, key, (key, entry), (), {})

    def __delitem__(self, key: Any) -> None:
        self._run(DELETE, None, key, (key,), (), {})

    def pop(self, key: Any, default: Any = _NOTHING) -> Any:
        """Take an entry out of both sides; return the primary's, or the default if it has none."""
        try:
            return self._run(POP, None, key, (key,), (), {})
        except KeyError:
            if default is _NOTHING:
                raise
            return default

    def popitem(self, *more: Any, **named: Any) -> tuple[Any, Any]:
        """Take an entry of its own choice out of each side; return the primary's key and entry."""
        found: tuple[Any, Any] = self._run(POPITEM, None, None, (), more, named)
        return found

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Look a key up on both sides; store the default there if the primary has none."""
        found = self.get(key)
        if found is None:
            self[key] = found = default
        return found

    def clear(self) -> None:
        """Clear both sides."""
        self._run(CLEAR, None, None, (), (), {})

    def copy(self) -> Any:
        """Return a copy of the primary, which nobody watches."""
        return self._primary.copy()

    def keys(self) -> KeysView[Any]:
        """List the primary's keys."""
        found: KeysView[Any] = self._primary.keys()
        return found

    def values(self) -> ValuesView[Any]:
        """List the primary's entries; where its class looks each of them up, both sides do."""
        found: ValuesView[Any] = self._primary.values()
        return ValuesView(self) if type(self._primary).values is Mapping.values else found

    def items(self) -> ItemsView[Any, Any]:
        """List the primary's keys and entries, as ``values`` does."""
        found: ItemsView[Any, Any] = self._primary.items()
        return ItemsView(self) if type(self._primary).items is Mapping.items else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._primary)

    def __len__(self) -> int:
        return len(self._primary)

    def __or__(self, other: Any) -> Any:
        return self._primary | other

    def __ror__(self, other: Any) -> Any:
        return other | self._primary

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __copy__(self) -> Any:
        return copy.copy(self._primary)

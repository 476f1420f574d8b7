"""What stands in LightZero's place of its dicts: sees every lookup, set and clear, and sends it through the shadow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Protocol

from shadow.wrapper.unpicklable import Unpicklable


class Switchboard(Protocol):
    """Where a tap sends what it sees."""

    def looked_up(self, tap: Tap, key: Any) -> Any:
        """Run a lookup; return the slot number for the model, or None."""

    def stored(self, tap: Tap, key: Any, slot: Any) -> None:
        """Run a set."""

    def cleared(self, tap: Tap) -> None:
        """Run a clear."""


class Tap(Unpicklable, MutableMapping[Any, Any]):
    """One of LightZero's dicts, tapped. Everything that is no lookup, set or clear goes to the dict itself.

    Args:
        raw: The dict.
        switchboard: Where operations go.
        env_id: Env of an init dict, None for the recurrent one.
    """

    def __init__(self, raw: Any, switchboard: Switchboard, env_id: int | None) -> None:
        self.raw = raw
        self.env_id = env_id
        self._switchboard = switchboard

    def get(self, key: Any, default: Any = None) -> Any:
        """Look up."""
        slot = self._switchboard.looked_up(self, key)
        return default if slot is None else slot

    def __getitem__(self, key: Any) -> Any:
        slot = self._switchboard.looked_up(self, key)
        return self.raw[key] if slot is None else slot

    def __setitem__(self, key: Any, slot: Any) -> None:
        self._switchboard.stored(self, key, slot)

    def clear(self) -> None:
        """Clear."""
        self._switchboard.cleared(self)

    def __delitem__(self, key: Any) -> None:
        del self.raw[key]  # how the host makes room: a part of its set

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key: how the host makes room, a part of its set."""
        return self.raw.pop(key, *default)

    def __contains__(self, key: object) -> bool:
        return key in self.raw

    def __iter__(self) -> Iterator[Any]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        return f"Tap({self.raw!r})"


class PendingCopy:
    """Stands for a slot number between LightZero's copy of an entry and the line that enters it in a dict.

    LightZero copies first and names the key after; the shadow needs both at once. So the copy is put off until the
    key is known. Whoever wants the number earlier gets it: the copy is then made on the spot.

    Args:
        entry: What is to be copied.
        copy: LightZero's routine, bound to everything but the entry.
    """

    __slots__ = ("_copy", "_slot", "done", "entry")

    def __init__(self, entry: Any, copy: Callable[[Any], int]) -> None:
        self.entry = entry
        self.done = False
        self._copy = copy
        self._slot = -1

    def make(self, entry: Any) -> int:
        """Copy an entry (the host's own, or in its place a private copy) unless that was done, and return the slot."""
        if not self.done:
            self._slot = self._copy(entry)
            self.done = True
        return self._slot

    def __index__(self) -> int:
        return self.make(self.entry)

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        return self is other or self.__index__() == other

    def __hash__(self) -> int:
        return hash(self.__index__())


class Answer:
    """Stands for a slot number where the model is to read the candidate's entry instead of a slot."""

    def __init__(self, entry: Any) -> None:
        self.entry = entry


class AnsweringPool(list[Any]):
    """One of LightZero's pools, which also takes an ``Answer`` for an index."""

    def __getitem__(self, index: Any) -> Any:
        return index.entry if isinstance(index, Answer) else super().__getitem__(index)

"""How is a sound cache broken without touching it? By standing before it, and passing on what is not to break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shadow.entry import KeysValues, leaves
from validator.proof.faults.acts import acted, contents

Make = Callable[[Any], Any]
"""Breaks a sound cache."""

Place = tuple[Any, ...]
"""A pool, and the env if it has one: ``("init", env_id)``, ``("recur",)``, ``("wm",)``."""


class Wrapped:
    """A cache that passes everything on; faults override what they break.

    Every set goes through ``store``, every get through ``answer``, every clear through its own method.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):  # a deep copy is one of this, not of what stands behind
            raise AttributeError(name)
        return getattr(self.inner, name)

    def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
        """Store under a key; ``place`` is ``("init", env_id)``, ``("recur",)`` or ``("wm",)``."""
        return getattr(self.inner, method)(*place[1:], key, kv_cache)

    def answer(self, place: Place, method: str, key: int) -> Any:
        """Look a key up; ``place`` may also be ``("hierarchical", env_id)``."""
        return getattr(self.inner, method)(*place[1:], key)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("init", env_id), "set_init_cache", cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("recur",), "set_recur_cache", cache_key, kv_cache)

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> Any:
        return self.store(("wm",), "set_wm_cache", cache_key, kv_cache)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        return self.answer(("init", env_id), "get_init_cache", cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self.answer(("recur",), "get_recur_cache", cache_key)

    def get_wm_cache(self, cache_key: int) -> Any:
        return self.answer(("wm",), "get_wm_cache", cache_key)

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return self.answer(("hierarchical", env_id), "hierarchical_get", cache_key)


def storing(change: Callable[[KeysValues], Any]) -> Make:
    """Break what is stored: the entry is copied, changed, and then set."""

    class Storing(Wrapped):
        def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
            own = copy_of(kv_cache)
            stored = change(own) or own
            acted(contents(stored) != contents(kv_cache))
            return super().store(place, method, key, stored)

    return Storing


def answering(change: Callable[[Any], Any]) -> Make:
    """Break what is answered: every hit is copied and changed."""

    class Answering(Wrapped):
        def answer(self, place: Place, method: str, key: int) -> Any:
            found = super().answer(place, method, key)
            if found is None:
                return None
            own = copy_of(found)
            changed = change(own)
            answered = own if changed is None else changed
            acted(contents(answered) != contents(found))
            return answered

    return Answering


def raising(verb: str, every: int = 1) -> Make:
    """Raise on a kind of call: ``store``, ``answer`` or a clear's name; on every n-th one."""

    def fail(self: Any, *args: Any) -> Any:
        self.count += 1
        if self.count % every == 0:
            acted()
            raise RuntimeError(f"planted in {verb}")
        return getattr(Wrapped, verb)(self, *args) if hasattr(Wrapped, verb) else getattr(self.inner, verb)(*args)

    return type("Raising", (Wrapped,), {verb: fail})


def clearing(verb: str, *instead: str) -> Make:
    """Break a clear: other ones are called in its place, or none."""

    def clear(self: Any, *_: Any) -> None:
        acted()
        for name in instead:
            getattr(self.inner, name)()

    return type("Clearing", (Wrapped,), {verb: clear})


def asking(*pools: str) -> Make:
    """Let the hierarchical lookup ask these pools, in this order."""

    class Asking(Wrapped):
        def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
            found = None
            before = contents(super().hierarchical_get(env_id, cache_key))
            for pool in pools:
                if found is None:
                    place = (env_id,) if pool == "init" else ()
                    found = getattr(self.inner, f"get_{pool}_cache")(*place, cache_key)
            acted(contents(found) != before)
            return found

    return Asking


def meddling(change: Callable[[], Any]) -> Make:
    """Change process-wide state on every set."""

    class Meddling(Wrapped):
        def store(self, place: Place, method: str, key: int, kv_cache: Any) -> Any:
            acted()
            self.changed = change()  # kept: a mode that is dropped is left
            return super().store(place, method, key, kv_cache)

    return Meddling


_entered: list[Any] = []  # for good: one that is collected puts back what was before it, whenever that is


def entered(mode: Any) -> None:
    """Enter a mode, and don't leave it."""
    mode.__enter__()
    _entered.append(mode)


def odd(name: str, value: Any) -> Make:
    """Answer something odd in a method or an attribute that is optional; an exception is raised."""

    def answer(self: Any, *args: Any) -> Any:
        acted()
        if isinstance(value, BaseException):
            raise value
        return value

    return type("Odd", (Wrapped,), {name: property(answer) if name == "nbytes" else answer})


def copy_of(entry: Any) -> KeysValues:
    """Return a copy that shares no memory with an entry."""
    found = leaves(entry)
    own = KeysValues.empty_like(found)
    own.copy_from(found)
    return own


def pool_of(place: Place) -> tuple[str, int | None]:
    """Return a place as ``live_keys`` and ``peek`` want it."""
    return place[0], place[1] if len(place) > 1 else None

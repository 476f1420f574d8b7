"""What two mappings promise: by ``policy()``, by their class where its behaviour is known exactly, else nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from shadow.interface import CachePolicy, PolicyKind, offered
from shadow.wrapper.doors.mapping import ENTRIES
from validator.judge import words
from validator.judge.shape import Promised
from validator.judge.side import Report, Unreadable, tried

_UNDECLARED = CachePolicy("undeclared", live_results=True, stores="reference")
_UNBOUNDED = CachePolicy("fifo", live_results=True, stores="reference")
_BY_CACHETOOLS = {
    "LRUCache": replace(_UNBOUNDED, kind="lru"),
    "FIFOCache": replace(_UNBOUNDED, set_renews=True),
    "TTLCache": replace(_UNDECLARED, kind="expiring"),
    "TLRUCache": replace(_UNDECLARED, kind="expiring"),
}
_BOUNDED = ("LRUCache", "FIFOCache")
_HELD = ("fifo", "lru", "priority")  # kinds that are held to a capacity


def refusal(side: str, cache: Any) -> str:
    """Say in one sentence why a cache can't be shadowed as a mapping; empty if it can."""
    kind = type(cache)
    called = f"{side} is a {kind.__qualname__}"
    if not isinstance(cache, MutableMapping):
        return f"{called}, which is no MutableMapping as the other side is: both must be mappings"
    if any(base.__name__ == "RRCache" and _is_cachetools(base) for base in kind.__mro__):
        return (
            f"{called}, which draws whom it evicts from the global random generator, so that watching would change "
            "what the program draws: use LRUCache or FIFOCache, or one with a generator of its own and policy()"
        )
    makes_up = next((base for base in kind.__mro__ if "__missing__" in vars(base)), None)
    if makes_up is not None and not _is_cachetools(makes_up):
        return (
            f"{called}, which makes up what it was never given (__missing__), so nobody can tell an entry from an "
            "invention: shadow a mapping that raises KeyError, and make the entry where that is caught"
        )
    return ""


def promised(control: Any, candidate: Any, report: Report) -> Promised:
    """Find out what both sides promise; the control's capacity is held against both where it declares one.

    Args:
        control: Trusted mapping.
        candidate: New one.
        report: Told of a side that raises, or answers what can't be, when it is asked for its policy.
    """
    assumed: list[str] = []
    found = {
        name: _policy_of(name, cache, report, assumed)
        for name, cache in (("control", control), ("candidate", candidate))
    }
    one, other = found["control"], found["candidate"]
    if one.kind in _HELD and other.kind in _HELD and one.capacity != other.capacity:
        assumed.append(
            f"candidate declares a capacity of {other.capacity}, but {one.capacity} is what both are held to"
        )
        other = replace(other, capacity=one.capacity)
    return Promised(one, other, ({ENTRIES: one.capacity}, {ENTRIES: other.capacity}), None, assumed)


def known_peek(cache: Any) -> Callable[[Any], Any] | None:
    """Return what looks into a mapping past what its class does at a lookup; None where nobody knows how."""
    if isinstance(cache, dict):
        return partial(dict.get, cache)
    base: Any = next((each for each in type(cache).__mro__ if each.__name__ == "Cache" and _is_cachetools(each)), None)
    return None if base is None else partial(_past, base.__getitem__, cache)


def _past(getitem: Callable[[Any, Any], Any], cache: Any, key: Any) -> Any:
    try:
        return getitem(cache, key)
    except KeyError:
        return None


def _policy_of(name: str, cache: Any, report: Report, assumed: list[str]) -> CachePolicy:
    declared: Any = tried(report, name, _declared, cache)
    if _is_policy(declared):
        policy: CachePolicy = declared
        stores = policy.stores or "reference"
        return replace(policy, stores=stores, live_results=True if stores == "reference" else policy.live_results)
    if declared is not None:
        raised = type(declared) is Unreadable
        said = f"raised {type(declared.error).__name__}" if raised else f"answered {words.told(declared, repr, 200)}"
        assumed.append(f"{name}: policy() {said}, which is no shadow.CachePolicy of a kind that is known")
    known = _by_class(cache)
    if known is None or known.kind == "undeclared":
        assumed.append(
            f"presence is judged by agreement only: whom {name} ({type(cache).__name__}) evicts is not known; declare "
            "it by a method policy() that returns shadow.CachePolicy"
        )
    elif known.kind == "expiring":
        assumed.append(
            f"which keys {name} ({type(cache).__name__}) still holds is not judged: its entries expire by a clock, "
            "which each side reads by itself"
        )
    return known or _UNDECLARED


def _declared(cache: Any) -> Any:
    declare = offered(cache, "policy")
    return declare() if callable(declare) else None


def _is_policy(policy: Any) -> bool:
    if type(policy) is not CachePolicy or policy.kind not in get_args(PolicyKind):
        return False
    return policy.capacity is None or (type(policy.capacity) is int and 0 < policy.capacity < 1 << 40)


def _by_class(cache: Any) -> CachePolicy | None:
    kind = type(cache)
    if kind in (dict, OrderedDict):
        return _UNBOUNDED
    if not _is_cachetools(kind) or kind.__name__ not in _BY_CACHETOOLS:
        return None
    known = _BY_CACHETOOLS[kind.__name__]
    if kind.__name__ not in _BOUNDED:
        return known
    counts = "getsizeof" not in vars(cache)  # else it measures what it holds in a unit of its own
    return replace(known, capacity=cache.maxsize) if counts and type(cache.maxsize) is int else None


def _is_cachetools(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "cachetools"

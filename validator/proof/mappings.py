"""Streams that go where mappings break, sound mappings, and faults planted in them."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from itertools import count
from typing import Any

import torch

from reports.record.words import Cause
from shadow.entries import cloned, leaves
from shadow.entry import KeysValues
from shadow.interface import CachePolicy
from validator.proof.faults.acts import acted, contents
from validator.proof.faults.become import become
from validator.proof.faults.planted import Planted
from validator.proof.faults.wrapped import Make
from validator.proof.stream import EntrySpec, Player, Step

CAPACITY = 4
_VERBS = (
    *("__setitem__",) * 8,
    *("__getitem__",) * 5,
    *("get",) * 5,
    *("__contains__",) * 2,
    *("pop", "__delitem__", "setdefault"),
)
_DTYPES = ("float32", "float32", "bfloat16", "float64", "int8")


class Plain(MutableMapping[Any, Any]):
    """A sound bounded mapping: the least recently used goes first, what is stored is a reference, as it declares."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held: OrderedDict[Any, Any] = OrderedDict()

    def policy(self) -> CachePolicy:
        """Declare what is held."""
        return CachePolicy("lru", capacity=self._capacity)

    def peek(self, key: Any) -> Any:
        """Return what is held, without its being a use."""
        return self._held.get(key)

    def __getitem__(self, key: Any) -> Any:
        self._held.move_to_end(key)
        return self._held[key]

    def __setitem__(self, key: Any, entry: Any) -> None:
        self._held[key] = entry
        self._held.move_to_end(key)
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)

    def __delitem__(self, key: Any) -> None:
        del self._held[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()


def mapping_steps(seed: int, n: int, capacity: int) -> Iterator[Step]:
    """Draw a stream of the verbs of a mapping over keys few enough to repeat and enough to overflow it."""
    draw = random.Random(seed)
    keys = [draw.getrandbits(64) for _ in range(capacity + 3)]
    for number in range(n):
        if draw.random() < 0.01:
            yield Step("clear")
            continue
        verb, key = draw.choice(_VERBS), draw.choice(keys)
        spec = EntrySpec(number, draw.randrange(4), draw.choice((1, 2)), draw.choice(_DTYPES))
        yield Step(verb, None, key, spec if verb in ("__setitem__", "setdefault") else None)


class MappingPlayer(Player):
    """Plays steps on a mapping; what it stores is made anew each time, since a mapping keeps it."""

    def _entry(self, spec: EntrySpec) -> Any:
        generator = torch.Generator().manual_seed(spec.seed)
        k, v = (torch.randn(spec.batch, 2, spec.tokens + 1, 4, generator=generator) * 40 for _ in range(2))
        dtype = getattr(torch, spec.dtype)
        if spec.seed % 5 == 0:
            entry = KeysValues(spec.batch, 2, 6, 8, 1, dtype=dtype)
            entry[0].update(k, v)
            return entry
        return {"k": k.to(dtype), "v": (v.to(dtype), torch.tensor(float(spec.seed))), "step": spec.seed % 3}


def _changed(verb: str, change: Callable[[Any], Any], every: int) -> Make:
    """Break a mapping one of whose verbs does something to what passes through, every so often."""

    def broken(sound: Any) -> Any:
        calls = count(1)

        def passed(entry: Any) -> Any:
            if next(calls) % every:
                return entry
            changed = change(entry)
            acted(contents(changed) != contents(entry))
            return changed

        def stored(own: Any, self: Any, key: Any, entry: Any) -> None:
            own.__setitem__(self, key, passed(entry))

        def answered(own: Any, self: Any, key: Any) -> Any:
            return passed(own.__getitem__(self, key))

        return become(sound, **{verb: stored if verb == "__setitem__" else answered})

    return broken


def _with(**verbs: Callable[..., Any]) -> Make:
    """Break a mapping by other verbs."""
    return lambda sound: become(sound, **verbs)


def _one_off(entry: Any) -> Any:
    own = cloned(entry)
    leaves(own)[0].tensor.reshape(-1)[0] += 1
    return own


def _swapped(entry: Any) -> Any:
    if isinstance(entry, KeysValues):
        own = cloned(entry)
        own[0]._k_cache, own[0]._v_cache = own[0]._v_cache, own[0]._k_cache
        return own
    return {**entry, "k": entry["v"][0], "v": (entry["k"], entry["v"][1])}


def _refused(entry: Any) -> Any:
    acted()
    raise RuntimeError("no")


def _nest_only(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda entry: entry if isinstance(entry, KeysValues) else change(entry)


def _planted(family: str, name: str, make: Make, *causes: Cause, needs: tuple[str, ...] = ()) -> Planted:
    """Plant in mappings that are made like ``Plain`` inside."""
    return Planted(name, family, make, causes, shape="mapping", reaches_into=Plain, needs=needs)


def _general(family: str, name: str, make: Make, *causes: Cause, needs: tuple[str, ...] = ()) -> Planted:
    """Plant in any mapping."""
    return Planted(name, family, make, causes, shape="mapping", needs=needs)


def _no_use(own: Any, self: Any, key: Any) -> Any:
    return self._held[key]


def _holding(room: int) -> Make:
    def stored(own: Any, self: Any, key: Any, entry: Any) -> None:
        self._held[key] = entry
        self._held.move_to_end(key)
        if len(self._held) > self._capacity + room:
            self._held.popitem(last=False)

    return _with(__setitem__=stored)


def _evicts_the_youngest(own: Any, self: Any, key: Any, entry: Any) -> None:
    if key not in self._held and len(self._held) >= self._capacity:
        self._held.popitem()
    own.__setitem__(self, key, entry)


def _keeps_the_first(own: Any, self: Any, key: Any, entry: Any) -> None:
    acted(key in self)
    if key not in self:
        own.__setitem__(self, key, entry)


def _only_looks(own: Any, self: Any, key: Any, *default: Any) -> Any:
    acted(key in self)
    return self[key] if key in self or not default else default[0]


def _checks_only(own: Any, self: Any, key: Any) -> None:
    if key not in self:
        raise KeyError(key)
    acted()


def _drops_one_early(sound: Any) -> Any:
    sets = count(1)

    def stored(own: Any, self: Any, key: Any, entry: Any) -> None:
        own.__setitem__(self, key, entry)
        other = next((each for each in self if each != key), None)
        if next(sets) % 7 == 0 and other is not None:
            acted()
            own.__delitem__(self, other)

    return become(sound, __setitem__=stored)


def _does_nothing(own: Any, self: Any) -> None:
    acted(len(self))


def _always(own: Any, self: Any, key: Any) -> bool:
    return True


def _finds(own: Any, self: Any, key: Any, default: Any = None) -> Any:
    return self[key] if key in self._held else default


_SIZE = (Cause.CAPACITY_OFF, Cause.WRONG_EVICTION)
_without_a_value = _nest_only(lambda entry: {"k": entry["k"], "v": entry["v"]})
_with_a_list = _nest_only(lambda entry: {**entry, "v": [*entry["v"]]})

PLANTED_IN_MAPPINGS = (
    _planted("presence", "a lookup is no use", _with(__getitem__=_no_use), Cause.WRONG_EVICTION),
    _planted("presence", "a mapping holds one more", _holding(1), *_SIZE),
    # After removals, nobody can tell what gave way too early from what was never stored.
    _planted("presence", "a mapping holds one less", _holding(-1), *_SIZE, Cause.SET_IGNORED),
    _planted("presence", "a mapping evicts the youngest", _with(__setitem__=_evicts_the_youngest), *_SIZE[1:]),
    _general("presence", "an entry is dropped too early", _drops_one_early, *_SIZE, Cause.SET_IGNORED, Cause.MISSED),
    _general(
        *("presence", "a second set of a key is ignored", _with(__setitem__=_keeps_the_first), Cause.RESET_IGNORED),
        needs=("overwrites",),
    ),
    # Not in any mapping: one that evicts by its own del would try for ever.
    _planted("presence", "pop removes nothing", _with(pop=_only_looks), Cause.CLEAR_FORGOTTEN, needs=("removals",)),
    _planted(
        *("presence", "del removes nothing", _with(__delitem__=_checks_only), Cause.CLEAR_FORGOTTEN),
        needs=("removals",),
    ),
    _general("presence", "clear removes nothing", _with(clear=_does_nothing), Cause.CLEAR_FORGOTTEN, needs=("clears",)),
    _planted(
        *("presence", "in answers yes to everything", _with(__contains__=_always, get=_finds)),
        *(Cause.PHANTOM, Cause.CLEAR_FORGOTTEN, Cause.WRONG_EVICTION),
    ),
    _general("value", "a set stores one value wrong", _changed("__setitem__", _one_off, 7), Cause.CORRUPTED),
    _general("value", "a lookup answers one value wrong", _changed("__getitem__", _one_off, 7), Cause.CORRUPTED),
    _planted("value", "k and v are swapped", _changed("__setitem__", _swapped, 5), Cause.LAYER_MIXED, Cause.SHAPE_OFF),
    _planted("structure", "a nest loses a plain value", _changed("__setitem__", _without_a_value, 3), Cause.SHAPE_OFF),
    _planted(
        "structure", "a tuple in a nest becomes a list", _changed("__setitem__", _with_a_list, 3), Cause.SHAPE_OFF
    ),
    _general("error", "a lookup raises now and then", _changed("__getitem__", _refused, 3), Cause.RAISED),
)

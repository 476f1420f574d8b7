"""Streams that go where mappings break, sound mappings, and faults planted in them."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import torch

from reports.record.words import Cause
from shadow.entries import cloned
from shadow.entry import KeysValues, leaves
from shadow.interface import CachePolicy
from validator.proof.faults.planted import Planted
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


def mapping_steps(seed: int, count: int, capacity: int) -> Iterator[Step]:
    """Draw a stream of the verbs of a mapping over keys few enough to repeat and enough to overflow it."""
    draw = random.Random(seed)
    keys = [draw.getrandbits(64) for _ in range(capacity + 3)]
    for number in range(count):
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


def _changed(at: str, change: Callable[[Any], Any], every: int) -> Callable[[Any], Any]:
    """Break a mapping whose verb does something to what passes through, every so often."""

    def broken(sound: Any) -> Any:
        class Broken(type(sound)):  # type: ignore[misc]
            calls = 0

            def _passed(self, entry: Any) -> Any:
                self.calls += 1
                return entry if self.calls % every else change(entry)

            if at == "set":

                def __setitem__(self, key: Any, entry: Any) -> None:
                    super().__setitem__(key, self._passed(entry))

            else:

                def __getitem__(self, key: Any) -> Any:
                    return self._passed(super().__getitem__(key))

        return Broken(sound._capacity)

    return broken


def _with(**verbs: Any) -> Callable[[Any], Any]:
    """Break a mapping by other verbs."""
    return lambda sound: type("Broken", (type(sound),), verbs)(sound._capacity)


def _one_off(entry: Any) -> Any:
    own = cloned(entry)
    tensor = leaves(own)[0].tensor if isinstance(own, KeysValues) else own["k"]
    tensor.reshape(-1)[0] += 1
    return own


def _swapped(entry: Any) -> Any:
    if isinstance(entry, KeysValues):
        own = cloned(entry)
        own[0]._k_cache, own[0]._v_cache = own[0]._v_cache, own[0]._k_cache
        return own
    return {**entry, "k": entry["v"][0], "v": (entry["k"], entry["v"][1])}


def _nest_only(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda entry: entry if isinstance(entry, KeysValues) else change(entry)


def _planted(family: str, name: str, make: Any, *causes: Cause) -> Planted:
    return Planted(name, family, make, causes, shape="mapping")


def _no_use(self: Any, key: Any) -> Any:
    return self._held[key]


def _takes_one_more(self: Any, key: Any, entry: Any) -> None:
    self._held[key] = entry
    self._held.move_to_end(key)
    if len(self._held) > self._capacity + 1:
        self._held.popitem(last=False)


def _takes_one_less(self: Any, key: Any, entry: Any) -> None:
    self._held[key] = entry
    self._held.move_to_end(key)
    if len(self._held) > self._capacity - 1:
        self._held.popitem(last=False)


def _evicts_the_youngest(self: Any, key: Any, entry: Any) -> None:
    if key not in self._held and len(self._held) >= self._capacity:
        self._held.popitem()
    Plain.__setitem__(self, key, entry)


def _keeps_the_first(self: Any, key: Any, entry: Any) -> None:
    if key not in self._held:
        Plain.__setitem__(self, key, entry)


def _only_looks(self: Any, key: Any, *default: Any) -> Any:
    return self[key] if key in self._held or not default else default[0]


def _checks_only(self: Any, key: Any) -> None:
    if key not in self._held:
        raise KeyError(key)


def _raises_for_one(self: Any, key: Any) -> Any:
    if key % 5 == 0:
        raise RuntimeError("no")
    return Plain.__getitem__(self, key)


def _always(self: Any, key: Any) -> bool:
    return True


def _finds(self: Any, key: Any, default: Any = None) -> Any:
    return self[key] if key in self._held else default


def _does_nothing(self: Any) -> None:
    return


_SIZE = (Cause.CAPACITY_OFF, Cause.WRONG_EVICTION)
_without_a_value = _nest_only(lambda entry: {"k": entry["k"], "v": entry["v"]})
_with_a_list = _nest_only(lambda entry: {**entry, "v": [*entry["v"]]})

PLANTED_IN_MAPPINGS = (
    _planted("presence", "a lookup is no use", _with(__getitem__=_no_use), Cause.WRONG_EVICTION),
    _planted("presence", "a mapping holds one more", _with(__setitem__=_takes_one_more), *_SIZE),
    # After removals, nobody can tell what gave way too early from what was never stored.
    _planted("presence", "a mapping holds one less", _with(__setitem__=_takes_one_less), *_SIZE, Cause.SET_IGNORED),
    _planted("presence", "a mapping evicts the youngest", _with(__setitem__=_evicts_the_youngest), *_SIZE[1:]),
    _planted("presence", "a second set of a key is ignored", _with(__setitem__=_keeps_the_first), Cause.RESET_IGNORED),
    _planted("presence", "pop removes nothing", _with(pop=_only_looks), Cause.CLEAR_FORGOTTEN),
    _planted("presence", "del removes nothing", _with(__delitem__=_checks_only), Cause.CLEAR_FORGOTTEN),
    _planted("presence", "clear removes nothing", _with(clear=_does_nothing), Cause.CLEAR_FORGOTTEN),
    _planted(
        *("presence", "in answers yes to everything", _with(__contains__=_always, get=_finds)),
        *(Cause.PHANTOM, Cause.CLEAR_FORGOTTEN, Cause.WRONG_EVICTION),
    ),
    _planted("value", "a set stores one value wrong", _changed("set", _one_off, 7), Cause.CORRUPTED),
    _planted("value", "a lookup answers one value wrong", _changed("get", _one_off, 7), Cause.CORRUPTED),
    _planted("value", "k and v are swapped", _changed("set", _swapped, 5), Cause.LAYER_MIXED, Cause.SHAPE_OFF),
    _planted("structure", "a nest loses a plain value", _changed("set", _without_a_value, 3), Cause.SHAPE_OFF),
    _planted("structure", "a tuple in a nest becomes a list", _changed("set", _with_a_list, 3), Cause.SHAPE_OFF),
    _planted("error", "a lookup raises for some keys", _with(__getitem__=_raises_for_one), Cause.RAISED),
)

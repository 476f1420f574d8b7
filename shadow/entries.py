"""Any entry as a flat list of tensors: what a keyed cache stores, taken apart and put together again.

An entry is a ``KeysValues`` or anything of that shape (``shadow.entry``), or a nest: a tensor, or tuples, lists, dicts,
named tuples and dataclasses of tensors, in one another as they like, with plain values (numbers, texts, None, dtypes)
among them. A leaf of a nest is named by its path, as ``1.k``, and is valid as a whole. What a nest is besides its
tensors is its form: which containers, which keys, which plain values. Any other class is taken apart as
``register_entry`` was told.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_hexdigest

from shadow import entry as keys_values
from shadow.memory.buffers import WHOLE, Leaf, empty_strided, fill

Form = tuple[tuple[str, str], ...]  # of a nest: path and what stands there, in order
Parts = list[tuple[str, Any]]  # of one container: name and what stands there

TENSOR = "a tensor"
_VALUES = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, slice)
_DEEPEST = 64
_MOST_PARTS = 1 << 16
_LONGEST = 200  # characters of a plain value


class Leaves(list[Leaf]):
    """The leaves of a nest in order of the form, and its form; of a ``KeysValues`` they are a plain list."""

    __slots__ = ("form",)

    def __init__(self, found: Sequence[Leaf], form: Form) -> None:
        super().__init__(found)
        self.form = form


class _Registration(NamedTuple):
    leaves: Callable[[Any], Any]
    rebuild: Callable[[Any], Any]


_registered: dict[type, _Registration] = {}


def register_entry(kind: type, *, leaves: Callable[[Any], Any], rebuild: Callable[[Any], Any]) -> None:
    """Say how objects of a class, and of its subclasses, are taken apart and put together.

    Args:
        kind: The class.
        leaves: Given such an object, returns the nest that it is made of: a tensor, or a tuple, dict and so on of
            tensors and plain values; whatever is left out is neither compared nor copied.
        rebuild: Given such a nest, with other tensors in it, returns an object that is made of these.

    Raises:
        TypeError: If ``kind`` is no class, or one of the others can't be called.
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_entry takes a class, got {kind!r:.80}")
    for name, given in (("leaves", leaves), ("rebuild", rebuild)):
        if not callable(given):
            raise TypeError(f"{name} must be a function, got {given!r:.80}")
    _registered[kind] = _Registration(leaves, rebuild)


def leaves(entry: Any) -> list[Leaf]:
    """List the tensors of any entry.

    Args:
        entry: A ``KeysValues`` or anything of that shape, not a lent one; or a nest.

    Returns:
        Of the former what ``shadow.entry.leaves`` lists, of a nest ``Leaves``.

    Raises:
        AttributeError: If layers of the former are of another shape.
        TypeError: If a nest holds no tensor, or something that can't be taken apart; the text says what would do.
    """
    if hasattr(entry, "_keys_values"):
        return keys_values.leaves(entry)
    found: list[Leaf] = []
    form: list[tuple[str, str]] = []
    _take_apart(entry, "", 0, found, form)
    if not found:
        raise TypeError(f"{_called(type(entry))} holds no tensor")
    return Leaves(found, tuple(form))


def form_of(found: Sequence[Leaf]) -> Form | None:
    """Return the form of a nest, given its leaves; None of a ``KeysValues``."""
    return getattr(found, "form", None)


def paths(form: Form | None, count: int) -> list[str]:
    """List the paths of the leaves of an entry: ``1.k`` in a nest, ``layer0.k`` in a ``KeysValues`` (form None)."""
    if form is None:
        return [f"layer{index // 2}.{'kv'[index % 2]}" for index in range(count)]
    return [path for path, what in form if what == TENSOR]


def leaf_names(form: Form | None, count: int) -> list[str]:
    """List the names of the leaves of an entry in a sentence: ``1.k``, or ``layer 0 K``."""
    if form is None:
        return [f"layer {index // 2} {'KV'[index % 2]}" for index in range(count)]
    return paths(form, count)


def rebuilt(entry: Any, tensors: Sequence[Tensor]) -> Any:
    """Make what a nest is of other tensors, in the order of its leaves: the same classes, keys and plain values."""
    return _put_together(entry, iter(tensors))


def cloned(entry: Any) -> Any:
    """Return an independent copy of any entry: classes, dtypes, devices, strides and lengths kept, no memory shared.

    Raises:
        AttributeError, TypeError: As ``leaves``.
    """
    source = leaves(entry)
    if form_of(source) is None:
        own = keys_values.KeysValues.empty_like(source)
        own.copy_from(source)
        return own
    buffers = [empty_strided(leaf.tensor) for leaf in source]
    fill(buffers, source)
    return rebuilt(entry, buffers)


def _take_apart(node: Any, path: str, depth: int, found: list[Leaf], form: list[tuple[str, str]]) -> None:
    if depth > _DEEPEST or len(form) > _MOST_PARTS:
        raise TypeError(f"what is stored is nested deeper than {_DEEPEST} times, or of more than {_MOST_PARTS:,} parts")
    if _is_leaf(node):
        found.append(Leaf(node, WHOLE))
        form.append((path or "tensor", TENSOR))
    elif _is_value(node):
        form.append((path, _text(node)))
    else:
        parts, _ = _parts(node, path)
        form.append((path, _called(type(node))))
        for name, part in parts:
            _take_apart(part, f"{path}.{name}" if path and name else path or name, depth + 1, found, form)


def _put_together(node: Any, tensors: Iterator[Tensor]) -> Any:
    if _is_leaf(node):
        return next(tensors)
    if _is_value(node):
        return node
    parts, remake = _parts(node, "")
    return remake([_put_together(part, tensors) for _, part in parts])


def _is_leaf(node: Any) -> bool:
    return isinstance(node, Tensor) and registration(type(node)) is None


def _is_value(node: Any) -> bool:
    return type(node) in _VALUES or isinstance(node, (Enum, np.generic))


def _parts(node: Any, path: str) -> tuple[Parts, Callable[[list[Any]], Any]]:
    """Return the parts of a container by name, and what makes the same container of others."""
    kind = type(node)
    registered = registration(kind)
    if registered is not None:
        return [("", registered.leaves(node))], lambda made: registered.rebuild(made[0])
    if isinstance(node, dict):  # before dataclasses: some are both, and keep their fields as items
        named = sorted(((_name(key), key) for key in node), key=lambda each: each[0])
        return [(name, node[key]) for name, key in named], partial(_dict_of, node, [key for _, key in named])
    if isinstance(node, (tuple, list)):
        names: Sequence[str] = getattr(kind, "_fields", ()) or [str(index) for index in range(len(node))]
        remake = partial(_list_of, node) if isinstance(node, list) else getattr(kind, "_make", kind)
        return list(zip(names, node, strict=True)), remake
    if dataclasses.is_dataclass(node):
        fields = [field.name for field in dataclasses.fields(node)]
        return [(name, getattr(node, name)) for name in fields], partial(_object_of, node, fields)
    at = f" at {path}" if path else ""
    raise TypeError(
        f"an object of type {_called(kind)}{at} can't be taken apart: shadow.register_entry({kind.__qualname__}, "
        "leaves=..., rebuild=...) tells how"
    )


def registration(kind: type) -> _Registration | None:
    """Return what ``register_entry`` was told of a class, or of one that it is a subclass of."""
    if not _registered:
        return None
    return next((_registered[base] for base in kind.__mro__ if base in _registered), None)


def _dict_of(like: dict[Any, Any], keys: list[Any], parts: list[Any]) -> Any:
    made = copy.copy(like)
    for key, part in zip(keys, parts, strict=True):
        made[key] = part
    return made


def _list_of(like: list[Any], parts: list[Any]) -> Any:
    made = copy.copy(like)
    made[:] = parts
    return made


def _object_of(like: Any, names: list[str], parts: list[Any]) -> Any:
    made = copy.copy(like)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)  # also of a frozen one
    return made


def _name(key: Any) -> str:
    """Name a key of a dict, so that no two are named alike: an identifier by itself, anything else in brackets."""
    if type(key) is str and key.isidentifier():
        return key
    if _is_value(key) or (type(key) is tuple and all(map(_is_value, key))):
        return f"[{_cut(repr(key))}]"
    raise TypeError(f"a dict in what is stored has a key of type {_called(type(key))}, by which no leaf can be named")


def _text(value: Any) -> str:
    return f"{type(value).__name__} {_cut(repr(value))}"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… {xxh3_64_hexdigest(text.encode('utf-8', 'surrogatepass'))}"


def _called(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

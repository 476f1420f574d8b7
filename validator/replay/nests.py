"""Nests of tensors made again of their form, with tensors of a layout in them."""

from __future__ import annotations

import dataclasses
import importlib
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from reports.record.trace import Form
from shadow.entries import TENSOR, registration

Make = Callable[[Iterator[Any]], Any]  # of the tensors that are still to be put somewhere
_LITERALS = ("bool", "int", "float", "complex", "str", "bytes", "NoneType")


class Nest:
    """How a nest of one form is put together.

    Args:
        form: Path and what stands there, in order, as ``shadow.entries`` has it.

    Attributes:
        stand_ins: Classes that can't be imported here; a dict or a tuple stands for each of their objects.

    Raises:
        ValueError: If there is no such form.
    """

    def __init__(self, form: Form) -> None:
        self.stand_ins: set[str] = set()
        self._form = form
        self._make, end = self._parsed(0)
        if end != len(form):
            raise ValueError(f"{form[end][0]!r:.80} belongs to nothing")

    def of(self, tensors: Iterator[Any]) -> Any:
        """Put it together of these tensors, in the order of its leaves; texts will do as well."""
        return self._make(tensors)

    def _parsed(self, at: int) -> tuple[Make, int]:
        """Return what makes the part of the form that begins there, and where the next one begins."""
        path, what = self._form[at]
        at += 1
        if what == TENSOR:
            return next, at
        if " " in what:
            value = _value(*what.split(" ", 1))
            return lambda _: value, at
        names, parts = [], []
        while at < len(self._form) and (
            not path or self._form[at][0] == path or self._form[at][0].startswith(f"{path}.")
        ):
            names.append(self._form[at][0][len(path) :].removeprefix("."))
            part, at = self._parsed(at)
            parts.append(part)
        remake = self._of_kind(what, names)
        return lambda tensors: remake([part(tensors) for part in parts]), at

    def _of_kind(self, what: str, names: list[str]) -> Callable[[list[Any]], Any]:
        """Return what makes a container of its parts."""
        kind = _found(what)
        registered = registration(kind)
        if registered is not None:
            return lambda parts: registered.rebuild(parts[0])
        if issubclass(kind, dict):
            return partial(_dict_of, kind, [_key(name) for name in names])
        if issubclass(kind, (tuple, list)):
            return getattr(kind, "_make", kind)
        if dataclasses.is_dataclass(kind):
            return partial(_object_of, kind, names)
        self.stand_ins.add(what)
        return tuple if all(name.isdigit() for name in names) else partial(_dict_of, dict, names)


def _found(what: str) -> type:
    """Return a class by its module and name; ``object`` if there is none."""
    builtin = {"dict": dict, "tuple": tuple, "list": list}.get(what)
    if builtin is not None:
        return builtin
    module, _, name = what.rpartition(".")
    with suppress(Exception):  # of a stranger's module
        found = getattr(importlib.import_module(module), name)
        if isinstance(found, type):
            return found
    return object


def _value(kind: str, text: str) -> Any:
    """Return a plain value of its text; of what no text can be read back, the text, which is equal to no other."""
    with suppress(ValueError, SyntaxError, AttributeError):
        if kind == "float":
            return float(text)
        if kind in _LITERALS:
            return literal_eval(text)
        if kind == "dtype":
            return getattr(torch, text.removeprefix("torch."))
    return text


def _key(name: str) -> Any:
    if name.startswith("["):
        with suppress(ValueError, SyntaxError):
            return literal_eval(name[1:-1])
    return name


def _dict_of(kind: Any, keys: list[Any], parts: list[Any]) -> Any:
    made: Any = kind()
    made.update(zip(keys, parts, strict=True))
    return made


def _object_of(kind: type, names: list[str], parts: list[Any]) -> Any:
    made: Any = object.__new__(kind)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)  # also of a frozen one
    return made

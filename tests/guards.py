"""Says on a test which check of the harness it guards: take that check away, and this test fails."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

ROOT = Path(__file__).parents[1]
Test = TypeVar("Test")


class Guard(NamedTuple):
    """A test, and the check that it guards: ``old``, once in ``file``, taken away by putting ``new`` in its place."""

    test: str
    file: str
    old: str
    new: str


def guards(file: str, old: str, new: str) -> Callable[[Test], Test]:
    """Name a check that the test below guards; the arguments are literals, and :func:`found` reads them.

    Args:
        file: Where the check stands, from the root of the checkout.
        old: Its text, which stands there once.
        new: What takes it away.

    Returns:
        The decorator that leaves the test as it is.
    """
    return lambda test: test


def found(root: Path = ROOT) -> Iterator[Guard]:
    """List what the tests of a checkout guard, without importing them."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "@guards(" in source:
            yield from _within(ast.parse(source).body, path.relative_to(root).as_posix())


def _within(body: list[ast.stmt], place: str) -> Iterator[Guard]:
    for each in body:
        if isinstance(each, ast.ClassDef):
            yield from _within(each.body, f"{place}::{each.name}")
        elif isinstance(each, ast.FunctionDef):
            for one in each.decorator_list:
                if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == guards.__name__:
                    yield Guard(f"{place}::{each.name}", *map(ast.literal_eval, one.args))

"""Every ``generate()`` of a test suite: a test's session opens at its first, and shadows all caches from there on."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

import pytest

from validator.one_test import Watch

Watching = Callable[[pytest.Item, pytest.TempPathFactory], AbstractContextManager[Watch]]


class EveryGenerate:
    """The part of the plugin that ``--kv-lockstep-generate`` adds.

    Args:
        name: ``module:callable``, which makes a candidate as ``Lockstep.shadow_generate`` asks it to.
        watching: Gives a test its watch.
    """

    def __init__(self, name: str, watching: Watching) -> None:
        self._name = name
        self._watching = watching
        self._make: Any = None

    def pytest_sessionstart(self) -> None:
        """Find the callable before any test runs."""
        self._make = _found(self._name)

    def pytest_report_header(self) -> str:
        """Say what is watched."""
        return f"kv-lockstep: every generate() in lockstep with {self._name}"

    @pytest.fixture(autouse=True)
    def _kv_lockstep_generate(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[None]:
        with self._watching(request.node, tmp_path_factory) as watch, at_first_generate(lambda: self._open(watch)):
            yield

    def _open(self, watch: Watch) -> None:
        def shadowing(lockstep: Any, primary: str) -> Any:
            return lockstep.shadow_generate(candidate=self._make, primary=primary)

        watch.enter(shadowing)


@contextmanager
def at_first_generate(happens: Callable[[], None]) -> Iterator[None]:
    """Let something happen when a cache is first prepared for a ``generate()``; before that, nothing has.

    Args:
        happens: May put another method in the place of the one that prepares, which then prepares this cache too.
    """
    from transformers.generation.utils import GenerationMixin

    real = GenerationMixin._prepare_cache_for_generation
    has_happened = False

    @wraps(real)
    def prepare(*args: Any, **kwargs: Any) -> Any:
        nonlocal has_happened
        if has_happened:
            return real(*args, **kwargs)
        has_happened = True
        happens()
        return GenerationMixin._prepare_cache_for_generation(*args, **kwargs)

    GenerationMixin._prepare_cache_for_generation = prepare
    try:
        yield
    finally:
        GenerationMixin._prepare_cache_for_generation = real


def _found(name: str) -> Callable[..., Any]:
    try:
        import transformers  # noqa: F401

        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as problem:
        raise pytest.UsageError(
            f"--kv-lockstep-generate {name}: expected module:callable of something that can be imported, beside "
            f"transformers ({problem}); 'python -m pytest' finds modules of the working directory"
        ) from None
    if not callable(found):
        raise pytest.UsageError(f"--kv-lockstep-generate {name}: a {type(found).__name__} can't be called")
    made: Callable[..., Any] = found
    return made

"""Every ``generate()`` of a test suite: its caches are shadowed in the session of the test that calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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
        from shadow.hosts.transformers.generate import Unsupported, maker  # it loads torch

        try:
            self._make = maker(self._name)
        except Unsupported as problem:
            raise pytest.UsageError(f"--kv-lockstep-generate {self._name}: {problem}") from None

    def pytest_report_header(self) -> str:
        """Say what is watched."""
        return f"kv-lockstep: every generate() in lockstep with {self._name}"

    @pytest.fixture(autouse=True)
    def _kv_lockstep_generate(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[None]:
        from validator.shapes.append import watched_generation as shadowing  # it loads torch

        # What it shadows opens the session; a test that never generates has none.
        with self._watching(request.node, tmp_path_factory) as watch:
            watch.enter(shadowing(watch, self._make, watch.primary, "generate"))
            yield

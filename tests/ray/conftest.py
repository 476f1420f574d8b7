"""Tests on a real Ray; skipped where there is none."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs Ray where there is none, and let it warn as it likes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if find_spec("ray") is None:
                reason = "Ray is not installed here; 'make test-ray' builds an environment that has it"
                item.add_marker(pytest.mark.skip(reason=reason))

"""What every test shares: reproducible Hypothesis runs, and a guard on torch's global modes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# The contracts live outside test_*.py, where pytest would not make their asserts readable by itself.
pytest.register_assert_rewrite("tests.shadow.cache_contract", "tests.shadow.entries")

settings.register_profile("reproducible", deadline=None, derandomize=True, database=None, print_blob=False)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _torch_modes_do_not_leak() -> Iterator[None]:
    before = _torch_modes()
    yield
    assert _torch_modes() == before, "a test or the code under test changed a global mode of torch and left it so"


def _torch_modes() -> dict[str, object]:
    return {
        "default_dtype": torch.get_default_dtype(),
        "default_device": torch.empty(0).device,
        "grad_enabled": torch.is_grad_enabled(),
        "inference_mode": torch.is_inference_mode_enabled(),
    }

"""What is equal, what is right, who is at fault, may it ship.

Names are loaded when first used: reading a report or running the gate needs no torch.
PYTEST_DONT_REWRITE: else who imports this and then calls pytest is warned of it, since it brings a plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.record.records import Divergence
    from reports.record.words import Verdict
    from validator.config import ValidationConfig
    from validator.session import Lockstep

_WHERE = {
    "Divergence": "reports.record.records",
    "Lockstep": "validator.session",
    "ValidationConfig": "validator.config",
    "Verdict": "reports.record.words",
}

__all__ = ["Divergence", "Lockstep", "ValidationConfig", "Verdict"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

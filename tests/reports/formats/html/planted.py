"""A new cache with one planted defect, for ``kv-lockstep train --candidate tests.reports.formats.html.planted:...``."""

from __future__ import annotations

from typing import Any

from shadow import KVCacheManager
from validator.proof.faults.planted import PLANTED, Planted


def planted(name: str) -> Planted:
    """Find a planted fault by its name."""
    return next(fault for fault in PLANTED if fault.name == name)


def last_token_lost(config: Any, env_num: int) -> Any:
    """Return a cache that does not copy the last token of what it stores."""
    return planted("the last token is not copied").make(KVCacheManager(config=config, env_num=env_num))


def raises(config: Any, env_num: int) -> Any:
    """Return a cache whose gets raise."""
    return planted("raises on every get").make(KVCacheManager(config=config, env_num=env_num))

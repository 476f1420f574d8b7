"""Every planted fault as a class that can be named: ``tests.validator.replay.faulty:`` and its name with ``_``."""

from __future__ import annotations

import re
from typing import Any

from shadow.manager import KVCacheManager
from validator.proof.appends.caches import GrowingCache
from validator.proof.mappings import Plain
from validator.proof.selftest import EVERYTHING, shape_of


def name_of(planted: Any) -> str:
    return re.sub(r"\W+", "_", planted.name).strip("_")


_BY_NAME = {name_of(planted): planted for planted in EVERYTHING}


def __getattr__(name: str) -> Any:
    if name not in _BY_NAME:
        raise AttributeError(name)
    planted = _BY_NAME[name]
    if shape_of(planted) == "append":
        return lambda windows: planted.make(GrowingCache(windows))
    if shape_of(planted) == "mapping":
        return lambda capacity: planted.make(Plain(capacity))
    return lambda config, env_num: planted.make(KVCacheManager(config, env_num))


def sound(planted: Any) -> Any:
    """Make a sound cache of the shape of a planted fault, and of the sizes of the self-test."""
    shape = shape_of(planted)
    return GrowingCache(planted.windows) if shape == "append" else Plain() if shape == "mapping" else _manager()


def _manager() -> KVCacheManager:
    from validator.proof.selftest import manager

    return manager()


def broken(planted: Any) -> Any:
    return planted.make(sound(planted))

"""Every planted fault as a class that can be named: ``tests.validator.replay.faulty:`` and its name with ``_``."""

from __future__ import annotations

import re
from typing import Any

from shadow.manager import KVCacheManager
from validator.proof.faults.planted import PLANTED


def name_of(planted: Any) -> str:
    return re.sub(r"\W+", "_", planted.name).strip("_")


_BY_NAME = {name_of(planted): planted for planted in PLANTED}


def __getattr__(name: str) -> Any:
    if name not in _BY_NAME:
        raise AttributeError(name)
    return lambda config, env_num: _BY_NAME[name].make(KVCacheManager(config, env_num))

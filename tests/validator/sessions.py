"""Sessions on caches that agree or don't: in this process, and as the script of one of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shadow.entry import leaves
from tests.shadow.entries import assert_equal_entries, make_entry
from tests.validator.trials import DictCache, declared
from validator.config import ValidationConfig
from validator.session import Lockstep

HOST = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from tests.validator.sessions import *
from tests.validator.trials import manager
lockstep = Lockstep({out!r}, ValidationConfig(run_id="run", selftest=False, window_s=0.0))
cache = lockstep.shadow(control=manager(), candidate={candidate})
exercise(lockstep, cache)
{then}
"""


def open_session(tmp_path: Path, **settings: Any) -> Lockstep:
    return Lockstep(tmp_path, ValidationConfig(run_id="run", **{"selftest": False, **settings}))


def exercise(lockstep: Lockstep, cache: Any) -> None:
    """Do all that the default policy demands: hits, overwrites, evictions, clears, weight updates, every env."""
    for number in range(12):
        for env_id in (0, 1):
            cache.set_init_cache(env_id, number // 2, make_entry(number))
            assert_equal_entries(cache.get_init_cache(env_id, number // 2), make_entry(number))
    cache.clear_all()
    lockstep.weights_updated()


class WrongAt(DictCache):
    """Answers one wrong value at the n-th get."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def policy(self) -> Any:
        return declared()

    def _answer(self, held: Any) -> Any:
        self.left -= 1
        own = held.clone()
        if not self.left:
            leaves(own)[0].tensor[0, 0, 0, 0] += 1
        return own

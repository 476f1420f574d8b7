"""Sessions on caches that agree or don't: in this process, and as the script of one of their own."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from shadow.entry import leaves
from tests.shadow.entries import assert_equal_entries, make_entry
from tests.validator.trials import DictCache, declared
from tests.warm import ROOT, script
from validator.config import ValidationConfig
from validator.session import Lockstep

SMOKE = ("train", "--config", str(ROOT / "configs" / "smoke.toml"), "--quiet")
_KILLED = """
import os, sys, threading, time
from pathlib import Path
from validator import cli
def kill():
    while sum(file.read_text().count('"{kind}"') for file in Path("{out}").glob("*/rank-0000.jsonl")) < {times}:
        time.sleep(0.05)
    os.kill(os.getpid(), 9)
threading.Thread(target=kill, daemon=True).start()
settings = ["total_env_steps=10000", "world_model_cfg.cache_validation.selftest=false"]
sys.exit(cli.main([*{train!r}, "--out", "{out}", *(each for one in settings for each in ("--set", one))]))
"""


def open_session(tmp_path: Path, **settings: Any) -> Lockstep:
    return Lockstep(tmp_path, ValidationConfig(run_id="run", **{"selftest": False, **settings}))


def killed_training(out: Path, kind: str, times: int, *arguments: str) -> Path:
    """Train in a process that is killed when so many lines of a kind are on disk; return the run directory."""
    out.mkdir(exist_ok=True)
    done = script(_KILLED.format(kind=kind, out=out, times=times, train=[*SMOKE, *arguments]), out)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    return next(run for run in out.iterdir() if run.is_dir())


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

"""Kills a real training at random moments: no divergence that an operation showed is lost, and nothing passes.

    python -m tests.torture.kills [COUNT]     prints what came of so many kills

Each training is a process of its own (a fork of one that has imported torch). Its candidate bends one answer in forty,
and the host leaves a byte in a pipe once it has the answer of that operation: so many divergences must be on record.
(The candidate can't say so itself: the harness may ask it again before the operation is over.) Half of the trainings
have a sound candidate, and must not pass either, since nobody closed them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from reports.reader import read_run
from reports.record.words import Verdict
from shadow.hosts.unizero import load_config, train
from shadow.manager import KVCacheManager
from validator.config import ValidationConfig
from validator.gate.judgement import judge
from validator.session import Lockstep

ROOT = Path(__file__).parents[2]
LONGEST_S = 4.0  # of training, after the first hit


class Bends(KVCacheManager):
    """Answers one value wrong in one of forty hits."""

    every = 0  # hit of which one is bent; 0 for none
    hits = 0
    owes = False

    def get_init_cache(self, env_id: int, cache_key: int) -> object:
        return self._bent(super().get_init_cache(env_id, cache_key))

    def get_recur_cache(self, cache_key: int) -> object:
        return self._bent(super().get_recur_cache(cache_key))

    def hierarchical_get(self, env_id: int, cache_key: int) -> object:
        return self._bent(super().hierarchical_get(env_id, cache_key))

    def _bent(self, found: object) -> object:
        if found is None:
            return None
        type(self).hits += 1
        if not self.every or self.hits % self.every:
            return found
        own = found.clone()  # type: ignore[attr-defined]
        own[0]._k_cache._cache[0, 0, 0, 0] += 1
        type(self).owes = True
        return own


class Tells:
    """The cache in the host's hands: writes of the first hit, and of each bent answer once the operation is over."""

    def __init__(self, cache: Any, candidate: type[Bends], told: int) -> None:
        self._cache = cache
        self._candidate = candidate
        self._told = told
        self._has_begun = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cache, name)
        return partial(self._asked, method) if "get" in name else method

    def _asked(self, method: Any, *given: Any) -> Any:
        answer = method(*given)
        if self._candidate.hits and not self._has_begun:
            os.write(self._told, b"!")
            self._has_begun = True
        if self._candidate.owes:
            os.write(self._told, b".")
            self._candidate.owes = False
        return answer


def _train(out: str, bends: bool, told: int) -> None:
    from tests.torture.kills import Bends as Candidate  # not that of __main__

    Candidate.every = 40 if bends else 0
    settings = {"cache_validation_mode": True, "cache_validation": {"candidate": "tests.torture.kills:Bends"}}
    config = load_config(ROOT / "configs" / "smoke.toml", total_env_steps=100_000, world_model_cfg=settings)
    with Lockstep(out, ValidationConfig(run_id="run", selftest=False, window_s=0.2)) as lockstep:
        train(config, validation=lockstep, on_cache=lambda cache: Tells(cache, Candidate, told))


def kill_once(draw: random.Random, bends: bool) -> Counter[str]:
    """Train, kill, and look at what is left."""
    with tempfile.TemporaryDirectory() as out:
        heard, told = os.pipe()
        child = os.fork()
        if not child:
            os.close(heard)
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                _train(out, bends, told)
            finally:
                os._exit(9)
        os.close(told)
        assert os.read(heard, 1) == b"!"
        time.sleep(draw.uniform(0.0, LONGEST_S) if draw.random() < 0.8 else draw.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shown = 0
        while part := os.read(heard, 1 << 16):
            shown += len(part)
        os.close(heard)
        run = read_run(Path(out) / "run")
        verdict = judge([run]).verdict
        recorded = sum(run.totals.divergences.values())
        on_record = len(run.divergences)
        return Counter(
            {
                "kills": 1,
                "divergences shown": shown,
                # Every one is counted; written are at most a hundred of a kind, and each place once.
                "divergences lost": max(0, min(shown, 100) - max(recorded, on_record)),
                "wrong verdicts": int(verdict is Verdict.PASS or (shown > 0 and verdict is not Verdict.FAIL)),
                "lookups on record": run.totals.n_lookups,
            }
        )


def main(count: int) -> int:
    draw = random.Random(0)
    found: Counter[str] = Counter()
    for number in range(count):
        found += kill_once(draw, bends=number % 2 == 0)
        print(f"\r{number + 1} of {count}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name in ("kills", "divergences shown", "divergences lost", "wrong verdicts", "lookups on record"):
        print(f"{name:20} {found[name]:>10,}")
    return int(found["divergences lost"] + found["wrong verdicts"] > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))

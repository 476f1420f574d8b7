"""Keys of any kind: whatever can be hashed is followed, charged and recorded like a whole number."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest

from reports.record.words import Cause, Fault
from shadow import KVCacheManager
from tests.validator.trials import CONFIG, ENVS, charged, entry, manager, trial
from validator.judge.words import key_text

KINDS: dict[str, Callable[[int], Hashable]] = {
    "np.int64": np.int64,
    "np.uint8": np.uint8,
    "str": lambda i: f"node {i}",
    "bytes": lambda i: bytes([i]),
    "tuple": lambda i: ("root", i),
    "float": lambda i: i / 2,
    "frozenset": lambda i: frozenset({i}),
}


class Ignores(KVCacheManager):
    """Keeps what it was first given under a key."""

    def set_init_cache(self, env_id: int, cache_key: Any, kv_cache: Any) -> Any:
        if self.peek("init", env_id, cache_key) is None:
            return super().set_init_cache(env_id, cache_key, kv_cache)
        return 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_re_set_that_is_ignored_is_on_record_under_its_key(kind: str) -> None:
    key = KINDS[kind](3)
    run = trial(manager(), Ignores(CONFIG, ENVS))
    run.cache.set_init_cache(0, key, entry(1))
    run.cache.set_init_cache(0, key, entry(2))
    run.cache.get_init_cache(0, key)
    run.finish()
    assert charged(run) == [(Cause.RESET_IGNORED, Fault.CANDIDATE)]
    assert run.divergences[0].key == key_text(key)
    assert key_text(key) in run.divergences[0].history[0]
    assert run.failures == []


@pytest.mark.parametrize("kind", KINDS)
def test_two_sound_caches_agree_on_keys_of_any_kind(kind: str) -> None:
    run = trial(manager(), manager())
    for i in range(20):
        run.cache.set_init_cache(i % 2, KINDS[kind](i % 7), entry(i))
        run.cache.get_init_cache(i % 2, KINDS[kind](i % 5))
        run.cache.set_recur_cache(KINDS[kind](i), entry(i))
        run.cache.hierarchical_get(i % 2, KINDS[kind](i))
        if i % 6 == 5:
            run.cache.clear_recur_cache()
    run.finish()
    assert (charged(run), run.failures) == ([], [])

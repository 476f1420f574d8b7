"""``kv-lockstep ab`` on LightZero 0.2.0's stock script: its own store alone, and the new cache alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reports.read.trainings import find_trainings, read_trainings
from tests.lightzero.conftest import Done, sizes, stock_script


def test_each_cache_alone_serves_the_stock_training(kv_lockstep: Callable[..., Done], tmp_path: Path) -> None:
    done = kv_lockstep(tmp_path, "ab", "--seeds", "1", *sizes(max_env_step="60"), "--", str(stock_script()))

    (path,) = find_trainings(tmp_path / "runs")
    found = read_trainings(path)
    assert done.returncode == 5, done.stdout + done.stderr  # one seed decides nothing
    assert [(training.side, training.cache, training.error) for training in found.trainings] == [
        ("control", "shadow.hosts.lightzero.inline.InlineStore", ""),
        ("candidate", "shadow.manager.KVCacheManager", ""),
    ]
    for training in found.trainings:
        assert training.env_steps >= 60
        assert training.updates > 0
        assert training.hits > 0
        assert training.mean_return is not None
        assert training.mean_loss is not None
    assert "no run of a seed repeats" in " ".join(done.stdout.split())
    assert not found.repeatable

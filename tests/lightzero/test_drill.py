"""A drill of a stock LightZero training: the planted fault is found, and what it can't show is said."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lightzero.conftest import KvLockstep, sizes, stock_script


def test_a_stock_training_shows_a_planted_fault(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    flags = [*sizes(max_env_step="60"), "--fault", "keys and values swapped", "--json", "--out", "runs"]

    done = kv_lockstep(tmp_path, "drill", *flags, "--", str(stock_script()))

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    kept = json.loads(done.stdout)
    (found,) = kept["faults"]
    assert (found["outcome"], found["named"]) == ("found", ["layer or K/V mixed up (candidate)"])
    assert (kept["host"], kept["candidates"][0]["kind"]) == ("lightzero", "shadow.manager.KVCacheManager")
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]  # its experiments as well

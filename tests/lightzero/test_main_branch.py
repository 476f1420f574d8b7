"""The main branch (2026-08), whose source is not on the registry: LIGHTZERO_MAIN names a checkout or git directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from reports.reader import find_runs, read_run
from tests.lightzero.conftest import HERE, ROOT

MAIN = os.environ.get("LIGHTZERO_MAIN", "")
pytestmark = pytest.mark.skipif(not MAIN, reason="LIGHTZERO_MAIN does not name the source of LightZero's main branch")


@pytest.mark.parametrize(
    ("mode", "control", "candidate"),
    [
        ("legacy", "shadow.hosts.lightzero.inline.InlineStore", "shadow.manager.KVCacheManager"),
        ("new", "shadow.legacy.LegacyKVCache", "shadow.hosts.lightzero.package.PackageStore"),
    ],
)
def test_its_own_world_model_is_watched_in_both_modes(tmp_path: Path, mode: str, control: str, candidate: str) -> None:
    archive = subprocess.run(["git", "-C", MAIN, "archive", "HEAD", "lzero"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as source:
        source.extractall(tmp_path / "main", filter="data")

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "main_branch.py"), str(tmp_path / "main"), mode]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.rpartition("COUNTED ")[2])
    run = read_run(find_runs(tmp_path / "runs")[-1])
    own = [window for window in run.windows if window.cache == "collect+eval"]
    assert run.divergences == []
    assert not run.totals.dropped
    assert [(line["cache"], line["control"], line["candidate"]) for line in run.caches] == [
        (name, control, candidate) for name in ("collect+eval", "target")
    ]
    looked_up = {
        pool: sum(sum(window.lookups.get(pool, {}).values()) for window in own) for pool in ("hierarchical", "init")
    }
    hits = {
        pool: sum(window.lookups.get(pool, {}).get("both_hit_equal", 0) for window in own)
        for pool in ("hierarchical", "init")
    }
    assert looked_up == {"hierarchical": counts["total_query_count"], "init": counts["root_total_query_cnt"]}
    assert hits == {"hierarchical": counts["hit_count"], "init": counts["root_hit_cnt"]}
    assert run.totals.coverage["evictions"] > 0
    assert run.totals.coverage["clears_init_env"] >= 3

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
from reports.record.totals import fold
from reports.record.words import NOT_RECOMPUTED
from tests.lightzero.conftest import HERE, ROOT

MAIN = os.environ.get("LIGHTZERO_MAIN", "")
pytestmark = pytest.mark.skipif(not MAIN, reason="LIGHTZERO_MAIN does not name the source of LightZero's main branch")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the branch where nothing of it can be committed."""
    archive = subprocess.run(["git", "-C", MAIN, "archive", "HEAD", "lzero"], capture_output=True, check=True).stdout
    path = tmp_path_factory.mktemp("main")
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(path, filter="data")
    return path


@pytest.mark.parametrize(
    ("mode", "world_model", "control", "candidate"),
    [
        ("legacy", "WorldModel", "shadow.hosts.lightzero.inline.InlineStore", "shadow.manager.KVCacheManager"),
        ("new", "WorldModel", "shadow.legacy.LegacyKVCache", "shadow.hosts.lightzero.package.PackageStore"),
        ("rebuild", "WorldModel", "shadow.hosts.lightzero.inline.InlineStore", "shadow.manager.KVCacheManager"),
        ("multitask", "WorldModelMT", "shadow.hosts.lightzero.inline.InlineStore", "shadow.manager.KVCacheManager"),
    ],
)
def test_every_lookup_of_its_own_world_models_is_compared(
    tmp_path: Path, source: Path, mode: str, world_model: str, control: str, candidate: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "main_branch.py"), str(source), mode]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.rpartition("COUNTED ")[2])
    run = read_run(find_runs(tmp_path / "runs")[-1])
    lookups = fold([window for window in run.windows if window.cache == "collect+eval"]).lookups
    assert counts["world_model"] == world_model
    assert run.divergences == []
    assert not run.totals.dropped
    assert [(line["cache"], line["control"], line["candidate"]) for line in run.caches] == [
        (name, control, candidate) for name in ("collect+eval", "target")
    ]
    roots, nodes = counts["root_total_query_cnt"], counts["total_query_count"]
    assert {pool: sum(outcomes.values()) for pool, outcomes in lookups.items()} == {
        "init": roots,
        "hierarchical": nodes,
    }
    assert lookups["init"]["both_hit_equal"] == counts["root_hit_cnt"]
    assert lookups["hierarchical"]["both_hit_equal"] == counts["hit_count"]
    assert lookups["hierarchical"]["both_miss"] == nodes - counts["hit_count"] >= 10
    if mode == "new":
        assert counts["asked"] == {"init": roots, "hierarchical": nodes, "recur": 0}
    else:  # two dicts stand behind a search's lookup: the second is asked what the first did not have
        assert counts["asked"]["init"] == roots + nodes
        assert 0 < counts["asked"]["recur"] < nodes
    assert run.totals.coverage["evictions"] > 0
    assert run.totals.coverage["clears_init_env"] >= 3
    if mode == "multitask":
        reason = "inferences for several tasks, whose embeddings are part of the tokens"
        assert run.totals.coverage[f"{NOT_RECOMPUTED}{reason}"] >= 30
    else:
        assert run.totals.coverage["recomputations"] == run.totals.coverage["recomputations that agreed"] >= 150

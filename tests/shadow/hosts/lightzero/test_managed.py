"""Manager mode: the manager is asked through a facade, per-env clears are seen, either side can be LightZero's."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from reports.reader import read_run
from reports.record.run import Run
from shadow import KVCacheManager
from shadow.entry import leaves
from shadow.hosts.lightzero import LightZeroMismatch
from shadow.hosts.lightzero.installation import Installation
from tests.shadow.entries import make_entry
from tests.shadow.hosts.lightzero.fakes import MainManaged, deep_copier
from validator.entries.compare import valid
from validator.session import Lockstep, open_from_settings

MAIN = os.environ.get("LIGHTZERO_MAIN", "")
PACKAGE = "lightzero_main_store"


@pytest.fixture
def main_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The main branch's own manager, taken from the checkout or git directory that LIGHTZERO_MAIN names."""
    if not MAIN:
        pytest.skip("LIGHTZERO_MAIN does not name a checkout (or git directory) of LightZero's main branch")
    package = tmp_path / PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("kv_caching.py", "kv_cache_manager.py"):
        path = f"lzero/model/unizero_world_models/{name}"
        git = ["git", "-C", MAIN, "show", f"HEAD:{path}"]
        (package / name).write_bytes(subprocess.run(git, capture_output=True, check=True).stdout)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        monkeypatch.delitem(sys.modules, name)
    return import_module(f"{PACKAGE}.kv_cache_manager")


class Watched:
    """A model in manager mode under validation."""

    def __init__(self, tmp_path: Path, manager: Any, **settings: Any) -> None:
        self.installation = Installation(open_from_settings, force=True)
        self.manager = manager
        settings = {"out": str(tmp_path / "runs"), **settings}
        self.model = MainManaged(manager, cache_validation=settings)
        self.installation.attach(self.model)

    def closed(self) -> Run:
        assert isinstance(self.installation.validation, Lockstep)
        self.installation.validation.close()
        return read_run(self.installation.validation.run_dir)


def ours() -> KVCacheManager:
    return KVCacheManager({"num_simulations": 4}, 2)


def play(model: Any) -> Any:
    manager = model.kv_cache_manager
    manager.set_init_cache(env_id=0, cache_key=1, kv_cache=make_entry(1))
    manager.set_init_cache(env_id=1, cache_key=1, kv_cache=make_entry(2))
    model.forward_initial_inference()
    manager.set_recur_cache(cache_key=3, kv_cache=make_entry(3))
    manager.init_pools[1].clear()
    assert manager.get_init_cache(env_id=1, cache_key=1) is None
    assert list(manager.init_pools[0]._key_to_index) == [1]
    assert list(manager.recur_pool._key_to_index) == [3]
    assert manager.hierarchical_get(env_id=0, cache_key=3) is not None
    return manager.get_init_cache(env_id=0, cache_key=1)


def check(run: Run) -> None:
    assert run.divergences == []
    assert run.totals.outcomes() | {"both_hit_equal": 2, "both_miss": 1} == run.totals.outcomes()
    assert run.totals.coverage["clears_init_env"] == 1
    assert run.totals.coverage["searches"] == 1


def test_a_manager_is_shadowed_by_a_legacy_store(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ours())

    answer = play(watched.model)

    assert torch.equal(valid(leaves(answer)[0]), valid(leaves(make_entry(1))[0]))
    run = watched.closed()
    check(run)
    assert (run.caches[0]["control"], run.caches[0]["primary"]) == ("shadow.legacy.LegacyKVCache", "candidate")


def test_the_package_s_manager_serves_the_model_its_own_objects(tmp_path: Path, main_store: ModuleType) -> None:
    manager = main_store.KVCacheManager(MainManaged(None).config, 2)
    watched = Watched(tmp_path, manager)

    answer = play(watched.model)

    assert answer is manager.init_pools[0]._pool[0]
    check(watched.closed())


def test_ours_is_a_third_choice_against_the_package_s(tmp_path: Path, main_store: ModuleType) -> None:
    manager = main_store.KVCacheManager(MainManaged(None).config, 2)
    watched = Watched(tmp_path, manager, control="package", candidate="new")

    answer = play(watched.model)

    assert isinstance(answer, import_module("shadow").KeysValues)
    run = watched.closed()
    check(run)
    assert run.caches[0]["candidate"] == "shadow.manager.KVCacheManager"


def test_a_copy_in_use_has_a_manager_and_a_recorder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(tmp_path, ours())
    deep_copier(watched.installation, MainManaged, monkeypatch)
    watched.model.kv_cache_manager.set_init_cache(env_id=0, cache_key=9, kv_cache=make_entry(9))

    target = copy.deepcopy(watched.model)
    watched.model.kv_cache_manager.clear_all()

    assert target.kv_cache_manager.get_init_cache(env_id=0, cache_key=9) is not None
    run = watched.closed()
    assert [line["cache"] for line in run.caches] == ["collect+eval", "target"]
    assert run.divergences == []


def test_a_pool_asked_past_the_manager_is_refused(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ours())

    with pytest.raises(NotImplementedError, match="not validated"):
        watched.model.kv_cache_manager.init_pools[0].get(1)


def test_a_manager_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    manager = ours()
    del manager.recur_pool

    with pytest.raises(LightZeroMismatch, match="KVCacheManager should have recur_pool"):
        Watched(tmp_path, manager)

"""Whole runs: reproducible to the bit, the same on either cache, and undisturbed by who listens."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shadow.switch
from shadow.hosts.unizero import Progress, TrainConfig, TrainResult, load_config, train
from shadow.hosts.unizero.envs import Envs
from tests.guards import guards

ROOT = Path(__file__).parents[4]


def smoke(**overrides: Any) -> TrainConfig:
    """Return an unvalidated run of a second or less with pools that hold all a search needs."""
    switches = {"cache_validation_mode": False, **overrides.pop("world_model_cfg", {})}
    steps = {"total_env_steps": 60, **overrides}
    return load_config(ROOT / "configs" / "smoke.toml", world_model_cfg=switches, **steps)


def fingerprint(result: TrainResult) -> tuple[Any, ...]:
    return result.actions_digest, result.weights_digest, result.episode_returns, result.losses


class Listener:
    """A validation session that hands the control back and counts what it hears."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.progressed: list[tuple[int | None, int | None]] = []
        self.ended: set[int] = set()
        self.closed = 0

    def shadow(self, *, control: Any, candidate: Any, primary: str = "control", name: str = "") -> Any:
        assert (primary, name) == ("control", "collect")
        return control

    def recompute(self, cache: Any, recomputer: Any) -> None:
        self.recomputers = [recomputer]

    def weights_updated(self) -> None:
        self.heard["weights_updated"] += 1

    def episode_ended(self, env_id: int) -> None:
        self.heard["episode_ended"] += 1
        self.ended.add(env_id)

    def search_started(self) -> None:
        self.heard["search_started"] += 1

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None:
        self.progressed.append((train_iter, env_step))

    def close(self) -> None:
        self.closed += 1
        self.on_its_way = sys.exc_info()[1]


@pytest.fixture(scope="module")
def plain() -> TrainResult:
    return train(smoke())


def test_a_run_repeats_to_the_bit(plain: TrainResult) -> None:
    assert fingerprint(train(smoke())) == fingerprint(plain)


def test_another_seed_is_another_run(plain: TrainResult) -> None:
    other = train(smoke(seed=1))
    assert other.actions_digest != plain.actions_digest
    assert other.weights_digest != plain.weights_digest


def test_old_and_new_cache_train_the_same_agent(plain: TrainResult) -> None:
    new = train(smoke(world_model_cfg={"use_new_cache_manager": True}))
    assert fingerprint(new) == fingerprint(plain)
    assert plain.system == "Using OLD cache system (LegacyKVCache)"
    assert new.system == "Using NEW KV cache manager (KVCacheManager)"


def test_a_listener_changes_nothing_and_hears_everything(plain: TrainResult) -> None:
    listener = Listener()
    watched = train(smoke(world_model_cfg={"cache_validation_mode": True}), validation=listener)
    assert fingerprint(watched) == fingerprint(plain)
    assert listener.heard["weights_updated"] == len(watched.losses) == 2
    assert listener.heard["episode_ended"] == len(watched.episode_returns)
    assert listener.ended == {0, 1}
    assert listener.heard["search_started"] == len(listener.progressed)
    assert listener.progressed[0] == (0, 0)
    assert listener.progressed[-1][0] == watched.train_iters - 2
    assert listener.closed == 0, "whoever passes a session closes it"


def test_a_session_opened_for_the_run_is_closed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    monkeypatch.setattr(shadow.switch, "installed_validation", lambda settings: listener)
    train(smoke(total_env_steps=40, world_model_cfg={"cache_validation_mode": True}))
    assert (listener.closed, listener.on_its_way) == (1, None)


@guards("shadow/hosts/unizero/train.py", "ended.callback(", "print(")
def test_it_is_closed_as_well_where_the_training_fails_and_can_see_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ValueError("broke")

    listener = Listener()
    monkeypatch.setattr(shadow.switch, "installed_validation", lambda settings: listener)
    with pytest.raises(ValueError, match="broke"):
        train(smoke(total_env_steps=40, world_model_cfg={"cache_validation_mode": True}), on_progress=fail)
    assert listener.closed == 1
    assert isinstance(listener.on_its_way, ValueError)


def test_the_cache_is_used_and_both_outcomes_occur(plain: TrainResult) -> None:
    stats = plain.cache_stats
    for pool in stats["init_pools"].values():
        assert pool["hits"] > 0
        assert pool["misses"] > 0
        assert pool["evictions"] > 0
    assert stats["recur_pool"]["hits"] > 0
    assert stats["wm_pool"]["evictions"] > 0


def test_progress_is_told_after_each_burst() -> None:
    told: list[Progress] = []
    result = train(smoke(), on_progress=told.append)
    assert [progress.train_iter for progress in told][-1] == result.train_iters
    assert [progress.env_steps for progress in told] == sorted(progress.env_steps for progress in told)
    assert told[-1].env_steps == result.env_steps >= told[-1].total_env_steps
    assert told[-1].recent_return == pytest.approx(result.mean_return(slice(-20, None)))


def test_global_generators_and_threads_are_left_alone() -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    train(smoke(total_env_steps=8, torch_threads=torch.get_num_threads() + 1))
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    assert torch.equal(after[0], before[0])
    assert after[1:] == before[1:]


def test_a_time_limit_ends_a_run_early() -> None:
    result = train(smoke(total_env_steps=100_000, max_seconds=0.2))
    assert 0 < result.env_steps < 10_000


def test_without_validation_neither_validator_nor_reports_are_loaded() -> None:
    program = (
        "import sys\n"
        "from shadow.hosts.unizero import load_config, train\n"
        "off = {'cache_validation_mode': False}\n"
        "train(load_config('configs/smoke.toml', total_env_steps=24, world_model_cfg=off))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('validator', 'reports', 'pandas', 'rich')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_gymnasium_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"run: pip install 'kv-lockstep\[train\]'"):
        train(smoke())


def test_unsuitable_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="FrozenLake-v1: expected flat observations"):
        Envs("FrozenLake-v1", 1, np.random.default_rng(0))


def test_coarse_keys_in_small_pools_set_old_and_new_cache_apart() -> None:
    """What ``configs/small_pools.toml`` is for: quirks of the old store change what the search is answered."""
    path = ROOT / "configs" / "small_pools.toml"
    off = {"cache_validation_mode": False}
    old, new = (
        train(load_config(path, total_env_steps=60, world_model_cfg={**off, "use_new_cache_manager": use_new}))
        for use_new in (False, True)
    )
    assert new.cache_stats["recur_pool"]["hits"] > old.cache_stats["recur_pool"]["hits"] + 20

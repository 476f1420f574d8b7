"""Watching and recomputing change nothing: one seed, validation on and off, the same weights to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lightzero.conftest import DEVICE, ROOT, last_run
from tests.lightzero.steady import COMPILER, still_clock

TRAINING = """
import sys
from tests.lightzero.steady import seed_environments, weights
seed_environments()
from shadow.hosts.lightzero import install
install()
from zoo.classic_control.cartpole.config.cartpole_unizero_config import create_config, main_config
from lzero.entry import train_unizero
watched, seed, device = sys.argv[1] == "watched", int(sys.argv[2]), sys.argv[3]
envs = dict(collector_env_num=2, evaluator_env_num=2)
main_config.exp_name = "data/run"
main_config.env.update(n_evaluator_episode=2, **envs)
main_config.policy.update(
    n_episode=2, num_simulations=8, batch_size=16, cuda=device == "cuda", update_per_collect=3, **envs
)
main_config.policy.model.world_model_cfg.update(
    device=device, env_num=2, num_simulations=8, cache_validation_mode=watched, **envs
)
if watched:
    main_config.policy.model.world_model_cfg.cache_validation = dict(oracle=dict(envs=2, searches=2, budget=0.0))
create_config.env_manager.type = "base"
print("WEIGHTS", weights(train_unizero([main_config, create_config], seed=seed, max_env_step=100)))
"""


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler on Linux")
def test_the_same_weights_to_the_last_bit_with_validation_and_its_oracle_and_without(tmp_path: Path) -> None:
    steady = still_clock(tmp_path)

    def trained(*arguments: str) -> str:
        cwd = tmp_path / "-".join(arguments)
        cwd.mkdir()
        environment = {**os.environ, **steady, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", TRAINING, *arguments, DEVICE]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.rpartition("WEIGHTS ")[2].strip()

    watched, unwatched, other = trained("watched", "0"), trained("unwatched", "0"), trained("unwatched", "1")

    assert watched == unwatched
    assert other != watched  # the digest sees a training that went another way
    run = last_run(tmp_path / "watched-0" / "data" / "run" / "validation")
    assert run.totals.n_lookups > 500
    assert run.totals.coverage["recomputations"] > 500
    assert not (tmp_path / "unwatched-0" / "data" / "run" / "validation").exists()

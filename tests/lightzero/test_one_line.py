"""``install()`` and a flag in the config do what ``kv-lockstep run`` does; without the flag they do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lightzero.conftest import DEVICE, ROOT, Done, last_run


def test_one_line_of_code_and_the_flag_do_the_same(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(USERS_SCRIPT.format(flag=True, cuda=DEVICE == "cuda", device=DEVICE))
    unflagged = tmp_path / "without.py"
    unflagged.write_text(USERS_SCRIPT.format(flag=False, cuda=DEVICE == "cuda", device=DEVICE))

    done, plain = (python(tmp_path, path) for path in (script, unflagged))

    assert done.returncode == 0, done.stderr[-2000:]
    assert plain.returncode == 0, plain.stderr[-2000:]
    run = last_run(tmp_path / "data" / "mineTrue" / "validation")
    assert run.state == "complete"
    assert run.totals.n_lookups > 100
    assert run.manifest["validation"]["audit_share"] == 0.5
    assert not list((tmp_path / "data" / "mineFalse").glob("validation"))


USERS_SCRIPT = """
from shadow.hosts.lightzero import install
install()
from zoo.classic_control.cartpole.config.cartpole_unizero_config import create_config, main_config
from lzero.entry import train_unizero
main_config.exp_name = "data/mine{flag}"
main_config.env.update(collector_env_num=2, evaluator_env_num=2, n_evaluator_episode=2)
main_config.policy.update(
    collector_env_num=2, evaluator_env_num=2, n_episode=2, num_simulations=4, batch_size=8, cuda={cuda},
    update_per_collect=1,
)
main_config.policy.model.world_model_cfg.update(
    device="{device}", env_num=2, collector_env_num=2, evaluator_env_num=2, num_simulations=4,
    cache_validation_mode={flag}, cache_validation=dict(audit_share=0.5),
)
create_config.env_manager.type = "base"
train_unizero([main_config, create_config], seed=0, max_env_step=20)
"""


def python(cwd: Path, script: Path) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(script)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )

"""A stock LightZero training in a process of its own, small and short."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from reports.reader import find_runs, read_run
from reports.record.run import Run
from tests import warm

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
DEVICE = os.environ.get("LIGHTZERO_DEVICE", "cpu")  # where these trainings compute: cpu, or cuda where there is one
SIZES = (
    *(
        "env.collector_env_num=2",
        "env.evaluator_env_num=2",
        "env.n_evaluator_episode=2",
        "create.env_manager.type=base",
    ),
    *("policy.collector_env_num=2", "policy.evaluator_env_num=2", "policy.n_episode=2", "policy.num_simulations=8"),
    *("policy.batch_size=16", f"policy.cuda={str(DEVICE == 'cuda').lower()}", "policy.update_per_collect=3"),
    *(f"world_model_cfg.device={DEVICE}", "world_model_cfg.env_num=2", "world_model_cfg.num_simulations=8"),
    *("world_model_cfg.collector_env_num=2", "world_model_cfg.evaluator_env_num=2"),
)

ELSEWHERE = "import sys; sys.modules.update(lzero=None, ding=None); from validator.cli import main; sys.exit(main())"

SLOW = ("ding.worker", "ding.envs", "ding.policy")  # 4 s; what LightZero imports, and none of LightZero

Done = subprocess.CompletedProcess[str]
KvLockstep = Callable[..., Done]


def stock_script() -> Path:
    """Return LightZero's own CartPole script, as the wheel ships it."""
    spec = find_spec("zoo.classic_control.cartpole.config")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "cartpole_unizero_config.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("lzero") is None:
        reason = "LightZero is not installed here; 'make test-lightzero' builds an environment that has it"
        for item in items:
            if HERE in item.path.parents and "absent" not in item.name:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def kv_lockstep(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """Return a function that runs the command in a directory, with one thread; ``elsewhere`` as without LightZero."""

    def run(cwd: Path, *args: str, elsewhere: bool = False) -> Done:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        if not elsewhere:
            return warm.kv_lockstep(*args, cwd=cwd, environment=environment, imported=SLOW)
        command = [sys.executable, "-c", ELSEWHERE, *args]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return run


def sizes(**more: str) -> list[str]:
    """Return the ``--set`` flags of a small run."""
    wanted = [*SIZES, *(f"{key.replace('__', '.')}={value}" for key, value in more.items())]
    return [word for setting in wanted for word in ("--set", setting)]


def last_run(out: Path) -> Run:
    """Read the last run under a directory."""
    return read_run(find_runs(out)[-1])

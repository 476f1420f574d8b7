"""LightZero 0.2.0 as it comes from the registry, its stock script unedited, under ``kv-lockstep run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.reader import find_runs, read_run
from tests.lightzero.conftest import HERE, ROOT, Done, sizes, stock_script
from validator.records import Cause, Fault
from validator.run import Run

KvLockstep = Callable[..., Done]


def last_run(out: Path) -> Run:
    return read_run(find_runs(out)[-1])


@pytest.fixture(scope="module")
def stock(kv_lockstep: KvLockstep, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Run, dict[str, int], Path]:
    """400 env steps of the stock script, with everything counted a second time."""
    cwd = tmp_path_factory.mktemp("stock")
    flags = sizes(max_env_step="400", exp_name="data/stock")
    done = kv_lockstep(cwd, "run", *flags, "--", str(HERE / "counting.py"), "counts.json", str(stock_script()))
    assert (cwd / "counts.json").exists(), done.stderr[-3000:]
    return done, last_run(cwd / "data" / "stock" / "validation"), json.loads((cwd / "counts.json").read_text()), cwd


def test_the_stock_training_passes_and_says_so(stock: Any) -> None:
    done, run, _, cwd = stock

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "PASS: the candidate may ship" in done.stdout
    assert f"run directory: {cwd}/data/stock/validation/{run.manifest['run_id']}" in done.stdout
    assert run.divergences == []
    assert run.state == "complete"


def test_every_lookup_is_counted_and_every_hit(stock: Any) -> None:
    _, run, counts, _ = stock

    by_pool = run.totals.lookups
    assert sum(by_pool["hierarchical"].values()) == counts["total_query_count"]
    assert sum(by_pool["init"].values()) == counts["root_total_query_cnt"]
    assert by_pool["hierarchical"]["both_hit_equal"] == counts["hit_count"]
    assert by_pool["init"]["both_hit_equal"] == counts["root_hit_cnt"]
    rate = (counts["hit_count"] + counts["root_hit_cnt"]) / (
        counts["total_query_count"] + counts["root_total_query_cnt"]
    )
    assert run.totals.hit_rate() == {"control": pytest.approx(rate), "candidate": pytest.approx(rate)}
    assert counts["dict_lookups"] >= 5000
    assert run.totals.n_lookups >= 3000


def test_nothing_of_the_training_is_touched(stock: Any) -> None:
    _, _, counts, _ = stock

    assert counts["operations"] > 6000
    assert counts["generators_moved"] == 0
    assert counts["batch_copies"] > 3000
    assert counts["foreign_objects"] == 0


def test_the_life_cycle_reached_the_referee(stock: Any) -> None:
    _, run, _, _ = stock
    coverage = run.totals.coverage

    assert [line["cache"] for line in run.caches] == ["collect+eval"]  # the target's cache is never used here
    assert coverage["weight_updates"] >= 20
    assert coverage["episodes"] >= 10
    assert coverage["searches"] == coverage["clears_recur"] - coverage["clears_init_env"] // 2
    assert coverage["clears_init_env"] >= 4
    assert run.divergences == []
    assert {line["promises"]["episode_end_clears"] for line in run.caches} == {False}
    assert [event["detail"] for event in run.events if event["event"] == "roles"] == [
        "one model for learn, collect, eval; one model for target"
    ]


def test_the_manifest_names_what_ran(stock: Any) -> None:
    _, run, _, _ = stock

    assert run.manifest["versions"]["LightZero"] == "0.2.0"
    assert run.manifest["host"] == "lightzero"
    assert run.manifest["exp_name"] == "data/stock"
    assert run.manifest["overrides"]["policy.num_simulations"] == "8"
    assert run.caches[0]["policy"]["control"] == run.caches[0]["policy"]["candidate"] | {
        "kind": "legacy_dict",
        "live_results": True,
        "fixed_slots": True,
    }


def test_live_figures_stand_in_the_host_s_own_tensorboard(stock: Any) -> None:
    _, _, _, cwd = stock
    events = b"".join(path.read_bytes() for path in cwd.glob("data/stock/log/serial/events.*"))

    for tag in (
        "lookups/both_hit_equal",
        "hit_rate/candidate",
        "divergences",
        "latency_us_p50/control.set.recur",
        "overhead_share_of_wall",
    ):
        assert f"KVLockstep/collect+eval/{tag}".encode() in events


@pytest.mark.parametrize(
    ("candidate", "cause"),
    [
        ("StoredByReference", Cause.ALIASED_ON_SET),
        ("ValuesFromKeys", Cause.LAYER_MIXED),
        ("EvictsOneEarly", Cause.CAPACITY_OFF),
    ],
)
def test_a_planted_fault_fails_the_real_run(
    kv_lockstep: KvLockstep, tmp_path: Path, candidate: str, cause: Cause
) -> None:
    faulty = f"cache_validation.candidate=tests.lightzero.faults:{candidate}"
    flags = [*sizes(max_env_step="60", exp_name="data/fault"), "--set", faulty, "--out", "runs"]

    done = kv_lockstep(tmp_path, "run", *flags, "--", str(stock_script()))

    run = last_run(tmp_path / "runs")
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert cause in {found.cause for found in run.divergences}
    assert {found.fault for found in run.divergences} == {Fault.CANDIDATE}
    assert run.state == "complete"


def test_in_the_canary_stage_the_training_runs_on_the_candidate(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    flags = [*sizes(max_env_step="60", exp_name="data/canary"), "--primary", "new"]

    done = kv_lockstep(tmp_path, "run", *flags, "--", str(stock_script()))

    run = last_run(tmp_path / "data" / "canary" / "validation")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert run.caches[0]["primary"] == "candidate"


def test_one_line_of_code_and_the_flag_do_the_same(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(USERS_SCRIPT.format(flag=True))
    unflagged = tmp_path / "without.py"
    unflagged.write_text(USERS_SCRIPT.format(flag=False))

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
    collector_env_num=2, evaluator_env_num=2, n_episode=2, num_simulations=4, batch_size=8, cuda=False,
    update_per_collect=1,
)
main_config.policy.model.world_model_cfg.update(
    device="cpu", env_num=2, collector_env_num=2, evaluator_env_num=2, num_simulations=4,
    cache_validation_mode={flag}, cache_validation=dict(audit_share=0.5),
)
create_config.env_manager.type = "base"
train_unizero([main_config, create_config], seed=0, max_env_step=20)
"""


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--out", "a_file/runs"], 2, "expected a directory that can be written"),
        (["--set", "exp_name=a_file/exp"], 1, "itself ended with exit code 1 (NotADirectoryError"),
        (
            ["--set", "cache_validation.audit_shore=1.0"],
            2,
            "unknown setting 'audit_shore'; did you mean 'audit_share'?",
        ),
        (["--set", "cache_validation.candidate=package"], 2, "this LightZero has no manager of its own"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    kv_lockstep: KvLockstep, tmp_path: Path, flags: list[str], code: int, said: str
) -> None:
    (tmp_path / "a_file").touch()

    done = kv_lockstep(tmp_path, "run", *sizes(max_env_step="20"), *flags, "--", str(stock_script()))

    assert done.returncode == code
    assert said in done.stderr.replace("\n", " ")
    assert "New data collection" not in done.stderr


def test_a_store_that_another_release_would_keep_elsewhere_is_refused(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "import runpy\n"
        "from lzero.model.unizero_world_models.world_model import WorldModel\n"
        "WorldModel._initialize_cache_structures = lambda self: None\n"
        f"runpy.run_path({str(stock_script())!r}, run_name='__main__')\n"
    )

    done = kv_lockstep(tmp_path, "run", *sizes(max_env_step="20"), "--", str(script))

    assert done.returncode == 2
    assert "world_model.WorldModel should have a list past_kv_cache_init_infer_envs" in done.stderr
    assert "Nothing would be watched, so nothing is trained" in done.stderr
    assert "New data collection" not in done.stderr


def python(cwd: Path, script: Path) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(script)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )

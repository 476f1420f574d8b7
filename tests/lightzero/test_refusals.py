"""What cannot work on a released LightZero is refused before it trains, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lightzero.conftest import KvLockstep, sizes, stock_script


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

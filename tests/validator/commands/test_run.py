"""``kv-lockstep run`` where LightZero is absent, or a stand-in: refusals by name, and the script's own way to end."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.guards import guards
from tests.warm import kv_lockstep
from validator.cli import main
from validator.script import ScriptMissing, run_script

ROOT = Path(__file__).parents[3]

# What install() reaches for, as empty as it can be.
STAND_IN = {
    "lzero/__init__.py": "",
    "lzero/model/__init__.py": "",
    "lzero/model/unizero_world_models/__init__.py": "",
    "lzero/model/unizero_world_models/world_model.py": """
class WorldModel:
    def _initialize_cache_structures(self): ...
    def custom_copy_kv_cache_to_shared_init_envs(self): ...
    def custom_copy_kv_cache_to_shared_recur(self): ...
    def retrieve_or_generate_kvcache(self): ...
    def forward_initial_inference(self): ...
    def clear_caches(self): ...
""",
    "lzero/entry/__init__.py": """
from ding.config import compile_config
def train_unizero(input_cfg, seed=0, max_env_step=100):
    print("TRAINED", input_cfg, seed, max_env_step)
""",
    "ding/__init__.py": "",
    "ding/config/__init__.py": "def compile_config(cfg): return cfg",
    "ding/policy/__init__.py": "",
    "ding/policy/base_policy.py": "class Policy:\n    def __init__(self): ...",
    "ding/worker/__init__.py": "class BaseLearner:\n    def train(self, data, envstep=-1): ...",
}


def stand_in(root: Path, **changed: str) -> Path:
    for name, text in {**STAND_IN, **changed}.items():
        path = root / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "site"


def run(cwd: Path, *args: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT)] if site is None else [str(site), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
    return kv_lockstep("run", *args, cwd=cwd, environment=environment)


def script(tmp_path: Path, text: str) -> str:
    (tmp_path / "mine.py").write_text(text)
    return "mine.py"


def test_a_script_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "nowhere.py")

    assert done.returncode == 2
    assert "nowhere.py: expected a Python script, found nothing" in done.stderr


@pytest.mark.skipif(find_spec("lzero") is not None, reason="LightZero is installed here, so it is not missing")
def test_without_lightzero_the_message_gives_the_install_command(tmp_path: Path) -> None:
    done = run(tmp_path, "--", script(tmp_path, ""))

    assert done.returncode == 2
    assert "LightZero can't be imported" in done.stderr
    assert "pip install torch==2.13.0 && pip install -r tests/lightzero/requirements.txt" in done.stderr


def test_a_lightzero_without_the_world_model_is_refused_before_the_script_runs(tmp_path: Path) -> None:
    empty = {"lzero/model/unizero_world_models/world_model.py": "class WorldModel: ..."}

    done = run(tmp_path, "--", script(tmp_path, "print('RAN')"), site=stand_in(tmp_path, **empty))

    assert done.returncode == 2
    assert "WorldModel should have _initialize_cache_structures, custom_copy_kv_cache_to_shared_init" in done.stderr
    assert "RAN" not in done.stdout


def test_a_script_that_builds_no_world_model_is_inconclusive(tmp_path: Path) -> None:
    done = run(tmp_path, "--", script(tmp_path, "print('RAN')"), site=stand_in(tmp_path))

    assert done.returncode == 5
    assert "RAN" in done.stdout
    assert "INCONCLUSIVE: mine.py built no UniZero world model, so nothing was compared" in done.stdout


@guards("validator/endings.py", "given & 0xFF if", "given if")
@pytest.mark.parametrize(
    ("text", "code", "shown"),
    [
        ("import sys; sys.exit(7)", 7, "itself ended with exit code 7"),
        ("import sys; sys.exit('no GPU')", 1, "no GPU"),
        ("raise KeyError('x')", 1, "KeyError: 'x'"),
        ("def broken(:", 1, "SyntaxError"),
        ("import sys; sys.exit()", 5, ""),
        ("import sys; sys.exit(-1)", 255, "itself ended with exit code 255"),
        ("import sys; sys.exit(256)", 5, ""),  # python itself would end with 0 there: no failure to pass on
        ("raise KeyboardInterrupt", 130, "raise KeyboardInterrupt\nKeyboardInterrupt\n"),
        ("import sys; sys.excepthook = lambda *_: print('OWN HOOK', file=sys.stderr); 1 / 0", 1, "OWN HOOK"),
    ],
)
def test_the_script_s_own_failure_wins(tmp_path: Path, text: str, code: int, shown: str) -> None:
    done = run(tmp_path, "--", script(tmp_path, text), site=stand_in(tmp_path))

    assert done.returncode == code
    assert shown in done.stderr
    assert "runpy" not in done.stderr
    assert "validator/script.py" not in done.stderr


def test_the_script_sees_what_python_would_show_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("VALUE = 3")
    text = "import sys, os, beside\nprint(__name__, sys.argv, os.getcwd(), beside.VALUE, sys.path[0])"
    (tmp_path / "sub" / "mine.py").write_text(text)

    ours = run(tmp_path, "--", "sub/mine.py", "-a", "--", "b c", site=stand_in(tmp_path))
    plain = subprocess.run(
        [sys.executable, "sub/mine.py", "-a", "--", "b c"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert plain.stdout.strip() in ours.stdout


def test_settings_reach_the_entry_and_leave_the_script_s_objects_alone(tmp_path: Path) -> None:
    text = (
        "main = dict(policy=dict(model=dict(world_model_cfg=dict(a=1)), n=1))\n"
        "create = dict(env_manager=dict(type='x'))\n"
        "from lzero.entry import train_unizero\n"
        "train_unizero([main, create], seed=0)\n"
        "print('OWN', main, create)\n"
    )
    flags = ["policy.n=2", "world_model_cfg.a=3", "create.env_manager.type=base", "max_env_step=9", "seed=4"]

    done = run(
        tmp_path,
        *(w for f in flags for w in ("--set", f)),
        "--",
        script(tmp_path, text),
        site=stand_in(tmp_path),
    )

    trained = "[{'policy': {'model': {'world_model_cfg': {'a': 3}}, 'n': 2}}, {'env_manager': {'type': 'base'}}] 4 9"
    assert f"TRAINED {trained}" in done.stdout
    assert "OWN {'policy': {'model': {'world_model_cfg': {'a': 1}}, 'n': 1}} {'env_manager'" in done.stdout


@guards("shadow/hosts/lightzero/overrides.py", "elif _is_tasks(given):", "elif False:")
def test_settings_reach_every_task_of_a_multi_task_entry(tmp_path: Path) -> None:
    text = (
        "from lzero.entry import train_unizero\n"
        "train_unizero([[task, [dict(policy=dict(n=1)), {}]] for task in range(2)])\n"
    )

    done = run(tmp_path, "--set", "policy.n=2", "--", script(tmp_path, text), site=stand_in(tmp_path))

    assert "TRAINED [[0, [{'policy': {'n': 2}}, {}]], [1, [{'policy': {'n': 2}}, {}]]] 0 100" in done.stdout


@guards("shadow/hosts/lightzero/overrides.py", "elif of_configs:", "elif False:")
def test_settings_that_no_config_can_take_are_refused_before_training(tmp_path: Path) -> None:
    text = "from lzero.entry import train_unizero\ntrain_unizero('config.py')"

    done = run(tmp_path, "--set", "policy.n=2", "--", script(tmp_path, text), site=stand_in(tmp_path))
    plain = run(tmp_path, "--set", "seed=3", "--", script(tmp_path, text), site=stand_in(tmp_path))

    assert done.returncode == 2
    assert (
        "--set policy.n: train_unizero was given str 'config.py'; expected (main_config, create_config)" in done.stderr
    )
    assert "TRAINED" not in done.stdout
    assert "TRAINED config.py 3 100" in plain.stdout


def test_a_setting_on_the_way_to_nowhere_is_refused_before_training(tmp_path: Path) -> None:
    text = "from lzero.entry import train_unizero\ntrain_unizero([dict(policy=dict(n=1)), {}])"

    done = run(tmp_path, "--set", "polcy.n=2", "--", script(tmp_path, text), site=stand_in(tmp_path))

    assert done.returncode == 2
    assert "--set polcy.n: the script's config has no table 'polcy'; did you mean 'policy'?" in done.stderr
    assert "TRAINED" not in done.stdout


def test_a_setting_that_is_new_is_said(tmp_path: Path) -> None:
    text = "from lzero.entry import train_unizero\ntrain_unizero([dict(policy=dict(batch_size=1)), {}])"

    done = run(tmp_path, "--set", "policy.batch_sise=2", "--", script(tmp_path, text), site=stand_in(tmp_path))

    assert "--set policy.batch_sise: new in the script's config; did you mean 'batch_size'?" in done.stderr


def test_run_script_puts_back_what_it_changed(tmp_path: Path) -> None:
    before = sys.argv[:], sys.path[:]
    path = tmp_path / "s.py"
    path.write_text("import sys; sys.argv.append('x'); sys.path.append('y')")

    assert run_script(path, ["1"]).code == 0

    assert (sys.argv, sys.path) == before
    with pytest.raises(ScriptMissing, match="found a directory"):
        run_script(tmp_path, [])


@pytest.fixture
def generating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module of candidates and a script."""
    (tmp_path / "mine_made.py").write_text("def make(asked): ...\nNUMBER = 3\n")
    (tmp_path / "broken_made.py").write_text("1 / 0")
    (tmp_path / "mine.py").write_text("import sys; print('RAN', sys.argv)")
    monkeypatch.setattr("shadow.hosts.transformers.generate.find_spec", bool)  # as if transformers were installed
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--generate", "nowhere_made:make"], "--generate nowhere_made:make: expected module:callable, which makes"),
        (["--generate", "mine_made"], "(no full module name before, or no class after, a colon)"),
        (["--generate", "mine_made:NUMBER"], "(NUMBER is no class but of type int)"),
        (["--generate", "broken_made:make"], "(broken_made can't be imported: ZeroDivisionError: division by zero)"),
        (["--generate", "mine_made:make", "--set", "policy.n=2"], "--set policy.n: with --generate only settings of"),
        (["--generate", "mine_made:make", "--set", "cache_validation.rtoll=2"], "did you mean 'rtol'"),
    ],
)
def test_what_a_script_that_generates_can_t_be_given_is_told_before_it_runs(
    generating: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["run", *flags, "--", "mine.py"]) == 2

    printed = capsys.readouterr()
    assert said in printed.err
    assert "RAN" not in printed.out


def test_a_module_is_run_as_python_would(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys, os; print(__name__, sys.argv, os.getcwd(), sys.path[0])")

    ours = run(tmp_path, "--", "-m", "mine", "-a", "b c", site=stand_in(tmp_path))
    plain = subprocess.run(
        [sys.executable, "-m", "mine", "-a", "b c"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    missing = run(tmp_path, "--", "-m", "no_such_module", site=stand_in(tmp_path))

    assert plain.stdout.strip() in ours.stdout
    assert "INCONCLUSIVE: -m mine built no UniZero world model" in ours.stdout
    assert missing.returncode == 2
    assert "-m no_such_module: no module of this name is found" in missing.stderr

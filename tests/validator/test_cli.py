"""The commands, as a shell sees them: what they print, and the exit code."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import pytest

from reports.reader import read_run
from reports.record.totals import fold
from shadow.hosts.unizero import load_config
from tests.guards import guards
from tests.validator.gate.runs import divergence, window, write_run
from validator.cli import main
from validator.commands import gate as gate_command
from validator.commands.arguments import parser
from validator.config import ValidationConfig
from validator.gate.policy import GatePolicy
from validator.gate.shipped import TRAININGS, find_file
from validator.toml import tomllib

ROOT = Path(__file__).parent.parent.parent


def test_gate_passes_a_sound_run_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["gate", str(write_run(tmp_path, "one", window()))])

    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("PASS by policy 'default'\n  • 0 divergences in 300 lookups: rate below 3/300")
    assert "no divergence" in printed


def test_gate_fails_one_planted_divergence_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = divergence()
    run = write_run(tmp_path, "one", window(divergences={planted.group: 1}), divergences=(planted,))

    code = main(["gate", str(run)])

    assert code == 1
    assert "FAIL by policy 'default'\n  • no divergence, found 1 (candidate at fault in 1)" in capsys.readouterr().out


def test_gate_finds_an_empty_run_inconclusive_with_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["gate", str(write_run(tmp_path))])

    assert code == 5
    assert "lookups: at least 1, found 0" in capsys.readouterr().out


def test_gate_finds_a_run_that_never_closed_inconclusive(tmp_path: Path) -> None:
    assert main(["gate", str(write_run(tmp_path, "one", window(), close=False))]) == 5


def test_gate_fails_a_run_that_died_after_a_divergence(tmp_path: Path) -> None:
    assert main(["gate", str(write_run(tmp_path, "one", divergences=(divergence(),), close=False))]) == 1


def test_gate_judges_every_run_of_a_directory(tmp_path: Path) -> None:
    write_run(tmp_path, "one", window())
    write_run(tmp_path, "two", window())
    assert main(["gate", str(tmp_path)]) == 0

    write_run(tmp_path, "three", divergences=(divergence(),))
    assert main(["gate", str(tmp_path)]) == 1


def test_gate_counts_a_run_named_twice_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(write_run(tmp_path, "one", window()))

    assert main(["gate", run, run]) == 5
    assert "every run once, found one more than once" in capsys.readouterr().out


def test_gate_judges_by_a_policy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs", "one", window())
    policy = tmp_path / "strict.toml"
    policy.write_text("[coverage]\nlookups = 20_000\n")

    assert main(["gate", str(run), "--policy", str(policy)]) == 5
    assert "INCONCLUSIVE by policy 'strict'\n  • lookups: at least 20,000, found 300" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["gate", "report"])
@pytest.mark.parametrize("what", ["nothing", "a file", "a foreign directory"])
def test_what_is_no_run_is_refused_with_2(
    command: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it"
    if what == "a file":
        path.write_text("{}")
    elif what == "a foreign directory":
        path.mkdir()
        (path / "run.json").write_text("[]")

    assert main([command, str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"kv-lockstep {command}: {path}: ")
    assert "expected a run directory" in said.err


def test_a_wrong_policy_is_refused_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "mine.toml"
    policy.write_text("[coverage]\nevictoins = 1\n")

    assert main(["gate", str(write_run(tmp_path / "runs")), "--policy", str(policy)]) == 2
    assert "unknown setting 'evictoins'; did you mean 'evictions'?" in capsys.readouterr().err


def test_text_from_a_run_reaches_the_terminal_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = divergence(key="\x1b[2J[bold]x", operation="get.recur\r")
    run = write_run(tmp_path, "one", window(divergences={planted.group: 1}), divergences=(planted,))

    main(["gate", str(run)])

    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert "key\\x1b[2J[bold]x" in "".join(printed.split())  # wherever lines were broken


def test_report_shows_the_latest_run_and_never_judges_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, "one", window())
    write_run(tmp_path, "two", divergences=(divergence(),))

    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "values corrupted" in printed


@pytest.mark.parametrize("flags", [[], ["--traceback"]])
def test_a_fault_of_the_harness_is_3_and_says_how_to_report_it(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(gate_command, "judge", broken)

    assert main(["gate", str(write_run(tmp_path)), *flags]) == 3
    said = capsys.readouterr().err
    assert "kv-lockstep gate: unexpected ZeroDivisionError: planted" in said
    assert "CONTRIBUTING.md" in said
    assert ("Traceback (most recent call last)" in said) == bool(flags)


def test_an_interrupted_command_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gate_command, "judge", interrupted)

    assert main(["gate", str(write_run(tmp_path))]) == 130


@pytest.mark.parametrize("argv", [[], ["gat", "runs"], ["report"], ["run"], ["gate", "runs", "--polcy", "x"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)

    assert caught.value.code == 2
    assert "usage: kv-lockstep" in capsys.readouterr().err


@pytest.mark.parametrize("command", [None, "train", "ab", "report", "gate"])
def test_the_example_of_each_help_works_when_pasted(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*([command] if command else []), "--help"])

    _, _, after = capsys.readouterr().out.partition("example:\n")
    examples = [line.strip() for line in after.splitlines() if line.startswith("  kv-lockstep ")]
    assert caught.value.code == 0
    assert examples
    for example in examples:
        arguments = parser().parse_args(shlex.split(example)[1:])
        assert command in (None, arguments.command)
        if getattr(arguments, "config", None):
            assert (ROOT / find_file(TRAININGS, arguments.config, "training configuration")).is_file()


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gate", "--help"])

    assert "0 PASS, 1 FAIL, 2 usage or unreadable input, 3 fault" in capsys.readouterr().out


def modules_after(*commands: list[str]) -> set[str]:
    script = (
        f"import sys\nfrom validator.cli import main\nfor argv in {commands!r}:\n"
        "    try:\n        assert main(argv) in (0, 1, 5)\n    except SystemExit:\n        pass\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_judging_and_reporting_import_no_torch(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("max_divergences = 0\n")
    run = str(write_run(tmp_path / "runs", "one", window()))

    loaded = modules_after(["--help"], ["gate", run], ["report", run], ["gate", run, "--policy", str(policy)])

    assert "validator.cli" in loaded
    assert loaded & {"torch", "gymnasium"} == set()


def test_output_into_a_closed_pipe_is_quiet_and_no_success(tmp_path: Path) -> None:
    run = write_run(tmp_path, "one", window())
    command = (
        f"{shlex.quote(sys.executable)} -m validator.cli gate {shlex.quote(str(run))} | true; exit ${{PIPESTATUS[0]}}"
    )

    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 if all of it fitted into the pipe before the reader left


# ---------------------------------------------------------------------------------------------------------------------
# conformance


def taxed(size: int, rate: float) -> None:
    """What no shape calls so."""


@guards("validator/commands/conformance.py", "if find(cache, shape).takes(cache):", "if True:")
@pytest.mark.parametrize("side", ["control", "candidate"])
@pytest.mark.parametrize(
    ("shape", "called"),
    [("pools", "MAKE(config=..., env_num=...)"), ("mapping", "MAKE(capacity), else MAKE()"), ("append", "MAKE()")],
)
@pytest.mark.parametrize(
    ("name", "what"), [("tests.validator.test_cli:taxed", "raised TypeError"), ("builtins:print", "")]
)
def test_what_makes_no_cache_of_a_shape_is_refused_before_anything_is_played(
    side: str, shape: str, called: str, name: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = {"pools": "new", "mapping": "builtins:dict", "append": "validator.proof.appends.caches:GrowingCache"}[shape]
    sides = {"control": sound, "candidate": sound, side: name}

    code = main(["conformance", "--shape", shape, *(word for one in sides.items() for word in (f"--{one[0]}", one[1]))])

    said = capsys.readouterr().err
    assert code == 2
    assert f"--{side} {name}: expected what makes a cache, called as {called}; it " in said
    assert what in said
    assert len(said.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------------------------
# train


TINY = ["--set", "total_env_steps=40", "--quiet"]
SMOKE = ["train", "--config", str(ROOT / "configs/smoke.toml")]
VALIDATED = ["--set", "world_model_cfg.cache_validation_mode=true"]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if any training starts."""
    from validator.commands import train as train_command

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a training started")

    monkeypatch.setattr(train_command, "train", started)
    monkeypatch.setattr(train_command, "Lockstep", started)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "total_env_step=9"], "unknown setting 'total_env_step'; did you mean 'total_env_steps'?"),
        (["--set", "world_model_cfg.num_sims=9"], "unknown setting 'num_sims'"),
        (["--set", "world_model_cfg.cache_validation.windows=9"], "cache_validation: unknown setting 'windows'"),
        (["--set", "env_num=0"], "env_num must be a whole number of at least 1, got 0"),
        (["--set", "env_num=two"], "env_num: expected int, got 'two'"),
        (["--set", "env_num"], "--set 'env_num': expected KEY=VALUE, such as --set world_model_cfg.num_simulations=25"),
        (["--set", "seed.x=1"], "seed.x can't be set, because seed is the value 3 and no table"),
        (["--set", "env_id=CartPoole-v1"], "env_id 'CartPoole-v1' can't be used"),
        (["--set", "env_id=MountainCarContinuous-v0"], "expected discrete actions"),
        (["--set", "device=abacus"], "device 'abacus' can't be used"),
        (["--candidate", "newer", *VALIDATED], "cache 'newer' can't be built: no cache implementation 'newer'"),
        (["--control", "json:Nothing", *VALIDATED], "cache 'json:Nothing' can't be built"),
        (["--candidate", "builtins:dict", *VALIDATED], "it made an object of type dict, without a cache's methods"),
        (["--set", "world_model_cfg.cache_validation.rtol=0.1", *VALIDATED], "rtol and atol must be given together"),
        (["--no-validation", "--candidate", "new"], "--no-validation trains with one cache alone"),
    ],
)
def test_a_wrong_configuration_is_2_before_any_training(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "--seed", "3", *flags]) == 2
    assert message in capsys.readouterr().err


def test_train_takes_the_configuration_that_ships_unless_another_is_named() -> None:
    from validator.commands.train_config import read_config

    shipped, _ = read_config(parser().parse_args(["train"]))
    named, _ = read_config(parser().parse_args(["train", "--config", "small_pools"]))

    assert shipped == load_config(ROOT / "configs/validate.toml")
    assert named == load_config(ROOT / "configs/small_pools.toml")


@pytest.mark.usefixtures("no_training")
def test_a_configuration_that_does_not_ship_is_answered_with_the_nearest_that_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--config", "small_pool"]) == 2
    assert "no training configuration of this name ships; did you mean 'small_pools'?" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
def test_a_missing_configuration_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "nowhere.toml"]) == 2
    assert "nowhere.toml: a training configuration can't be read" in capsys.readouterr().err


def test_flags_change_the_configuration() -> None:
    from validator.commands.train_config import read_config

    flags = ["--seed", "7", "--primary", "new", "--candidate", "legacy", "--out", "elsewhere", *VALIDATED]
    config, settings = read_config(parser().parse_args([*SMOKE, *flags, "--set", "lr=0.5"]))

    assert (config.seed, config.lr) == (7, 0.5)
    assert config.world_model_cfg.use_new_cache_manager
    assert config.world_model_cfg.cache_validation_mode
    assert (settings.candidate, settings.out) == ("legacy", "elsewhere")


def test_train_leaves_a_run_that_the_gate_judges_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*SMOKE, *VALIDATED, *TINY, "--out", str(tmp_path)])
    printed = capsys.readouterr().out

    (run_dir,) = tmp_path.iterdir()
    assert f"run directory: {run_dir}" in printed
    run = read_run(run_dir)
    assert run.state == "complete"
    assert run.totals.n_lookups > 0
    assert run.manifest["seed"] == 0
    assert main(["gate", str(tmp_path)]) == code


def test_train_whose_candidate_answers_garbage_fails(tmp_path: Path) -> None:
    garbage = "tests.validator.test_cli:Garbage"

    assert main([*SMOKE, *VALIDATED, *TINY, "--out", str(tmp_path), "--candidate", garbage, "--no-shrink"]) == 1


def test_train_without_validation_is_no_success_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main([*SMOKE, *TINY, "--no-validation"]) == 0
    assert main([*SMOKE, *TINY, "--set", "world_model_cfg.cache_validation_mode=false"]) == 5
    assert "cache_validation_mode is off, so nothing will be judged" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_train_closes_its_run_and_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from validator.commands import train as train_command

    real: Callable[..., Any] = train_command.train

    def interrupted_after_a_burst(config: Any, *, validation: Any, on_progress: Any) -> Any:
        def interrupt(_: Any) -> None:
            raise KeyboardInterrupt

        return real(config, validation=validation, on_progress=interrupt)

    monkeypatch.setattr(train_command, "train", interrupted_after_a_burst)

    code = main([*SMOKE, *VALIDATED, *TINY, "--out", str(tmp_path)])

    (run_dir,) = tmp_path.iterdir()
    run = read_run(run_dir)
    assert code == 5
    assert run.summary is not None
    assert run.summary["state"] == "interrupted"
    assert "interrupted" in capsys.readouterr().err


def test_an_output_directory_that_can_not_be_written_stops_it_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file, not a directory")

    assert main([*SMOKE, *VALIDATED, *TINY, "--out", str(tmp_path / "runs")]) == 2
    assert str(tmp_path / "runs") in capsys.readouterr().err


def test_without_a_terminal_the_progress_is_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from validator.commands import progress

    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.0)

    main([*SMOKE, *VALIDATED, "--set", "total_env_steps=60", "--out", str(tmp_path)])

    said = capsys.readouterr().err
    assert "Validating KV caches in lockstep, shadow stage" in said
    last = [line for line in said.splitlines() if line.startswith("env steps ")][-1]
    assert re.match(r"env steps \d+/60  return \d+\.\d  loss \d+\.\d+  hit rate control ", last)
    assert "divergences" in last
    assert "\x1b" not in said


def test_on_a_terminal_the_figures_are_never_cut_off() -> None:
    from rich.console import Console

    from shadow.hosts.unizero import Progress
    from validator.commands.progress import display

    terminal = Console(file=io.StringIO(), force_terminal=True, width=60)
    with display(terminal, 60, lambda: fold([window()]), quiet=False) as shown:
        assert shown is not None
        shown(Progress(30, 60, 4, 2, 17.5, None, 1.0))

    said = cast(io.StringIO, terminal.file).getvalue()
    assert "env steps 30/60  return 17.5  loss -" in said
    assert "divergences 0" in said


# ---------------------------------------------------------------------------------------------------------------------
# docs


def test_the_configuration_guide_lists_every_setting() -> None:
    guide = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    missing = [field.name for field in fields(ValidationConfig) if f"`{field.name}`" not in guide]
    assert missing == []


def test_the_guide_to_the_gate_lists_every_demand_with_its_default() -> None:
    guide = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    example = tomllib.loads('name = "my-policy"' + guide.partition('name = "my-policy"')[2].partition("```")[0])

    default = GatePolicy()
    for table in ("runs", "rate", "conformance", "performance"):
        shown = {name: tuple(value) if isinstance(value, list) else value for name, value in example[table].items()}
        assert shown == asdict(getattr(default, table))
    assert example["coverage"].keys() == {field.name for field in fields(default.coverage) if field.init}


class Garbage:
    """A candidate that answers nothing that was ever stored."""

    def __init__(self, config: Any, env_num: int) -> None:
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("get_", "set_", "hierarchical_get", "clear_", "reset_")):
            return lambda *_, **__: "garbage"
        raise AttributeError(name)

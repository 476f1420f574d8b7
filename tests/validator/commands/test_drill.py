"""``kv-lockstep drill``: what it runs, what it shows and keeps, and how it ends."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.read.drills import find_drills, read_drill
from reports.reader import unread_below
from reports.record.drills import DrillOutcome
from shadow.hosts.unizero import world_model
from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.contexts import Contexts
from shadow.hosts.unizero.oracle import UnizeroRecomputer
from shadow.hosts.unizero.world_model import WorldModel
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.switch import BuiltCache
from tests.guards import guards
from tests.validator.proof.test_drill import BLIND, busy, idle
from validator import cli
from validator.commands import drill_series
from validator.commands.drill_series import Ended, Series, runs_below
from validator.config import OracleConfig, ValidationConfig
from validator.proof.drill import planting
from validator.proof.drill.planting import FAULT, OUT
from validator.proof.hosts.unizero import ENV_NUM, SIZES, drive, lively_network
from validator.proof.selftest import EVERYTHING
from validator.session import Lockstep

Drill = Callable[..., int]
ALL = OracleConfig(envs=ENV_NUM, searches=1, budget=0.0)


@pytest.fixture
def drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drill:
    """Run the command on a host that is called in this process instead of being started."""
    monkeypatch.chdir(tmp_path)
    Path("host.py").write_text("")

    def run(host: Callable[[Lockstep], None], *flags: str) -> int:
        def one(self: Series, name: str, folder: str) -> Ended:
            out = self._folder / folder / "runs"
            with monkeypatch.context() as patch:
                patch.setenv(FAULT, name)
                patch.setenv(OUT, str(out))
                with Lockstep("elsewhere", ValidationConfig(selftest=False, oracle=ALL)) as lockstep:
                    host(lockstep)
            return Ended(runs_below(out), 0.1, "")

        monkeypatch.setattr(Series, "one", one)
        return cli.main(["drill", *flags, "--", "host.py"])

    return run


def test_faults_that_are_found_pass_and_are_kept_where_nobody_takes_them_for_runs(
    drill: Drill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drill(busy, "--fault", "keys and values swapped", "--faults", "layers reversed,recurrent clear does") == 0

    said = capsys.readouterr().out
    assert "drill PASS: every planted fault that could show was found" in said
    assert "layers reversed" in said
    (path,) = find_drills(tmp_path / "runs")
    kept = read_drill(path)
    assert (kept.problems, kept.state, kept.manifest["host"]) == ([], "complete", "own")
    assert kept.manifest["candidates"][0]["kind"] == "shadow.manager.KVCacheManager"
    outcomes = {one.name: one.outcome for one in kept.faults}
    assert outcomes.pop("the recurrent clear does nothing") is DrillOutcome.NOT_EXERCISED
    assert set(outcomes.values()) == {DrillOutcome.FOUND}
    assert unread_below(tmp_path / "runs") == []
    assert not Path("elsewhere").exists()


@guards("validator/commands/drill.py", "    if drill.of(*WRONG):\n", "    if False:\n")
def test_a_fault_that_passes_by_fails_loudly(
    drill: Drill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planting, "EVERYTHING", (BLIND, *EVERYTHING))

    assert drill(busy, "--fault", "passes by", "--fault", "values scaled") == 1
    assert "NOT FOUND as it should be: passes by; it acted 24 times" in capsys.readouterr().out


@guards("validator/commands/drill.py", "and drill.of(DrillOutcome.FOUND)", "")
def test_a_host_that_does_little_is_told_what_it_would_never_show(
    drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drill(idle, "--json", "--fault", "the youngest is evicted") == 5  # what shows nothing passes nothing
    (one,) = json.loads(capsys.readouterr().out)["faults"]
    assert (one["outcome"], one["why"]) == ("not exercised", "never evicts")

    drill(idle)
    said = " ".join(capsys.readouterr().out.split())
    assert "never evicts: 8 faults would not show (pools hold one entry less;" in said
    assert "4 of 7 planted faults found, 3 could change nothing here" in said


@guards("validator/session.py", "self._planted.enter_context(", "(")
def test_a_fault_of_the_host_is_planted_in_it_and_found_by_its_oracle(
    drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    def host(lockstep: Lockstep) -> None:
        config = WorldModelConfig(**SIZES)
        control, candidate = LegacyKVCache(config, ENV_NUM), KVCacheManager(config, ENV_NUM)
        cache = lockstep.shadow(control=control, candidate=candidate)
        model = WorldModel(lively_network(config), config, BuiltCache(cache, None, ""))
        lockstep.recompute(cache, UnizeroRecomputer(model, ENV_NUM))
        drive(model)

    assert drill(host, "--json", "--faults", "keys stored as values,window kept one pair too short") == 0
    found = json.loads(capsys.readouterr().out)["faults"]
    assert {each["outcome"] for each in found} == {"found"}
    assert [each["named"] for each in found] == [
        ["layer or K/V mixed up (host)"],
        ["history begins too early or late (host)"],
    ]
    assert vars(world_model)["Contexts"] is Contexts  # it is out of it again


def test_a_host_that_diverges_without_a_fault_is_not_drilled(drill: Drill, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.validator.trials import manager

    def broken(lockstep: Lockstep) -> None:
        (scaled,) = (each for each in EVERYTHING if each.name == "values scaled")
        cache = lockstep.shadow(control=manager(), candidate=scaled.make(manager()))
        from tests.validator.sessions import make_entry

        cache.set_init_cache(0, 1, make_entry(1))
        cache.get_init_cache(0, 1)

    assert drill(broken, "--fault", "values scaled") == 2
    assert "diverges without a planted fault: values corrupted (candidate)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "expected either --config CONFIG"),
        (["--config", "smok"], "smoke"),
        (["--", "nowhere.py"], "nowhere.py: expected a Python script"),
        (["--", "-m"], "-m needs the name of a module"),
        (["--fault", "clear", "--config", "smoke"], "planted faults are called so"),
        (["--fault", "nonsense", "--config", "smoke"], "no planted fault is called so"),
        (["--jobs", "0", "--config", "smoke"], "--jobs must be at least 1"),
    ],
)
def test_what_can_not_be_run_is_refused_in_one_sentence(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["drill", *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drill", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(each.name in said for each in EVERYTHING)


PROGRAM = (
    "import os, sys, time; print('its last words'); print(sorted(os.environ), file=open(sys.argv[1], 'w')); "
    "time.sleep(float(sys.argv[2]))"
)


@guards("validator/commands/drill_series.py", "os.killpg(process.pid, signal.SIGKILL)", "process.kill")
def test_a_program_is_told_of_its_fault_and_stopped_when_it_takes_too_long(tmp_path: Path) -> None:
    def command(seconds: str) -> drill_series.Command:
        return lambda path: (sys.executable, "-c", PROGRAM, str(path / "environ"), seconds)

    ended = Series(command("0"), tmp_path, 60.0).one("values scaled", "01")
    assert ended.problem == "it left no run (exit code 0): its last words"
    assert {FAULT, OUT} <= set(eval((tmp_path / "01" / "environ").read_text()))
    assert FAULT not in os.environ

    began = time.monotonic()
    ended = Series(command("60"), tmp_path, 0.5).one("values scaled", "02")
    assert ended.problem == "stopped after 0.5 s"
    assert time.monotonic() - began < 30


@guards("validator/commands/drill_series.py", "self._stopped.set()", "pass")
def test_an_interrupt_stops_what_is_running(tmp_path: Path) -> None:
    series = Series(lambda path: (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, 0.0)
    began = time.monotonic()

    def interrupted(each: object) -> None:
        time.sleep(0.5)
        raise KeyboardInterrupt

    two = [each for each in EVERYTHING if each.name in ("values scaled", "layers reversed")]
    started: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        for _ in series.all(two, 2, lambda each: interrupted(each) if started else started.append(each.name)):
            pass
    assert time.monotonic() - began < 30

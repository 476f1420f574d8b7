"""What differed is made a test when a run ends, and whatever becomes of that, the verdict is what it was."""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reports.disk.repros import read_repros
from reports.formats.html.page import PAGE_FILE
from reports.reader import read_run
from reports.record.run import Run
from tests.guards import guards
from tests.validator.sessions import open_session
from tests.validator.trials import manager
from validator.commands import run as run_command
from validator.commands import shrink_at_close as at_close
from validator.commands.arguments import parser
from validator.commands.at_close import judge_at_close
from validator.commands.train_config import read_config
from validator.proof.faults.planted import PLANTED, Planted
from validator.proof.selftest import TERRAIN
from validator.proof.stream import Player, steps

QUIET = Console(quiet=True)
KEEP = """
import sys
from pathlib import Path
from reports.disk.repros import keep_repro
from reports.reader import read_run
from reports.record.repro import KeptRepro
for one in read_run(sys.argv[1]).divergences:
    keep_repro(Path(sys.argv[1]), KeptRepro(one.rank, one.id, one.cause, one.fault, "a = 1", 1))
"""


@dataclass
class Closed:
    """A session that this process closed, on disk."""

    run_dir: Path
    rank: int = 0
    world_size: int = 1

    def on_disk(self) -> Run:
        return read_run(self.run_dir)


def finished(out: Path, planted: Planted | None = None, **settings: Any) -> Path:
    with open_session(out, overhead_budget=0.0, **settings) as lockstep:
        candidate = planted.make(manager(envs=3)) if planted else manager(envs=3)
        cache = lockstep.shadow(control=manager(envs=3), candidate=candidate)
        Player(cache, cache.observer).play_all(steps(0, 40, TERRAIN))
    return lockstep.run_dir


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("failing"), PLANTED[0])


@pytest.fixture
def failing(recorded: Path, tmp_path: Path) -> Closed:
    return Closed(Path(shutil.copytree(recorded, tmp_path / recorded.name)))


@pytest.fixture
def shrink_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let something else run in the place of shrinking."""
    return lambda code: monkeypatch.setattr(at_close, "_SHRINK", ("-c", code))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_it_makes_stands_on_the_page_and_is_told_in_one_line(
    failing: Closed, shrink_is: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shrink_is(KEEP)
    assert judge_at_close(failing, Console(width=200), QUIET, 20.0) == 1
    kept, _ = read_repros(failing.run_dir)
    n = len({(one.cause, one.fault) for one in kept})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tests that show it" in line]
    assert line.startswith(f"tests that show it again, for {n} of {n} cause")
    assert "Copy the test" in (failing.run_dir / PAGE_FILE).read_text()


@guards("validator/commands/shrink_at_close.py", "        process.kill()\n", "        pass\n")
@pytest.mark.parametrize("how", ["too long", "interrupted"])
def test_beyond_its_time_or_at_an_interrupt_it_ends_alone(
    how: str, failing: Closed, shrink_is: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shrink_is(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(5)")
    looks: list[float] = []

    def looked(seconds: float) -> None:
        looks.append(seconds)
        if how == "interrupted" and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(at_close.time, "sleep", looked)
    before = {file: file.read_bytes() for file in failing.run_dir.rglob("*") if file.is_file()}
    began = time.monotonic()
    said = at_close.shrink_at_close(read_run(failing.run_dir), 4.0 if how == "interrupted" else 0.5, QUIET)
    assert time.monotonic() - began < 4.0
    assert ("(interrupted)" if how == "interrupted" else "(0.5 s were not enough)") in said
    assert said.endswith(f"; more: kv-lockstep shrink {failing.run_dir}")
    if (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text()):
        assert not is_alive(int(pid))
    assert {file: file.read_bytes() for file in failing.run_dir.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("program", ["/nowhere/python", None])
def test_a_failure_of_it_changes_neither_verdict_nor_exit_code(
    program: str | None,
    failing: Closed,
    shrink_is: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shrink_is("raise SystemExit('no room\\nleft on this device')")
    without = judge_at_close(failing, Console(width=200), QUIET)
    said = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys, "executable", program or sys.executable)
    assert judge_at_close(failing, Console(width=200), QUIET, 20.0) == without == 1
    now = capsys.readouterr().out.splitlines()
    (line,) = [line for line in now if line not in said]
    assert line.startswith("tests that show it again, for 0 of ")
    assert ("FileNotFoundError" if program else "left on this device") in line


@guards("validator/commands/shrink_at_close.py", "not (asked and seconds and whole)", "not whole")
def test_where_there_is_nothing_to_do_no_process_is_started(
    tmp_path: Path, failing: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(at_close, "_ended", lambda *given: started.append(given))
    run = read_run(failing.run_dir)
    assert at_close.shrink_at_close(run, 0.0, QUIET) == ""
    run.state = "crashed"
    assert at_close.shrink_at_close(run, 20.0, QUIET) == ""
    drilled = read_run(failing.run_dir)
    drilled.manifest["drill"] = {"fault": "heads swapped"}
    assert at_close.shrink_at_close(drilled, 20.0, QUIET) == ""
    for number, settings in enumerate(({"planted": None}, {"planted": PLANTED[0], "record": "off"})):
        path = finished(tmp_path / str(number), **settings)
        assert at_close.shrink_at_close(read_run(path), 20.0, QUIET) == ""
    assert started == []


def test_it_can_be_left_out_by_a_flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_config(parser().parse_args(["train"]))[1].shrink_s == 20.0
    assert read_config(parser().parse_args(["train", "--no-shrink"]))[1].shrink_s == 0.0
    given: dict[str, Any] = {}
    monkeypatch.setattr(run_command, "install", lambda *_, **__: None)
    monkeypatch.setattr(run_command, "override", lambda settings, _: given.update(settings))
    monkeypatch.setattr(run_command, "run_script", lambda *_, **__: Namespace(error=None, code=0))
    (tmp_path / "script.py").touch()
    run_command.main(parser().parse_args(["run", "--no-shrink", "--", str(tmp_path / "script.py")]))
    assert given == {"cache_validation.shrink_s": 0.0}

"""How a host ended reaches the verdict, and what can't be written does: the short form of ``tests.torture.ends``."""

from __future__ import annotations

import builtins
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reports.reader import read_run
from reports.writer import RunWriter
from shadow.hosts.lightzero.install import _telling_of_failure
from shadow.hosts.lightzero.installation import Installation
from tests.guards import guards
from tests.reports.records_for_tests import MANIFEST
from tests.torture.ends import DISK, ENDS, played
from tests.validator.sessions import open_session
from validator.gate.judgement import judge
from validator.session import _main_program

_SHORT = (
    *("returns", "sys.exit of a text", "exit(4)", "sys.exit(2), caught", "raises", "raise SystemExit(1) by hand"),
    *("sys.exit(2), then a finally that uses the cache", "os._exit(0)", "a second session, closed in opening order"),
    *("a forked child finds no lock held", "a forked child exits with 1", "close in a finally", "with, sys.exit(0)"),
    *("a worker of multiprocessing returns", "a worker of multiprocessing raises"),
    *("close, the whole host in an except", "an interrupt strikes in the close"),
    *("directory removed", "file removed", "size limit reached", "every write fails with ENOSPC"),
    *("descriptor closed and given to the host", "descriptor given to the host, and our file removed"),
    *("directory where the summary goes", "killed on a full disk", "evidence is a link out of the run"),
)


@guards("validator/endings.py", "if error is not None and trace is not None and", "if False and")
@guards("validator/endings.py", "self._noted = _by_exit(", "_by_exit(")
@guards("validator/endings.py", "if frame is not None and _returned(frame):", "if False:")
@guards("validator/session.py", "by_error(error if id(error) != self._handled else None)", "by_error(None)")
@guards("validator/session.py", "        self.pairs.clear()\n        self.recorder.in_forked_child()", "        pass")
@guards("shadow/wrapper/both.py", "self._observer.used_in_fork()", "pass")
@guards("reports/disk/own_file.py", "if _identity(os.fstat(self._fd)) == self._file:", "if True:")
@guards("reports/disk/own_file.py", "if _identity(os.lstat(path)) != self._file:", "if False:")
@guards("reports/writer.py", "if (self.path / EVIDENCE_DIR).is_symlink():", "if False:")
@guards("validator/session.py", "if multiprocessing.parent_process() is not None:", "if False:")
@guards("reports/reader.py", "run.lost = ", "_ = ")
@pytest.mark.parametrize("name", _SHORT)
def test_no_end_and_no_accident_gives_a_wrong_pass(tmp_path: Path, name: str) -> None:
    played({**ENDS, **DISK}[name], tmp_path)


@pytest.mark.parametrize("name", ["sys.exit(3)", "raises", "SIGKILL", "killed on a full disk"])
def test_what_diverged_before_the_end_is_not_lost(tmp_path: Path, name: str) -> None:
    played({**ENDS, **DISK}[name], tmp_path, "WrongAt(30)")


def test_sessions_that_close_in_the_order_they_opened_leave_everything_as_it_was(tmp_path: Path) -> None:
    def doors() -> tuple[object, ...]:
        return sys.exit, sys.excepthook, type(builtins.exit).__call__

    while _main_program._n_sessions:  # those that other tests never closed
        _main_program.let_go()
    before = doors()
    first, second = open_session(tmp_path / "a"), open_session(tmp_path / "b")
    assert doors() != before
    first.close()
    assert doors() != before
    second.close()
    assert doors() == before


@guards("shadow/hosts/lightzero/install.py", "            installation.failed(error)\n", "")
def test_a_training_entry_that_raises_is_told_though_the_host_goes_on(tmp_path: Path) -> None:
    def train_unizero() -> None:
        raise ValueError("out of memory")

    lockstep = open_session(tmp_path)
    installation = Installation(None, False)
    installation.validation = lockstep
    with suppress(ValueError):
        _telling_of_failure(train_unizero, installation)()
    lockstep.close()

    run = read_run(lockstep.run_dir)
    assert (run.state, run.ended) == ("crashed", "by ValueError: out of memory")
    assert "the host ended by ValueError: out of memory" in str(judge([run]))


@guards("reports/read/consistency.py", "if all_closed and ended_well and said", "if all_closed and said")
def test_a_rank_beyond_the_first_that_failed_makes_the_run_incomplete(tmp_path: Path) -> None:
    for rank, state, ended in ((0, "complete", ""), (1, "crashed", "with exit code 3: sys.exit(3)")):
        manifest = {**MANIFEST, "world_size": 2}
        writer = RunWriter.create(tmp_path, "r1", manifest, rank=rank, evidence_limit_bytes=0)
        writer.close({"run_id": "r1", "state": state, "ended": ended})

    run = read_run(tmp_path / "r1")
    assert (run.state, run.ended) == ("crashed", "with exit code 3: sys.exit(3), on rank 1")

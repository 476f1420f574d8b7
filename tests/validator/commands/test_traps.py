"""Files of a run directory that hang a reader, lead it elsewhere or fill its memory: refused, with the limit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guards import guards
from tests.reports.records_for_tests import divergence, window, write_run
from validator.cli import main

COMMANDS = {"report": [], "gate": [], "compare": ["RUN"], "watch": []}
FILES = ("run.json", "rank-0000.jsonl", "summary.json", "rank-0000.open.json")
SPARSE = 4 << 30


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def link(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    file.touch()
    os.truncate(file, SPARSE)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("COLUMNS", "4000")

    def hung(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(60)
    found = divergence()
    yield write_run(tmp_path, windows=(window(0, divergences={found.group: 1}),), divergences=(found,))
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@guards(
    "reports/read/follow.py",
    "if (match or name in (RUN_FILE, SUMMARY_FILE)) and not is_inside(self._path, name):",
    "if False:",
)
@guards("reports/read/lines.py", "(size := os.fstat(file.fileno()).st_size) > MOST_BYTES", "(size := 0)")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("trap", [pipe, link, sparse])
def test_no_command_hangs_or_leaves_the_directory(
    path: Path, trap: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FILES:
        file = path / name
        whole = file.read_bytes() if file.exists() else None
        trap(file)
        for command, more in COMMANDS.items():
            code = main([command, str(path), *(str(path) for _ in more)])
            printed = capsys.readouterr()
            if (command, name) == ("watch", "rank-0000.jsonl"):
                assert code == 2
                assert "beyond the limit" in printed.err if trap is sparse else "no plain file" in printed.err
            else:
                assert code in ((1, 5) if command == "gate" else (0, 2))
            if command == "gate":
                assert "the limit is" in printed.out if trap is sparse else "is no plain file inside" in printed.out
        file.unlink()
        if whole is not None:
            file.write_bytes(whole)


@guards("reports/read/lines.py", "if len(raw) > LONGEST_LINE:", "if False:")
def test_a_line_without_an_end_is_read_up_to_the_limit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (path / "rank-0000.jsonl").open("r+b") as file:
        os.truncate(file.fileno(), 40 << 20)

    assert main(["gate", str(path)]) == 1
    assert "of more than 16,777,216 bytes, the limit; nothing is read from there on" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["watch", str(path)]) == 2


@guards("reports/disk/json_file.py", "if depth > DEEPEST:", "if False:")
def test_what_is_nested_too_deeply_is_not_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "run.json").write_text('{"schema": 2, "run_id": "r1", "config": ' + "[" * 400 + "]" * 400 + "}")

    assert main(["gate", str(path)]) == 1
    assert "run.json can't be read as JSON: nested too deeply" in capsys.readouterr().out


def test_a_page_is_not_written_through_a_link(path: Path) -> None:
    outside = path.parent / "outside"
    outside.write_text("mine")
    for name in ("report.html", f".report.html.{os.getpid()}.tmp"):
        (path / name).symlink_to(outside)

    assert main(["report", str(path), "--format", "html"]) == 0
    assert outside.read_text() == "mine"

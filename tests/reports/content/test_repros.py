"""Under each cause stands the test that it was shrunk to, as code to copy, or how to get one."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from reports.content.groups import grouped
from reports.content.repros import again
from reports.disk.repros import REPROS_DIR, REPROS_FILE, keep_repro, read_repros
from reports.disk.trace import TRACE_DIR
from reports.formats.html.page import render as as_html
from reports.formats.machine import as_json
from reports.formats.markdown import render as as_markdown
from reports.formats.terminal.run import render as on_terminal
from reports.reader import read_run
from reports.record.repro import KeptRepro
from reports.record.words import Cause, Fault
from tests.guards import guards
from tests.reports.records_for_tests import divergence, write_run
from validator.gate.judgement import judge

LONG = "x = [" + ", ".join(map(str, range(60))) + "]"  # wider than any terminal
SOURCE = f'"""What it is, in <tags> & "quotes"."""\n\n{LONG}\n\n\ndef test_divergence_000():\n    assert x[:2] == []\n'
TEST = KeptRepro(0, 0, Cause.STALE_VERSION, Fault.CANDIDATE, SOURCE, calls=4, fails=True, passes=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write_run(tmp_path, divergences=(divergence(),))
    (path / TRACE_DIR).mkdir()
    return path


def said(path: Path) -> str:
    run = read_run(path)
    return again(run, grouped(run)[0]).said


def shown(path: Path) -> dict[str, str]:
    run = read_run(path)
    judgement = judge([run])
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
    on_terminal(run, judgement, console)
    return {
        "terminal": console.file.getvalue(),  # type: ignore[attr-defined]  # a StringIO
        "markdown": as_markdown(run, judgement),
        "html": as_html(run, judgement),
        "json": as_json(run, judgement),
    }


@guards("reports/formats/terminal/layout.py", ", soft_wrap=True)", ")")
def test_the_test_stands_whole_in_every_format(path: Path) -> None:
    assert keep_repro(path, TEST) == path / REPROS_DIR / "test_divergence_000.py"
    texts = shown(path)
    assert f"\n{SOURCE}" in texts["terminal"]
    assert f"```python\n{SOURCE}```" in texts["markdown"]
    (pre,) = re.findall(r"(?s)<pre[^>]*Test of divergence[^>]*>(.*?)</pre>", texts["html"])
    assert html.unescape(pre) == SOURCE
    assert json.loads(texts["json"])["causes"][0]["repro"]["source"] == SOURCE
    for kind in ("terminal", "markdown", "html"):
        flat = " ".join(texts[kind].replace("\\_", "_").split())
        assert "The same in 4 calls: repros/test_divergence_000.py. It was run: it fails on the cache" in flat


def test_where_there_is_none_the_command_is_named(path: Path) -> None:
    assert said(path) == f"Not made a test yet: kv-lockstep shrink {path} --divergence 0"
    keep_repro(path, KeptRepro(0, 0, Cause.STALE_VERSION, Fault.CANDIDATE, said="it does not come again"))
    assert said(path).startswith("No test was made of it: it does not come again. Try again: kv-lockstep shrink")
    (path / REPROS_DIR / REPROS_FILE).unlink()
    (path / TRACE_DIR).rmdir()
    assert said(path) == "It can't be made a test: this run recorded no trace."


def test_what_was_tried_and_does_not_hold_is_said(path: Path) -> None:
    keep_repro(path, KeptRepro(0, 0, Cause.STALE_VERSION, Fault.CANDIDATE, SOURCE, 40, fails=True))
    assert "fails on a sound cache too. Given more time, it may get shorter: kv-lockstep shrink" in said(path)
    keep_repro(path, KeptRepro(0, 0, Cause.STALE_VERSION, Fault.CANDIDATE, SOURCE, 4, passes=True))
    assert "It was run, and does not fail." in said(path)


@guards("reports/disk/repros.py", 'return ([], problems[0]) if problems else (found, "")', 'return found, ""')
def test_a_test_that_was_changed_is_not_shown(path: Path) -> None:
    file = keep_repro(path, TEST).parent / REPROS_FILE
    file.write_bytes(file.read_bytes().replace(b"x[:2]", b"x[:3]"))
    assert f"not shown: {REPROS_DIR}/{REPROS_FILE} was changed after it was written" in said(path)
    assert not any("x[:3]" in text for text in shown(path).values())
    file.write_text("{")
    assert "can't be read" in said(path)
    file.unlink()
    file.symlink_to(path.parent / "elsewhere")
    assert "no plain file" in said(path)


@guards("reports/disk/repros.py", "repro if repro.source or at not in kept else kept[at]", "repro")
def test_a_test_stays_until_there_is_another(path: Path) -> None:
    keep_repro(path, TEST)
    keep_repro(path, KeptRepro(0, 0, Cause.STALE_VERSION, Fault.CANDIDATE, said="time"))
    keep_repro(path, KeptRepro(1, 0, Cause.STALE_VERSION, Fault.CANDIDATE, "of rank 1", calls=1))
    assert [(one.rank, one.source) for one in read_repros(path)[0]] == [(0, SOURCE), (1, "of rank 1")]
    assert {file.name for file in (path / REPROS_DIR).glob("*.py")} == {TEST.file, "test_rank_1_divergence_000.py"}

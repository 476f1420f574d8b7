"""The table of ranks, in every format: who is missing, and who stayed behind."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from reports.content.ranks import of_ranks
from reports.formats.html.page import render as as_page
from reports.formats.markdown import render as as_markdown
from reports.formats.terminal.run import render as on_terminal
from reports.reader import read_run
from reports.record.run import Run
from reports.writer import RunWriter
from tests.guards import guards
from tests.reports.records_for_tests import MANIFEST, window
from validator.gate.judgement import judge


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Rank 0 closed, rank 1 was killed early, rank 2 never came."""
    for rank, n_updates in ((0, 5), (1, 2)):
        about = {**MANIFEST, "world_size": 3, "seed": rank, "hostname": "<b>node</b>", "pid": 2**22 + 1}
        writer = RunWriter.create(tmp_path, "one", about, rank=rank, evidence_limit_bytes=0)
        writer.window(window(0, coverage={"weight_updates": n_updates}))
        if not rank:
            writer.close({"state": "complete"})
    return read_run(tmp_path / "one")


@guards("reports/content/ranks.py", "if of == rank), default=0)", "), default=0)")
@guards("reports/reader.py", "run.fates |= dict", "dict")
def test_each_rank_has_a_row_also_one_that_never_came(run: Run) -> None:
    zero, one, two = of_ranks(run)

    assert zero[:4] == ("0", "<b>node</b>", "0", "closed")
    assert (zero[4], zero[-1]) == (f"{sum(window(0).ops.values()):,}", "5")
    assert (one[2:4], one[-1]) == (("1", "no close"), "2")  # of another machine: nobody here can say if it lives
    assert two == ("2", "", "", "missing", "0", "0", "0", "0")


def test_every_format_shows_them(run: Run) -> None:
    out = io.StringIO()
    on_terminal(run, judge([run]), Console(file=out, width=100))
    page, markdown = as_page(run, judge([run])), as_markdown(run, judge([run]))

    assert "2 of 3 left a file" in out.getvalue()
    for shown in (out.getvalue(), page, markdown):
        assert "missing" in shown
        assert "no close" in shown
    assert '<section id="ranks">' in page
    assert "<b>node</b>" not in page + markdown


def test_a_single_process_has_no_such_table(run: Run) -> None:
    run.fates = {0: "closed"}

    assert of_ranks(run) == []
    assert "### Ranks" not in as_markdown(run, judge([run]))

"""``kv-lockstep compare``: what differs between two runs."""

from __future__ import annotations

from argparse import Namespace

from rich.text import Text

from reports.content.comparison import compare
from reports.content.text import line
from reports.formats.terminal.layout import Page
from reports.reader import find_runs, read_run
from validator.commands.report import write_output
from validator.commands.show import console
from validator.gate.judgement import judge


def main(arguments: Namespace) -> int:
    """Compare.

    Args:
        arguments: ``run_a, run_b, format, output``; see ``arguments.py``.

    Returns:
        0: both could be shown.

    Raises:
        LockstepError: If the page can't be written.
    """
    a, b = (read_run(find_runs(path)[-1]) for path in (arguments.run_a, arguments.run_b))
    judged = [judge([run]) for run in (a, b)]
    warnings, tables = compare(a, b, judged)
    if arguments.format == "html":
        from reports.formats.html.page import render_template

        path = arguments.output or b.path / "compare.html"
        verdicts = [judgement.verdict.value for judgement in judged]
        page = render_template("compare.html", {"warnings": warnings, "tables": tables, "verdicts": verdicts})
        write_output(path, page)
        print(line(path, 4000))
        return 0
    page_of_text = Page(console())
    page_of_text.points(page_of_text.text(warning, "yellow", limit=1000) for warning in warnings)
    for table in tables:
        page_of_text.heading(table.title, table.remark)
        page_of_text.prose(page_of_text.text(table.classes, "dim"))
        n_names = len(table.columns) if table.title == "Verdicts" else table.n_names
        rows = [[_cell(page_of_text, cell) for cell in row] for row in table.rows]
        page_of_text.table(table.columns, rows, n_names=n_names)
    return 0


def _cell(page: Page, said: str) -> Text | str:
    """Put the spread of a number under it where there is no room beside it."""
    number, bracket, spread = said.partition(" [")
    return said if page.wide or not bracket else page.text(f"{number}\n[{spread}", lines=True)

"""What the commands print with: one kind of console, and a judgement as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from reports.content.facts import by_gravity
from reports.formats.terminal.layout import STYLES, Page
from validator.gate.judgement import Judgement
from validator.gate.rates import Rate

_WIDTH_OF_A_FILE = 140


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``validator.cli``: rich would exit with 1, which is the code of a FAIL."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console; where it is no terminal, tables get room instead of being squeezed into 80 columns."""
    made = _Console(stderr=stderr, highlight=False, markup=False)
    if not (made.is_terminal or "COLUMNS" in os.environ):
        made.width = _WIDTH_OF_A_FILE
    return made


@contextmanager
def counting(out: Console, what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show how far a long piece of work is, on a terminal only.

    Args:
        out: Where to.
        what: What is counted.
        total: How many there are, if known beforehand.

    Yields:
        What to call with how many are done and how many there are.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = out if out.is_terminal else Console(quiet=True)
    with Progress(*columns, console=shown, transient=True, disable=shown is not out) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def show_judgement(judgement: Judgement, out: Console) -> None:
    """Print verdict, reasons and every demand with what was found.

    Args:
        judgement: What the gate said.
        out: Where to.
    """
    page = Page(out)
    by = page.text(f" by policy {judgement.policy!r}")
    page.flush_left(Text.assemble((judgement.verdict.value, STYLES[judgement.verdict]), by))
    page.points(page.text(reason, limit=1000) for reason in judgement.reasons)
    page.heading("Demands")
    page.table(
        ["demanded", "found", "verdict", "where to look, what to do"],
        (
            [
                demand.demanded,
                demand.found,
                page.text(demand.verdict.value, STYLES[demand.verdict]),
                ": ".join(part for part in (demand.where, demand.remedy) if part),
            ]
            for demand in by_gravity(judgement.demands)
        ),
        n_names=4,
    )
    if judgement.rates:
        page.heading("Divergence rate, all runs together", "bounds at 95 % each, without waived divergences")
        page.table(["pool", "per lookup", "per episode"], _by_pool(judgement.rates), n_names=3)
        page.points(page.text(sentence, limit=1000) for sentence in judgement.spread)
    if judgement.groups:
        page.heading("By configuration", "each by itself")
        rows = [(f"{one.name} ({one.n_runs})", *row) for one in judgement.groups for row in _by_pool(one.rates)]
        page.table(["configuration (runs)", "pool", "per lookup", "per episode"], rows, n_names=4)


def _by_pool(rates: Sequence[Rate]) -> list[tuple[str, str, str]]:
    pairs = zip(rates[::2], rates[1::2], strict=True)
    return [(by_lookup.pool, str(by_lookup), str(by_episode)) for by_lookup, by_episode in pairs]

"""What the commands print with: one kind of console, and a judgement as a page."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

from reports.page import STYLES, Page
from validator.gate import Judgement

_WIDTH_OF_A_FILE = 140


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``validator.cli``: rich would exit with 1, which is the code of a FAIL."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console; where it is no terminal, tables get room instead of being squeezed into 80 columns."""
    plain = _Console(stderr=stderr, highlight=False)
    if plain.is_terminal or "COLUMNS" in os.environ:
        return plain
    return _Console(stderr=stderr, highlight=False, width=_WIDTH_OF_A_FILE)


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
        ["demanded", "found", "verdict", "where"],
        (
            [demand.demanded, demand.found, page.text(demand.verdict.value, STYLES[demand.verdict]), demand.where]
            for demand in judgement.demands
        ),
        n_names=4,
    )

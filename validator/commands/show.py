"""What every command prints with: one console, text from files made harmless, and a judgement as a table."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

from validator.gate import Judgement
from validator.records import Verdict

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
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


def harmless(text: str) -> Text:
    """Return text from a run as text: no markup is read from it, and no control character reaches the terminal."""
    return Text("".join(char if char.isprintable() else repr(char)[1:-1] for char in text), overflow="fold")


def show_judgement(judgement: Judgement, out: Console) -> None:
    """Print verdict, reasons and every demand with what was found.

    Args:
        judgement: What the gate said.
        out: Where to.
    """
    style = STYLES[judgement.verdict]
    out.print(Text.assemble((judgement.verdict.value, style), f" by policy {judgement.policy!r}"))
    for reason in judgement.reasons:
        out.print(Text.assemble("  - ", harmless(reason)), soft_wrap=not out.is_terminal)
    table = Table("demanded", "found", "verdict", "where", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for demand in judgement.demands:
        verdict = Text(demand.verdict.value, style=STYLES[demand.verdict])
        table.add_row(harmless(demand.demanded), harmless(demand.found), verdict, harmless(demand.where))
    out.print()
    out.print(table)

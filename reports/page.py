"""A terminal page: headings, facts and tables of harmless text, on any width and any encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.text import clean, line
from validator.records import Verdict

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
_PROSE = 116  # longer lines tire the eye; tables may be wider
_LABEL = 10
_ASCII = str.maketrans({"µ": "u", "·": "|", "•": "*"})


class Page:
    """Prints onto a console; everything it is given is data, never markup.

    Attributes:
        wide: Whether there is room for exact numbers.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = not console.encoding.lower().startswith("utf")
        self.wide = console.width >= 120

    def text(self, value: object, style: str = "", limit: int = 400, lines: bool = False) -> Text:
        """Make harmless text.

        Args:
            value: The data.
            style: Style of rich.
            limit: Most characters.
            lines: Whether line ends in it are kept.
        """
        shown = clean(value, limit) if lines else line(value, limit)
        if self._ascii:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        return Text(shown, style=style, overflow="fold")

    def heading(self, title: str, remark: str = "") -> None:
        """Print the heading of a section."""
        self._console.print()
        self._console.print(Text.assemble(self.text(title, "bold"), "  ", self.text(remark, "dim")))

    def bar(self, text: Text) -> None:
        """Print one line at the left edge."""
        self._console.print(text)

    def prose(self, text: Text) -> None:
        """Print a paragraph."""
        self._indented(text)

    def points(self, texts: Iterable[Text]) -> None:
        """Print a list with bullets."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column()
        for text in texts:
            grid.add_row(self.text("•"), text)
        self._indented(grid)

    def facts(self, rows: Iterable[tuple[str, Text | str]]) -> None:
        """Print labels with what they label; empty ones are left out."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=_LABEL, style="cyan")
        grid.add_column()
        shown = [(label, self.text(value) if isinstance(value, str) else value) for label, value in rows]
        for label, value in shown:
            if value.plain:
                grid.add_row(label, value)
        if grid.row_count:
            self._indented(grid)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Text | str]], n_names: int = 1) -> None:
        """Print a table.

        Args:
            columns: Titles; a line end in one breaks it.
            rows: Cells.
            n_names: How many columns at the left hold names; the others hold numbers and stand at the right.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="cyan")
        for position, title in enumerate(columns):
            name = position < n_names
            table.add_column(
                self.text(title, lines=True),
                justify="left" if name else "right",
                vertical="top" if name else "bottom",
                no_wrap=not name,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(self.text(cell) if isinstance(cell, str) else cell for cell in row))
        self._console.print(Padding(table, (0, 0, 0, 2)))

    def _indented(self, what: Text | Table) -> None:
        width = min(self._console.width, _PROSE)
        self._console.print(Padding(what, (0, 0, 0, 2), expand=False), width=width)

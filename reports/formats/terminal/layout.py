"""A terminal page: headings, facts and tables of harmless text, on any width and any encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from reports.content.text import clean, line
from reports.record.words import Verdict

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
_PROSE = 116  # longer lines tire the eye; tables may be wider
_LABEL = 10
_NAME = 12
_NARROWEST = 80  # tables keep this width on a narrower terminal, which then breaks their lines
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
        gap = "  " if remark else ""
        self._console.print(Text.assemble(self.text(title, "bold underline"), gap, self.text(remark, "dim")))

    def flush_left(self, text: Text) -> None:
        """Print at the left edge."""
        self._console.print(text)

    def space(self) -> None:
        """Print an empty line."""
        self._console.print()

    def prose(self, text: Text) -> None:
        """Print a paragraph."""
        self._indented(text)

    def code(self, value: str) -> None:
        """Print code as it is, so that it can be copied: at the left edge, no line of it broken."""
        self._console.print(self.text(value, limit=len(value), lines=True), soft_wrap=True)

    def points(self, texts: Iterable[Text], bullet: str = "•") -> None:
        """Print a list, the continued lines of each item further in than its first."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=len(bullet))
        grid.add_column()
        for text in texts:
            grid.add_row(self.text(bullet), text)
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
        cells = [[self.text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="cyan")
        for position, title in enumerate(columns):
            heading = self.text(title, lines=True)
            lines = [part for cell in (heading, *(row[position] for row in cells)) for part in cell.plain.split("\n")]
            longest = max(map(cell_len, lines))
            if position < n_names:
                table.add_column(heading, min_width=min(longest, _NAME), overflow="fold")
            else:  # A number is never cut: half of one is another number.
                table.add_column(heading, justify="right", no_wrap=True, min_width=longest)
        for row in cells:
            table.add_row(*row)
        self._console.print(_Trimmed(_Uncut(Padding(table, (0, 0, 0, 2)))), crop=False)

    def _indented(self, what: Text | Table) -> None:
        width = min(self._console.width, _PROSE)
        self._console.print(_Trimmed(Padding(what, (0, 0, 0, 2), expand=False)), width=width)


class _Uncut:
    """A table that grows beyond a terminal too narrow for its numbers, and lets that break the lines."""

    def __init__(self, table: Padding) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width, _NARROWEST)
        least = Measurement.get(console, options.update(width=_NARROWEST * 10), self._table).minimum
        yield from console.render(self._table, options.update(width=max(width, least)))


class _Trimmed:
    """Lines without the blanks that fill them up, so that they can be copied and kept in a log."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines: list[list[Segment]] = [[]]
        for segment in console.render(self._what, options):
            first, *rest = segment.text.split("\n")
            lines[-1].append(Segment(first, segment.style, segment.control))
            lines += [[Segment(text, segment.style)] for text in rest]
        for row in lines[:-1]:
            while row and not row[-1].text.strip():
                row.pop()
            if row:
                row[-1] = Segment(row[-1].text.rstrip(), row[-1].style)
            yield from row
            yield Segment.line()

"""A run on a terminal, in the order in which people ask: may I ship, what differed, show me, enough seen, what cost?"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from reports.content.facts import SIDES, Judgement, classes, meaning, pools, ran, unexplained
from reports.content.groups import Group, grouped
from reports.content.repros import again
from reports.content.text import abbreviated, line, plural
from reports.formats.terminal.background import show_cost, show_coverage, show_provenance
from reports.formats.terminal.divergence import show_divergence
from reports.formats.terminal.layout import STYLES, Page
from reports.record.run import Run
from reports.record.words import Outcome

_MAX_SHOWN = 3
_MAX_ROWS = 20


def first_lines(run: Run, judgement: Judgement, console: Console) -> None:
    """Print the verdict with its reasons, and who was compared with whom.

    Args:
        run: What was recorded.
        judgement: What follows from it.
        console: Where to.
    """
    page = Page(console)
    verdict = judgement.verdict
    page.flush_left(Text.assemble((verdict.value, STYLES[verdict]), f": {meaning(run, judgement)}"))
    page.points(page.text(reason, limit=1000) for reason in judgement.reasons)
    page.space()
    page.facts(_header(page, run))


def differences(run: Run, console: Console) -> None:
    """Print who was compared with whom, what differed and whose fault it is, and the first divergences in full.

    Args:
        run: What was recorded.
        console: Where to.
    """
    page = Page(console)
    page.facts(_header(page, run))
    _differences(page, run)


def render(run: Run, judgement: Judgement, console: Console) -> None:
    """Print the whole report.

    Args:
        run: What was recorded.
        judgement: What follows from it.
        console: Where to; colour, width and encoding are its own.
    """
    first_lines(run, judgement, console)
    page = Page(console)
    _differences(page, run)
    show_coverage(page, run, judgement)
    show_cost(page, run)
    show_provenance(page, run)


def _differences(page: Page, run: Run) -> None:
    groups = grouped(run)
    _what_differed(page, run, groups)
    _show_me(page, run, groups)


def _header(page: Page, run: Run) -> Iterator[tuple[str, Text | str]]:
    style = {"complete": "green", "in progress": "yellow"}.get(run.state, "red")
    name, state, length = ran(run)
    yield "run", Text.assemble(page.text(f"{name}, "), page.text(state, style), page.text(f", {length}"))
    for side in SIDES:
        yield side, classes(run, side)


def _what_differed(page: Page, run: Run, groups: list[Group]) -> None:
    total = sum(group.count for group in groups)
    lookups = plural(run.totals.n_lookups, "lookup")
    page.heading("What differed, and whose fault", f"{plural(total, 'divergence')} in {lookups}")
    if run.totals.lookups:
        _outcomes(page, run)
    if groups:
        page.space()
        page.table(
            ["at fault", "cause", "in respect of", "times", "first"],
            (
                [
                    page.text(group.fault, "yellow" if group.fault == "control" else "bold red"),
                    group.cause,
                    group.dimension,
                    f"{group.count:,}",
                    f"#{group.first.id}" if group.first else "not kept",
                ]
                for group in groups[:_MAX_ROWS]
            ),
            n_names=3,
        )
        if len(groups) > _MAX_ROWS:
            page.prose(page.text(f"and {plural(len(groups) - _MAX_ROWS, 'more cause')}", "dim"))
    uncounted = total - sum(sum(window.divergences.values()) for window in run.windows)
    if uncounted > 0:
        page.prose(page.text(f"{uncounted:,} of them not in the counts above: that window was lost", "yellow"))
    if n_unexplained := unexplained(run):
        page.prose(
            page.text(f"{plural(n_unexplained, 'lookup')} differed without a divergence to explain it", "bold red")
        )


def _outcomes(page: Page, run: Run) -> None:
    """Print lookups by pool and outcome; large counts are cut short where there is no room for them."""
    columns = ["\npool", "both\nequal", "both\ndiffer", "control\nonly", "candid.\nonly", "both\nmiss", "\nerror"]
    rate = "hit rate" if page.wide else "hits of"
    columns += [f"{rate}\ncontrol", f"{rate}\ncandid."]
    rows = []
    for pool, counts, rates in pools(run):
        cells: list[Text | str] = ["all" if pool is None else pool]
        for outcome in Outcome:
            found = counts.get(outcome.value, 0)
            good = outcome in (Outcome.BOTH_HIT_EQUAL, Outcome.BOTH_MISS)
            style = "" if good else "bold red" if found else "dim"
            cells.append(page.text(f"{found:,}" if page.wide else abbreviated(found), style))
        rows.append([*cells, *rates])
    page.table(columns, rows)


def _show_me(page: Page, run: Run, groups: list[Group]) -> None:
    shown = [group for group in groups if group.first is not None]
    for group in shown[:_MAX_SHOWN]:
        if group.best is not None:
            page.heading(f"Show me: divergence #{group.best.id}", f"{group.fault} at fault, {group.cause}")
            show_divergence(page, group.best)
            shown_again = again(run, group)
            if shown_again.said:
                page.code(f"  again      {line(shown_again.said, 1000)}")  # its command is to be copied
            if shown_again.code:
                page.space()
                page.code(shown_again.code)
    if len(shown) > _MAX_SHOWN:
        page.space()
        rest = ", ".join(f"#{group.first.id} {group.cause}" for group in shown[_MAX_SHOWN:] if group.first)
        page.prose(page.text(f"first ones of the other causes: {rest}", "dim", limit=1000))

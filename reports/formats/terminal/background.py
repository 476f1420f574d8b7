"""What stands behind a verdict, on a terminal: what was exercised, what it costs, what ran."""

from __future__ import annotations

from reports.content import facts
from reports.content.facts import MARKS, SIDES, Judgement, words
from reports.content.ranks import HEAD, N_NAMES, of_ranks
from reports.content.text import micros, plural, ratio
from reports.formats.terminal.layout import STYLES, Page
from reports.record.run import Run
from reports.record.words import Verdict

_MAX_ROWS = 20


def show_coverage(page: Page, run: Run, judgement: Judgement) -> None:
    """Print the demands with what was found, unmet ones first, then all that was counted, dropped or went wrong."""
    n_unmet = sum(demand.verdict is not Verdict.PASS for demand in judgement.demands)
    said = f"{n_unmet} of {plural(len(judgement.demands), 'demand')} not met" if n_unmet else "every demand is met"
    page.heading("Was enough exercised", said)
    page.table(
        ["", "demanded", "found"],
        (
            [
                page.text(MARKS[demand.verdict], STYLES[demand.verdict]),
                demand.demanded,
                page.text(f"{demand.found}; {demand.remedy}" if demand.remedy else demand.found, limit=600),
            ]
            for demand in facts.by_gravity(judgement.demands)
        ),
        n_names=3,
    )
    page.space()
    lossy = any(run.totals.dropped.values())
    page.facts(
        (name, page.text(said, "yellow", limit=4000) if name == "dropped" and lossy else page.text(said, limit=4000))
        for name, said in facts.exercised(run)
    )
    _show_events(page, run)
    if run.problems:
        page.facts([("problems", page.text(f"{plural(len(run.problems), 'problem')} of the record itself", "yellow"))])
        page.points((page.text(problem) for problem in run.problems[:_MAX_ROWS]), bullet="  •")
        if len(run.problems) > _MAX_ROWS:
            page.prose(page.text(f"and {len(run.problems) - _MAX_ROWS} more", "dim"))


def show_cost(page: Page, run: Run) -> None:
    """Print latency and memory of both sides, and what the validation itself took."""
    totals = run.totals
    page.heading("What it costs or gains", "latency in µs, within 6 %; ratio: candidate to control")
    named = ("control", "candidate" if page.wide else "candid.")
    columns = ["\noperation", *(f"{name}\n{mark}" for name in named for mark in ("p50", "p90", "p99")), "p50\nratio"]
    rows = []
    for operation in totals.operations[:_MAX_ROWS]:
        cells = [micros(totals.latency(side, operation, mark)) for side in SIDES for mark in (0.5, 0.9, 0.99)]
        control, candidate = (totals.latency(side, operation, 0.5) for side in SIDES)
        rows.append([operation, *cells, ratio(candidate, control)])
    if rows:
        page.table(columns, rows)
        page.space()
    page.facts([("memory", facts.memory(run)), ("overhead", facts.overhead(run))])


def show_provenance(page: Page, run: Run) -> None:
    """Print what ran, on which ranks, and where its record lies."""
    if rows := of_ranks(run):
        page.heading("Ranks", f"{len(run.ranks)} of {len(run.fates)} left a file")
        page.table([*HEAD[:N_NAMES], *(name.replace(" ", "\n") for name in HEAD[N_NAMES:])], rows, n_names=N_NAMES)
    page.heading("Provenance")
    page.facts(facts.provenance(run))


def _show_events(page: Page, run: Run) -> None:
    """Print each kind of event once, with how often it came and what the first said."""
    found = facts.events(run)
    if found:
        total = plural(sum(count for _, count, _ in found), "event")
        page.facts([("events", f"{total}; of each kind, the first")])
        rows = [f"{words(name)} ({count:,}): {said}".removesuffix(": ") for name, count, said in found[:_MAX_ROWS]]
        page.points((page.text(row, limit=800, lines=True) for row in rows), bullet="  •")

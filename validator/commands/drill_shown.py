"""What a person sees of ``kv-lockstep drill``: how far it is, each fault as it was found or not, and the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from reports.content.text import plural, seconds
from reports.formats.terminal.layout import STYLES, Page
from reports.record.drills import WRONG, Drilled, DrillOutcome, DrillRecord
from reports.record.words import Verdict
from validator.proof.drill.exercised import AnyPlanted

_STYLE = {
    DrillOutcome.FOUND: "green",
    DrillOutcome.MISNAMED: "bold red",
    DrillOutcome.MISSED: "bold red",
    DrillOutcome.NO_RESULT: "yellow",
}
_LOUD = {DrillOutcome.MISSED: "NOT FOUND", DrillOutcome.MISNAMED: "MISNAMED"}
_MEANING = {
    Verdict.PASS: "every planted fault that could show was found, by its name, at the side that has it",
    Verdict.FAIL: "this host has faults pass by: a PASS of it says nothing about these",
    Verdict.INCONCLUSIVE: "nothing was shown",
}


class Progress:
    """Shows a drill as it runs."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("")
        self._running: list[str] = []

    def begin(self, total: int, what: str) -> None:
        """Hear how many runs follow."""
        self._bar.update(self._task, total=total, completed=0, description=what)

    def started(self, name: str) -> None:
        """Hear that the run with a fault starts."""
        self._running.append(name)
        self._bar.update(self._task, description="; ".join(self._running))

    def ended(self, found: Drilled) -> None:
        """Hear what came of it."""
        self._running.remove(found.name)
        self._bar.update(self._task, advance=1, description="; ".join(self._running))
        said = f"{_word(found)}: {found.name} ({seconds(found.seconds)})"
        self._bar.console.print(Text(said, _STYLE.get(found.outcome, "")), soft_wrap=True)


@contextmanager
def drilling(out: Console) -> Iterator[Progress]:
    """Show how far a drill is: a bar on a terminal, a line for each fault everywhere."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        yield Progress(bar)


def list_faults(planted: Sequence[AnyPlanted], out: Console) -> None:
    """Print every fault that can be planted, with what it is to be called and what a host has to do to show it."""
    page = Page(out)
    for shape in dict.fromkeys(each.shape for each in planted):
        page.heading(shape)
        for each in (each for each in planted if each.shape == shape):
            shows = f"; shows where a host has {', '.join(each.needs).replace('_', ' ')}" if each.needs else ""
            out.print(page.text(f"  {each.name}: {each.causes[0].value}{shows}"), soft_wrap=True)


def show_drill(drill: DrillRecord, verdict: Verdict, out: Console) -> None:
    """Print the verdict, what was found, what this host would never show, and where it all is."""
    page = Page(out)
    found, wrong = drill.of(DrillOutcome.FOUND), drill.of(*WRONG)
    page.flush_left(Text.assemble("drill ", (verdict.value, STYLES[verdict]), f": {_MEANING[verdict]}"))
    ran = [one for one in drill.faults if one.folder]
    idle = [one for one in drill.of(DrillOutcome.NOT_EXERCISED) if one.folder]
    unable = f", {len(idle)} could change nothing here" if idle else ""
    page.points([page.text(f"{len(found)} of {plural(len(ran), 'planted fault')} found{unable}")])
    page.points(page.text(f"NOT FOUND as it should be: {one.name}; {_why(one)}", "bold red") for one in wrong)
    page.heading("Planted")
    page.table(
        ["fault", "result", "cause", "noticed at\noperation", "of", "fault acted"],
        [
            [
                one.name,
                page.text(_word(one), _STYLE.get(one.outcome, "")),
                "; ".join(one.named[:2]) or one.why or "-",
                "-" if one.operation is None else f"{one.operation:,}" if one.operation >= 0 else "an audit",
                f"{one.operations:,}",
                "?" if one.acts is None else f"{one.acts:,}",
            ]
            for one in ran
        ],
        n_names=3,
    )
    never: dict[str, list[str]] = defaultdict(list)
    for one in drill.faults:
        if not one.folder:
            never[one.why].append(one.name)
    if never:
        page.heading("What this host would never show", "it has to do more, before a fault of these could be seen")
        page.points(
            page.text(f"{why}: {plural(len(names), 'fault')} would not show ({'; '.join(names)})", limit=1000)
            for why, names in never.items()
        )
    page.space()
    page.flush_left(page.text(f"drill: {drill.path}", limit=4000))


def _word(one: Drilled) -> str:
    return _LOUD.get(one.outcome, one.outcome.value)


def _why(one: Drilled) -> str:
    if one.outcome is DrillOutcome.MISNAMED:
        return f"named {'; '.join(one.named[:3])}, where {' or '.join(one.wanted)} is right, at the side that has it"
    acted = "an unknown number of times" if one.acts is None else plural(one.acts, "time")
    return f"it acted {acted} in {one.operations:,} operations and nothing was charged"

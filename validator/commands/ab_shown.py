"""What a person sees of ``kv-lockstep ab``: how far it is, each training as it ends, and the comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from reports.content.text import plural
from reports.formats.terminal.layout import STYLES, Page
from reports.record.trainings import SIDES, Training, Trainings
from validator.gate.judgement import Judgement
from validator.gate.policy import TrainingPolicy
from validator.gate.rules.training import METRICS, change, measured


class SeriesDisplay:
    """Shows a series as it runs.

    Args:
        bar: The bar.
        n_trainings: Trainings of the series.
        total_env_steps: Env steps of each; None if unknown.
    """

    def __init__(self, bar: Progress, n_trainings: int, total_env_steps: int | None) -> None:
        self._bar = bar
        self._n_trainings = n_trainings
        self._total = total_env_steps
        self._n_started = 0
        self._now = ""
        self._task = bar.add_task("", total=n_trainings)

    def started(self, seed: int, side: str) -> None:
        """Hear that a training starts."""
        self._n_started += 1
        self._now = f"training {self._n_started} of {self._n_trainings}: seed {seed}, {side} alone"
        self._update(self._n_started - 1.0, self._now)

    def stepped(self, env_steps: int) -> None:
        """Hear how far it is."""
        share = min(1.0, env_steps / self._total) if self._total else 0.0
        self._update(self._n_started - 1 + share, f"{self._now}, env steps {env_steps:,}")

    def ended(self, training: Training) -> None:
        """Hear that it ended."""
        self._update(self._n_started, self._now)
        self._bar.console.print(_line(training), soft_wrap=True)

    def _update(self, completed: float, text: str) -> None:
        self._bar.update(self._task, completed=completed, description=text)


@contextmanager
def series_display(out: Console, n_trainings: int, total_env_steps: int | None, quiet: bool) -> Iterator[SeriesDisplay]:
    """Show how a series goes: a bar on a terminal, a line for each training that ended everywhere.

    Args:
        out: Where to.
        n_trainings: Trainings of the series.
        total_env_steps: Env steps of each; None if unknown.
        quiet: Show nothing.

    Yields:
        What to tell.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    shown = Console(quiet=True) if quiet else out
    with Progress(*columns, console=shown, transient=True, disable=quiet or not out.is_terminal) as bar:
        yield SeriesDisplay(bar, n_trainings, total_env_steps)


def show_trainings(trainings: Trainings, policy: TrainingPolicy, judgement: Judgement, out: Console) -> None:
    """Print verdict, comparison, what was run and where it lies.

    Args:
        trainings: What was recorded.
        policy: What it was judged by.
        judgement: What came of it.
        out: Where to.
    """
    page = Page(out)
    pairs = [pair for pair in trainings.pairs() if not any(training.error for training in pair)]
    seeds = page.text(f" over {plural(len(pairs), 'seed')}, control and candidate each alone")
    page.flush_left(Text.assemble((judgement.verdict.value, STYLES[judgement.verdict]), seeds))
    page.points(page.text(reason, limit=1000) for reason in judgement.reasons)
    rows: list[list[Text | str]] = []
    for metric in METRICS:
        found, margin = measured(metric, pairs), getattr(policy, metric.margin)
        if found is None:
            rows.append([metric.called, "-", "-", "not measured", _margin(margin), ""])
            continue
        verdict = found.verdict(margin, metric.higher_is_better)
        style = STYLES[verdict]
        means = [metric.shown(found.control), metric.shown(found.candidate)]
        judged = page.text(verdict.value, style) if not math.isinf(margin) else ""
        rows.append([metric.called, *means, change(found), _margin(margin), judged])
    page.heading("Trained alone", "means over seeds; difference in % of the control's (95 % interval of the pairs)")
    page.table(["", "control", "candidate", "difference", "margin", "verdict"], rows)
    page.space()
    page.facts(
        [
            *((side, ", ".join(sorted(name for name, _ in trainings.caches(side)))) for side in SIDES),
            ("trajectory", _trajectory(trainings)),
            ("what ran", page.text(trainings.manifest.get("ran", ""), limit=1000)),
        ]
    )
    if trainings.caches("control") == trainings.caches("candidate"):
        page.prose(page.text("control and candidate are the same class: this says nothing about a new cache"))
    out.print(f"result: {trainings.path}", soft_wrap=True)


def _trajectory(trainings: Trainings) -> str:
    if trainings.differences:
        return "; ".join(map(str, trainings.differences))
    seeds = sum(control.digests == candidate.digests != {} for control, candidate in trainings.pairs())
    return f"identical to the last bit for {plural(seeds, 'seed')}" if trainings.repeatable else "not compared"


def _margin(margin: float) -> str:
    return "none" if math.isinf(margin) else f"{margin:.1%}"


def _line(training: Training) -> str:
    head = f"seed {training.seed} {training.side}"
    if training.error:
        return f"{head}: {training.error}"
    parts = [f"{training.env_steps:,} env steps"]
    parts += [
        f"{metric.called} {metric.shown(value)}" for metric in METRICS if (value := metric.of(training)) is not None
    ]
    return f"{head}: {', '.join(parts)}"

"""What a person sees while a training runs: live figures and a bar on a terminal, an occasional plain one elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TimeElapsedColumn
from rich.text import Text

from reports.record.totals import Totals

if TYPE_CHECKING:
    from shadow.hosts.unizero import Progress as Standing

_PLAIN_EVERY_S = 10.0


@contextmanager
def display(
    out: Console, total_env_steps: int, totals: Callable[[], Totals] | None, quiet: bool
) -> Iterator[Callable[[Standing], None] | None]:
    """Show how a training goes.

    Args:
        out: Where to.
        total_env_steps: Env steps until the end.
        totals: Asked for what the validation counted so far; None without validation.
        quiet: Show nothing.

    Yields:
        What to call with the training's progress; None if nothing is to be shown.
    """
    if quiet:
        yield None
    elif out.is_terminal:
        bar = Progress(BarColumn(), TimeElapsedColumn(), auto_refresh=False)
        task = bar.add_task("", total=total_env_steps)
        # The figures stand above the bar, where a narrow terminal breaks the line instead of cutting it off.
        figures = Text("starting")
        with Live(Group(figures, bar), console=out, transient=True):

            def update(now: Standing) -> None:
                bar.update(task, completed=now.env_steps)
                figures.plain = _line(now, totals)

            yield update
    else:
        shown_at = time.monotonic()

        def show(now: Standing) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= _PLAIN_EVERY_S or now.env_steps >= now.total_env_steps:
                shown_at = time.monotonic()
                out.print(_line(now, totals), soft_wrap=True)

        yield show


def _line(now: Standing, totals: Callable[[], Totals] | None) -> str:
    parts = [
        f"env steps {now.env_steps:,}/{now.total_env_steps:,}",
        "return -" if now.recent_return is None else f"return {now.recent_return:.1f}",
        "loss -" if now.losses is None else f"loss {now.losses.total:.3f}",
    ]
    if totals is not None:
        counted = totals()
        rates = counted.hit_rate()
        shown = (f"{side} -" if rate is None else f"{side} {rate:.1%}" for side, rate in rates.items())
        parts += [f"hit rate {' '.join(shown)}", f"divergences {counted.n_divergences:,}"]
    return "  ".join(parts)

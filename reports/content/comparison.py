"""Two runs side by side: what appeared, what vanished, what became faster, larger or less exercised from A to B."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import quantiles

from reports.content import facts
from reports.content.facts import SIDES, Judgement
from reports.content.groups import Group, grouped
from reports.content.text import micros, share, size
from reports.record.histogram import percentile
from reports.record.run import Run
from reports.record.totals import Totals
from reports.record.words import Outcome

Figure = tuple[float | None, tuple[float, float] | None]  # of a whole run, with its quartiles over windows
_ENOUGH = 5  # operations in a window that make its median worth a look


@dataclass(frozen=True, slots=True)
class Compared:
    """One table of a comparison.

    Attributes:
        title: What it holds.
        classes: Which classes were compared, so that sides can't be swapped unseen.
        columns: Titles.
        rows: Cells.
        n_names: How many columns at the left hold names.
        remark: How to read it, or empty.
    """

    title: str
    classes: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_names: int = 1
    remark: str = ""


def compare(a: Run, b: Run, judged: Sequence[Judgement]) -> tuple[list[str], list[Compared]]:
    """Compare two runs.

    Args:
        a: The earlier run, or the one that is trusted.
        b: The other one.
        judged: Their judgements.

    Returns:
        Warnings on what makes them incomparable, and the tables.
    """
    classes = f"A: {_short(a, 'control')} against {_short(a, 'candidate')}; "
    classes += f"B: {_short(b, 'control')} against {_short(b, 'candidate')}"
    found = [
        Compared("Verdicts", classes, ("", "A", "B"), tuple(_about(a, b, judged))),
        Compared("Divergences", classes, ("at fault", "cause", "A", "B", "change"), tuple(_divergences(a, b)), 2),
        Compared("Lookups", classes, ("outcome", "A", "B"), tuple(_outcomes(a, b))),
    ]
    spread = "in brackets: quartiles over windows; ratio: B to A, with the range that these quartiles allow"
    for side in SIDES:
        title = f"{side.capitalize()}: {_short(a, side)} in A, {_short(b, side)} in B"
        columns = ("", "A", "B", "B to A")
        found.append(Compared(title, classes, columns, tuple(_side(a, b, side)), 1, spread))
    found.append(Compared("Coverage", classes, ("exercised", "A", "B"), tuple(_coverage(a, b))))
    return list(_warnings(a, b)), found


def _warnings(a: Run, b: Run) -> Iterator[str]:
    sides = [{side: facts.classes(run, side).partition(" (")[0] for side in SIDES} for run in (a, b)]
    if sides[0] != sides[1]:
        swapped = sides[0]["control"] == sides[1]["candidate"] or sides[0]["candidate"] == sides[1]["control"]
        yield f"{'sides are swapped' if swapped else 'not the same classes'}: {_all(a)} in A, {_all(b)} in B"
    for name, run in (("A", a), ("B", b)):
        if run.state != "complete":
            yield f"{name} is {run.state}: what is missing in it may only not have been recorded"
    for name in ("seed", "config"):
        if a.manifest.get(name) != b.manifest.get(name):
            yield f"{name} differs between the runs"
    if a.path.resolve() == b.path.resolve():
        yield "A and B are the same run"


def _about(a: Run, b: Run, judged: Sequence[Judgement]) -> Iterator[tuple[str, ...]]:
    yield "verdict", *(judgement.verdict.value for judgement in judged)
    for part, name in enumerate(("run", "state", "length")):
        yield name, facts.ran(a)[part], facts.ran(b)[part]
    for side in SIDES:
        yield side, facts.classes(a, side), facts.classes(b, side)
    yield "overhead", facts.overhead(a), facts.overhead(b)


def _divergences(a: Run, b: Run) -> Iterator[tuple[str, ...]]:
    def named(run: Run) -> dict[tuple[str, str, str], Group]:
        return {(group.fault, group.cause, group.dimension): group for group in grouped(run)}

    in_a, in_b = named(a), named(b)
    for key in {**in_b, **in_a}:
        counts = [found[key].count if key in found else 0 for found in (in_a, in_b)]
        change = "in both" if all(counts) else "appeared" if counts[1] else "vanished"
        yield key[0], f"{key[1]} ({facts.words(key[2])})", *(f"{count:,}" for count in counts), change


def _outcomes(a: Run, b: Run) -> Iterator[tuple[str, ...]]:
    for outcome in Outcome:
        yield facts.words(outcome.value), *(f"{run.totals.outcomes()[outcome.value]:,}" for run in (a, b))


def _side(a: Run, b: Run, side: str) -> Iterator[tuple[str, ...]]:
    rates = [(run.totals.hit_rate()[side], _quartiles(_hit_rates(run, side))) for run in (a, b)]
    yield "hit rate", *_compared(rates, share)
    held = [(run.totals.bytes_held.get(side), _quartiles(_held(run, side))) for run in (a, b)]
    yield "memory", *_compared(held, lambda n_bytes: "-" if n_bytes is None else size(n_bytes))
    for name in sorted({*a.totals.operations, *b.totals.operations}):
        medians = [(run.totals.latency(side, name, 0.5), _quartiles(_medians(run, f"{side}.{name}"))) for run in (a, b)]
        yield f"{name}, median µs", *_compared(medians, micros)


def _coverage(a: Run, b: Run) -> Iterator[tuple[str, ...]]:
    for name in sorted({*a.totals.coverage, *b.totals.coverage}):
        yield facts.words(name), *(f"{run.totals.coverage.get(name, 0):,}" for run in (a, b))
    yield "envs", *(f"{len(run.totals.envs):,}" for run in (a, b))


def _hit_rates(run: Run, side: str) -> list[float]:
    rates = (Totals(lookups=window.lookups).hit_rate()[side] for window in run.windows)
    return [rate for rate in rates if rate is not None]


def _held(run: Run, side: str) -> list[int]:
    return [window.bytes_held[side] for window in run.windows if side in window.bytes_held]


def _medians(run: Run, name: str) -> list[float]:
    histograms = (window.latency_ns.get(name, {}) for window in run.windows)
    medians = (percentile(counts, 0.5) for counts in histograms if sum(counts.values()) >= _ENOUGH)
    return [median for median in medians if median is not None]


def _quartiles(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 3:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def _compared(figures: Sequence[Figure], shown: Callable[[float | None], str]) -> Iterator[str]:
    """Yield a figure of A and of B, and their ratio, each with its spread."""
    for figure, span in figures:
        yield shown(figure) + (f" [{shown(span[0])} to {shown(span[1])}]" if span else "")
    (first, one), (second, other) = figures
    if not first or second is None:
        yield "-"
    elif not one or not other or not one[0] or not one[1]:
        yield f"{second / first:.2f}x"
    else:
        yield f"{second / first:.2f}x [{other[0] / one[1]:.2f} to {other[1] / one[0]:.2f}]"


def _short(run: Run, side: str) -> str:
    names = (str(pair.get(side, "unknown")).rpartition(".")[2] for pair in run.caches)
    return ", ".join(dict.fromkeys(names)) or "nothing"


def _all(run: Run) -> str:
    return " against ".join(facts.classes(run, side).partition(" (")[0] for side in SIDES)

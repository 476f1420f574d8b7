"""Plots as inline SVG, coloured by the page's style sheet so that they follow light, dark and print."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup, escape

from reports.content.heat_maps import Grid
from reports.content.text import line, number

Point = tuple[float, float]
_WIDTH, _HEIGHT = 380, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 18, 10, 32
_LEVELS = 8
_LABEL = 52


def lines(
    title: str,
    series: Sequence[tuple[str, Sequence[Point]]],
    x_name: str,
    y_label: Callable[[float], str],
    *,
    top: float | None = None,
    bottom: float = 0.0,
    bars: bool = False,
) -> Markup:
    """Draw lines, or stacked bars, over one axis.

    Args:
        title: What it shows, for who can't see it.
        series: Class name (``control``, ``candidate``, ...) and points, sorted by x.
        x_name: Name of the axis.
        y_label: Puts a value of the other axis into words.
        top: Upper end of the other axis; None for the greatest value.
        bottom: Its lower end.
        bars: Whether to stack bars.
    """
    series = [(_class(name), part) for name, part in series]
    points = [point for _, part in series for point in part]
    if not points:
        return Markup("")
    xs = sorted({x for x, _ in points})
    low, high = xs[0], xs[-1]
    if bars:
        totals = {x: sum(y for _, part in series for at, y in part if at == x) for x in xs}
        top = top or _round_up(max(totals.values()))
    top = top or _round_up(max(y for _, y in points)) or 1.0
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at_x(x: float) -> float:
        return _LEFT + width * ((x - low) / (high - low) if high > low else 0.5)

    def at_y(y: float) -> float:
        return _TOP + height * (1 - (min(max(y, bottom), top) - bottom) / (top - bottom))

    marks = [bottom + (top - bottom) * part for part in (0, 0.5, 1)]
    parts = list(_frame(x_name, [(at_y(mark), y_label(mark)) for mark in marks]))
    shown = [low, (low + high) / 2, high] if high > low else [low]
    parts += [_text(at_x(x), _HEIGHT - 18, f"{x:,.0f}" if high >= 10 else f"{x:.2g}", "tick mid") for x in shown]
    if bars:
        thick = max(1.5, min(18.0, width / max(len(xs), 1) * 0.8))
        below = dict.fromkeys(xs, 0.0)
        for name, part in series:
            for x, y in part:
                base, below[x] = below[x], below[x] + y
                left = min(max(at_x(x) - thick / 2, _LEFT), _WIDTH - _RIGHT - thick)
                size = f'width="{thick:.1f}" height="{at_y(base) - at_y(below[x]):.1f}"'
                parts.append(f'<rect class="fill {name}" x="{left:.1f}" y="{at_y(below[x]):.1f}" {size}/>')
    else:
        # The control's line is dashed: on top, both are seen where they agree. A side may have nothing to show.
        for name, part in reversed([each for each in series if each[1]]):
            path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in part)
            dot = f'<circle class="fill {name}" cx="{at_x(part[-1][0]):.1f}" cy="{at_y(part[-1][1]):.1f}" r="2.5"/>'
            parts.append(f'<polyline class="line {name}" points="{path}"/>{dot}')
    return _svg(title, _WIDTH, _HEIGHT, parts)


def distributions(title: str, series: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Draw distributions of durations on a logarithmic axis.

    Args:
        title: What it shows, for who can't see it.
        series: Class name and points: nanoseconds, share of all.
    """
    series = [(_class(name), part) for name, part in series]
    points = [point for _, part in series for point in part]
    if not points:
        return Markup("")
    low, high = math.log10(max(1.0, min(x for x, _ in points))), math.log10(max(10.0, *(x for x, _ in points)))
    low, high = low - 0.05, high + 0.05
    top = max(y for _, y in points)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - 40 - _TOP - _BOTTOM

    def at(x: float, y: float) -> str:
        share = (math.log10(max(1.0, x)) - low) / (high - low)
        return f"{_LEFT + width * share:.1f},{_TOP + height * (1 - y / top):.1f}"

    parts = list(_frame("", [(_TOP + height, "0"), (_TOP, f"{top:.0%}")], _HEIGHT - 40))
    ticks = [(exponent, factor) for exponent in range(12) for factor in (1, 2, 5)]
    ticks = [(e, f) for e, f in ticks if low <= e + math.log10(f) <= high]
    ticks = [(e, f) for e, f in ticks if f == 1] if len(ticks) > 7 else ticks
    for exponent, factor in ticks:
        share = (exponent + math.log10(factor) - low) / (high - low)
        parts.append(_text(_LEFT + width * share, _HEIGHT - 58, _duration(factor * 10.0**exponent), "tick mid"))
    for name, part in series:
        if part:
            floor = at(part[0][0], 0), at(part[-1][0], 0)
            path = f"{floor[0]} {' '.join(at(x, y) for x, y in part)} {floor[1]}"
            parts.append(f'<polygon class="area {name}" points="{path}"/>')
    return _svg(title, _WIDTH, _HEIGHT - 40, parts)


def heat(title: str, grid: Grid) -> Markup:
    """Draw a grid of differences; darker is greater, on a logarithmic scale.

    Args:
        title: What it shows, for who can't see it.
        grid: The numbers, as ``reports.content.heat_maps`` says.
    """
    least, greatest = bounds(grid)
    n_columns = max(len(grid.columns), 1)
    cell_w = min(30.0, (_WIDTH - _LABEL - 4) / n_columns)
    cell_h = max(9.0, min(20.0, 150 / max(len(grid.rows), 1)))
    cells: dict[str, list[str]] = {}
    for row, values in enumerate(grid.values):
        for column, value in enumerate(values):
            corner = f"M{_LABEL + column * cell_w:.1f} {row * cell_h + 2:.1f}"
            cells.setdefault(f"h{level(value, least, greatest)}", []).append(
                f"{corner}h{cell_w - 0.8:.1f}v{cell_h - 0.8:.1f}h-{cell_w - 0.8:.1f}z"
            )
    height = len(grid.rows) * cell_h + 30
    parts = [f'<path class="{name}" d="{"".join(paths)}"/>' for name, paths in sorted(cells.items())]
    step = max(1, math.ceil(len(grid.rows) / 16))
    for row in range(0, len(grid.rows), step):
        parts.append(_text(_LABEL - 5, (row + 0.5) * cell_h + 5, grid.rows[row], "tick end"))
    step = max(1, math.ceil(n_columns / 12))
    for column in range(0, len(grid.columns), step):
        label = grid.columns[column].partition("-")[0]
        parts.append(_text(_LABEL + (column + 0.5) * cell_w, height - 17, label, "tick mid"))
    parts.append(_text(_LABEL + n_columns * cell_w / 2, height - 4, "token", "tick mid"))
    return _svg(title, _WIDTH, height, parts)


def bounds(grid: Grid) -> tuple[float, float]:
    """Return both ends of the scale, one to six decades below the greatest finite difference; zeros without any.

    At least one, so that differences of about the same size look so, and none of them nearly equal.
    """
    found = [value for row in grid.values for value in row if 0 < value < math.inf]
    return (min(max(min(found), max(found) * 1e-6), max(found) / 10), max(found)) if found else (0.0, 0.0)


def level(value: float, least: float, greatest: float) -> str:
    """Return the colour of a difference: ``0`` equal, ``1`` to ``8``, ``x`` not finite, ``n`` on one side only."""
    if math.isnan(value):
        return "n"
    if math.isinf(value):
        return "x"
    if value <= 0:
        return "0"
    if not least:  # below what a float can be divided
        return str(_LEVELS)
    share = math.log(max(value, least) / least) / math.log(greatest / least)
    return str(1 + min(_LEVELS - 1, int(share * _LEVELS)))


def cell(value: float) -> str:
    """Put one difference into words."""
    return "one side only" if math.isnan(value) else "not finite" if math.isinf(value) else number(value)


def _class(name: str) -> str:
    """Return a name of data as the name of a class: nothing in it ends the attribute."""
    return re.sub(r"[^a-z0-9-]", "-", name)


def _frame(x_name: str, marks: Sequence[tuple[float, str]], height: int = _HEIGHT) -> Iterator[str]:
    for y, label in marks:
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        yield _text(_LEFT - 5, y + 3, label, "tick end")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, height - 4, x_name, "tick mid")


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> Markup:
    shown = escape(line(title))
    box = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    return Markup(f'<svg {box} role="img" aria-label="{shown}"><title>{shown}</title>{"".join(parts)}</svg>')


def _text(x: float, y: float, said: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(line(said, 40))}</text>'


def _duration(nanoseconds: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.0f} {unit}"
    return f"{nanoseconds:.0f} ns"


def _round_up(value: float) -> float:
    if value <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 5, 8, 10) if step * unit >= value * 0.999)

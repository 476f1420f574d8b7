"""How a run went over the training: windows put into few, equally wide steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from reports.record.records import Window
from reports.record.run import Run
from reports.record.totals import add_counts, fold

MOST = 80
_ENOUGH = 5  # different values that make an axis worth while
_AXES = {"train_iter": "training iteration", "env_step": "env step", "t_s": "seconds"}


@dataclass(slots=True)
class Step:
    """What happened in one step.

    Attributes:
        at: Its end, on the axis.
        hit_rate: Hit rate of each side, None without lookups.
        n_lookups: Lookups.
        divergences: Divergences by side at fault.
        bytes_held: Bytes by side, at its end.
    """

    at: float
    hit_rate: dict[str, float | None] = field(default_factory=dict)
    n_lookups: int = 0
    divergences: dict[str, int] = field(default_factory=dict)
    bytes_held: dict[str, int] = field(default_factory=dict)


def over_training(run: Run) -> tuple[str, list[Step]]:
    """Return the name of the axis and at most ``MOST`` steps, in order.

    The axis is the training iteration; the env step where the host told too little of that; else seconds.
    """
    told = [axis for axis in _AXES if len({getattr(window, axis) for window in run.windows} - {-1}) >= _ENOUGH]
    axis = told[0] if told else "t_s"
    name, at = _AXES[axis], attrgetter(axis)
    windows = sorted((window for window in run.windows if at(window) >= 0), key=at)
    if not windows:
        return name, []
    low, high = at(windows[0]), at(windows[-1])
    width = (high - low) / MOST or 1.0
    bins: dict[int, list[Window]] = {}
    for window in windows:
        bins.setdefault(min(int((at(window) - low) / width), MOST - 1), []).append(window)
    held: dict[tuple[int, str], dict[str, int]] = {}
    return name, [_step(at(part[-1]), part, held) for part in bins.values()]


def _step(at: float, windows: list[Window], held: dict[tuple[int, str], dict[str, int]]) -> Step:
    counted = fold(windows)
    held |= {(window.rank, window.cache): window.bytes_held for window in windows if window.bytes_held}
    step = Step(at, counted.hit_rate(), counted.n_lookups, counted.divergences_by(2))
    for sides in held.values():
        add_counts(step.bytes_held, sides)
    return step

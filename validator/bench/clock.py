"""How things are timed: round by round, one after the other, in processor time of the one thread that does the work.

So a busy machine slows all of them alike, and what waits for a processor does not count.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from time import thread_time_ns
from typing import NamedTuple, TypeVar

Name = TypeVar("Name")


class Spread(NamedTuple):
    """Times of one thing.

    Attributes:
        median_us: Median, microseconds.
        low_us: First quartile.
        high_us: Third quartile.
    """

    median_us: float
    low_us: float
    high_us: float

    @classmethod
    def of(cls, times_ns: list[float]) -> Spread:
        """Summarise times in nanoseconds."""
        low, median, high = statistics.quantiles(times_ns, n=4)
        return cls(median / 1e3, low / 1e3, high / 1e3)


def interleaved(work: Mapping[Name, Callable[[], int]], rounds: int) -> dict[Name, list[float]]:
    """Time several pieces of work in turn.

    Args:
        work: By name; each does its work and returns how many operations that were.
        rounds: Rounds after two that are not counted.

    Returns:
        Nanoseconds per operation by name, one per round.
    """
    times: dict[Name, list[float]] = {name: [] for name in work}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for index in range(rounds + 2):
            for name, do in work.items():
                began = thread_time_ns()
                count = do()
                spent = thread_time_ns() - began
                if index >= 2:
                    times[name].append(spent / count)
    finally:
        if collecting:
            gc.enable()
    return times


def ratio(times: Mapping[str, list[float]], one: str, other: str) -> float:
    """Return the median over the rounds of how much longer one thing took than the other in the same round."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

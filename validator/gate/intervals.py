"""How sure is it? Exact bounds of a rate, and an interval of a mean, without a statistics package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

_EXACT = 1e-12  # relative


class Interval(NamedTuple):
    """An estimate with its one-sided bounds: either side is exceeded with probability ``1 - confidence`` at most."""

    low: float
    estimate: float
    high: float


def rate(events: int, trials: int, confidence: float = 0.95) -> Interval:
    """Bound the rate of independent events exactly (Clopper and Pearson 1934).

    Args:
        events: How often it happened.
        trials: In how many trials.
        confidence: Of each bound by itself. At 0.95, 0 in N is below ``1 - 0.05 ** (1 / N)``, about 3/N.

    Returns:
        The bounds; ``(0, nan, 1)`` without trials.
    """
    if not trials:
        return Interval(0.0, math.nan, 1.0)
    tail = 1 - confidence
    low, high = 0.0, 1.0
    if events:
        low = _solve(lambda p: beta_cdf(events, trials - events + 1, p) - tail)
    if not events:
        high = -math.expm1(math.log(tail) / trials)
    elif events < trials:
        high = _solve(lambda p: beta_cdf(events + 1, trials - events, p) - confidence)
    return Interval(low, events / trials, high)


def mean(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """Bound the mean of samples by Student's t; infinitely wide with fewer than two."""
    if len(samples) < 2:
        return Interval(-math.inf, fmean(samples) if samples else math.nan, math.inf)
    middle = fmean(samples)
    half = t_quantile(confidence, len(samples) - 1) * stdev(samples) / math.sqrt(len(samples))
    return Interval(middle - half, middle, middle + half)


def t_quantile(share: float, freedom: int) -> float:
    """Return the value that Student's t does not exceed with a probability of at least one half."""

    def missing(x: float) -> float:
        # P(T <= t) = 1 - I_x(freedom / 2, 1 / 2) / 2 with x = freedom / (freedom + t^2)
        return beta_cdf(freedom / 2, 0.5, x) / 2 - (1 - share)

    x = _solve(missing)
    return math.sqrt(freedom * (1 - x) / x)


def beta_cdf(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(b, a, 1 - x)  # where the fraction converges fast
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    # Evaluated forward, both continuants at once, scaled so that neither overflows.
    older, newer, older_below, newer_below = 1.0, 1.0, 0.0, 1.0
    value = 1.0
    for m in range(1, 10_000):
        for term in (
            -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1)),
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
        ):
            older, newer = newer, newer + term * older
            older_below, newer_below = newer_below, newer_below + term * older_below
        older, newer, older_below = older / newer_below, newer / newer_below, older_below / newer_below
        newer_below = 1.0
        before, value = value, newer
        if abs(value - before) <= _EXACT * abs(value):
            break
    return front / value


def _solve(rising: Callable[[float], float]) -> float:
    """Find the root in (0, 1) of a function that rises."""
    low, high = 0.0, 1.0
    while high - low > _EXACT * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2

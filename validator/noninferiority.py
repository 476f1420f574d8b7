"""Is the candidate no worse than the control by more than a margin? Paired over seeds, with Student's t.

Both sides train with the same seeds, so what varies from seed to seed cancels in the difference of a pair. The interval
is the two-sided 95 % one of the mean difference; the candidate is shown to be no worse if the worse end of it stays
within the margin, and shown to be worse if even the better end lies beyond it. Between, the seeds were too few.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from validator.records import Verdict

_TAIL = 0.025  # on each side of a 95 % interval
_MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of control and candidate over the same seeds.

    Attributes:
        n: Pairs.
        control: Mean with the control.
        candidate: Mean with the candidate.
        low: Lower end of the interval of the mean difference; None for fewer than two pairs.
        high: Upper end.
    """

    n: int
    control: float
    candidate: float
    low: float | None
    high: float | None

    def share(self, difference: float) -> float | None:
        """Return a difference as a share of the control's mean; None where that is 0 and the difference is not."""
        if not difference:
            return 0.0
        return difference / abs(self.control) if self.control else None

    def verdict(self, margin: float, higher_is_better: bool) -> Verdict:
        """Judge.

        Args:
            margin: How much worse the candidate may be, as a share of the control's mean.
            higher_is_better: Which way is worse.

        Returns:
            PASS if the candidate is shown to be no worse than that, FAIL if it is shown to be, else INCONCLUSIVE.
        """
        if self.low is None or self.high is None:
            return Verdict.INCONCLUSIVE
        ends = self.share(self.low), self.share(self.high)
        if None in ends:
            return Verdict.INCONCLUSIVE
        losses = sorted(-end if higher_is_better else end for end in ends if end is not None)
        if losses[1] <= margin:
            return Verdict.PASS
        return Verdict.FAIL if losses[0] > margin else Verdict.INCONCLUSIVE

    def seeds_needed(self, margin: float, higher_is_better: bool) -> int | None:
        """Estimate how many seeds would decide, if what was seen so far is typical; None if no number would."""
        if self.low is None or self.high is None or not self.control:
            return None
        mean = (self.candidate - self.control) / abs(self.control)
        room = margin + (mean if higher_is_better else -mean)
        spread = (self.high - self.low) / 2 / abs(self.control) / t_quantile(self.n - 1) * math.sqrt(self.n)
        for n in range(self.n + 1, _MOST_SEEDS):
            if room and t_quantile(n - 1) * spread / math.sqrt(n) <= abs(room):
                return n
        return None


def compare(control: Sequence[float], candidate: Sequence[float]) -> Comparison:
    """Compare one quantity over pairs.

    Args:
        control: One value per seed, at least one.
        candidate: The same seeds in the same order.

    Returns:
        Means and the interval of the mean difference.
    """
    differences = [b - a for a, b in zip(control, candidate, strict=True)]
    n, mean = len(differences), statistics.fmean(differences)
    low = high = None
    if n > 1:
        half = t_quantile(n - 1) * statistics.stdev(differences) / math.sqrt(n)
        low, high = mean - half, mean + half
    return Comparison(n, statistics.fmean(control), statistics.fmean(candidate), low, high)


def t_quantile(df: int) -> float:
    """Return the 97.5 % quantile of Student's t, the half width of a 95 % interval in standard errors.

    Args:
        df: Degrees of freedom, at least 1.

    The distribution function for whole degrees of freedom is a finite sum (Abramowitz and Stegun 1964, 26.7.3 and
    26.7.4) in the angle whose tangent is t / sqrt(df); the angle is found by bisection.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _central_share(angle, df) < 1 - 2 * _TAIL else (low, angle)
    return math.sqrt(df) * math.tan(low)


def _central_share(angle: float, df: int) -> float:
    """Return the probability of a t between minus and plus sqrt(df) * tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    term = total = cosine if df % 2 else 1.0
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if df == 1:
        return 2 * angle / math.pi
    return 2 / math.pi * (angle + sine * total) if df % 2 else sine * total

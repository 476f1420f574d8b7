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

from reports.record.words import Verdict
from validator.gate.intervals import Interval, mean, t_quantile

_EACH_BOUND = 0.975  # two of them make a 95 % interval
_MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of control and candidate over the same seeds.

    Attributes:
        n: Pairs.
        control: Mean with the control.
        candidate: Mean with the candidate.
        difference: Candidate less control, with its 95 % interval; infinitely wide for a single pair.
    """

    n: int
    control: float
    candidate: float
    difference: Interval

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
        low, high = self.share(self.difference.low), self.share(self.difference.high)
        if low is None or high is None:
            return Verdict.INCONCLUSIVE
        best, worst = (-high, -low) if higher_is_better else (low, high)
        if worst <= margin:
            return Verdict.PASS
        return Verdict.FAIL if best > margin else Verdict.INCONCLUSIVE

    def seeds_needed(self, margin: float, higher_is_better: bool) -> int | None:
        """Estimate how many seeds would decide, if what was seen so far is typical; None if no number would."""
        if self.n < 2 or not self.control:
            return None
        low, middle, high = (end / abs(self.control) for end in self.difference)
        room = abs(margin + (middle if higher_is_better else -middle))
        deviation = (high - low) / 2 / t_quantile(_EACH_BOUND, self.n - 1) * math.sqrt(self.n)
        for n in range(self.n + 1, _MOST_SEEDS):
            if t_quantile(_EACH_BOUND, n - 1) * deviation / math.sqrt(n) < room:
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
    difference = mean([b - a for a, b in zip(control, candidate, strict=True)], _EACH_BOUND)
    return Comparison(len(control), statistics.fmean(control), statistics.fmean(candidate), difference)

"""Durations on a logarithmic scale: fixed size, mergeable, at most 6 % off.

Bucket numbers follow the floating-point idea: the position of the highest bit is the exponent, the next three bits are
the mantissa, so each power of two has eight buckets. Values below 16 have a bucket of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import mul

BUCKETS = 512


def is_due(window: int) -> bool:
    """Tell whether a run's window of this ordinal brings histograms: each of the first 128, then 64 in every doubling.

    They are nine tenths of a window on disk, and what one of them covers is never more than a 64th of the run.
    """
    return window % (1 << max(0, window.bit_length() - 7)) == 0


def bucket(value: int) -> int:
    """Return the bucket of a whole number of nanoseconds."""
    if value < 16:
        return value if value > 0 else 0
    exponent = value.bit_length()
    return (exponent - 3 << 3) + (value >> exponent - 4 & 7)


def midpoint(index: int) -> float:
    """Return the middle of a bucket, nanoseconds."""
    if index < 16:
        return float(index)
    exponent, mantissa = (index >> 3) + 3, index & 7
    width = 1 << exponent - 4
    return (8 + mantissa) * width + width / 2


_MIDPOINTS = {str(index): midpoint(index) for index in range(BUCKETS)}


def total(histograms: Sequence[Mapping[str, int]]) -> tuple[float, int]:
    """Return the sum of the durations counted in some histograms, nanoseconds, and how many they are."""
    counts = [*chain.from_iterable(histogram.values() for histogram in histograms)]
    middles = map(_MIDPOINTS.__getitem__, chain.from_iterable(histograms))
    return float(sum(map(mul, middles, counts))), sum(counts)


def percentile(counts: Mapping[str, int], share: float) -> float | None:
    """Return the duration that a share of the counted ones do not exceed.

    Args:
        counts: Buckets by number as text.
        share: In ``[0, 1]``; 0.5 is the median.

    Returns:
        Nanoseconds, the middle of the bucket; None without counts.
    """
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen = max(1.0, share * total), 0
    ordered = sorted((int(index), count) for index, count in counts.items())
    for index, count in ordered:
        seen += count
        if seen >= wanted:
            return midpoint(index)
    return midpoint(ordered[-1][0])

"""The statistics behind an A/B of trainings: intervals, and when they decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.record.words import Verdict
from validator.gate.noninferiority import compare


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    found = compare([10.0, 20.0, 30.0], [11.0, 22.0, 33.0])

    # Differences 1, 2, 3: mean 2, deviation 1, so the half width is 4.303 / sqrt(3).
    assert (found.n, found.control, found.candidate) == (3, 20.0, 22.0)
    assert found.difference.low == pytest.approx(2 - 2.4842, abs=1e-3)
    assert found.difference.high == pytest.approx(2 + 2.4842, abs=1e-3)


def test_what_varies_from_seed_to_seed_cancels_in_the_pairs() -> None:
    found = compare([1.0, 100.0, 10_000.0], [2.0, 101.0, 10_001.0])

    assert (found.difference.low, found.difference.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(1000):
        found = compare(rng.normal(5.0, 1.0, 4).tolist(), rng.normal(5.3, 1.0, 4).tolist())
        held += found.difference.low <= 0.3 <= found.difference.high

    assert 930 <= held <= 970


EQUAL = ([100.0, 110.0, 90.0], [100.0, 110.0, 90.0])
SLIGHTLY = ([100.0, 110.0, 90.0], [103.0, 113.1, 92.9])  # + 3 %
FAR = ([100.0, 110.0, 90.0], [120.0, 131.0, 110.0])  # + 20 %
NOISY = ([100.0, 110.0, 90.0], [140.0, 80.0, 95.0])


@pytest.mark.parametrize(
    ("values", "higher_is_better", "verdict"),
    [
        (EQUAL, False, Verdict.PASS),
        (EQUAL, True, Verdict.PASS),
        (SLIGHTLY, False, Verdict.PASS),
        (SLIGHTLY, True, Verdict.PASS),
        (FAR, False, Verdict.FAIL),
        (FAR, True, Verdict.PASS),
        (FAR[::-1], True, Verdict.FAIL),
        (FAR[::-1], False, Verdict.PASS),
        (NOISY, False, Verdict.INCONCLUSIVE),
        (NOISY, True, Verdict.INCONCLUSIVE),
    ],
)
def test_only_the_worse_direction_counts_and_only_beyond_the_margin(
    values: tuple[list[float], list[float]], higher_is_better: bool, verdict: Verdict
) -> None:
    assert compare(*values).verdict(0.05, higher_is_better) is verdict


def test_one_seed_decides_nothing() -> None:
    found = compare([100.0], [100.0])

    assert (found.difference.low, found.difference.high) == (-math.inf, math.inf)
    assert found.verdict(0.05, True) is Verdict.INCONCLUSIVE
    assert found.seeds_needed(0.05, True) is None


def test_a_share_of_nothing_decides_nothing_unless_nothing_differs() -> None:
    assert compare([0.0, 0.0], [0.0, 0.0]).verdict(0.05, True) is Verdict.PASS
    assert compare([0.0, 0.0], [1.0, 2.0]).verdict(0.05, True) is Verdict.INCONCLUSIVE
    assert compare([-1.0, 1.0], [0.0, 2.0]).verdict(0.05, True) is Verdict.INCONCLUSIVE


def test_negative_returns_are_shares_of_their_size() -> None:
    found = compare([-200.0, -202.0, -198.0], [-240.0, -243.0, -238.0])

    assert found.share(found.candidate - found.control) == pytest.approx(-0.2017, abs=1e-3)
    assert found.verdict(0.05, True) is Verdict.FAIL


def test_the_seeds_that_would_decide_are_estimated() -> None:
    # Deviation 3.65 around 0, margin 5: the half width is 3.182 * 3.65 / 2 = 5.8 now, 2.776 * 3.65 / 2.24 = 4.5 with 5.
    few = compare([100.0] * 4, [96.0, 104.0, 102.0, 98.0])

    assert few.verdict(0.05, False) is Verdict.INCONCLUSIVE
    assert few.seeds_needed(0.05, False) == 5


def test_no_number_of_seeds_decides_what_lies_on_the_margin() -> None:
    assert compare([100.0] * 3, [104.0, 105.0, 106.0]).seeds_needed(0.05, False) is None

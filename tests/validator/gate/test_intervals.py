"""Bounds of rates and means, against published values and against the definition."""

from __future__ import annotations

import math

import pytest

from validator.gate.intervals import beta_cdf, mean, rate, t_quantile


@pytest.mark.parametrize("trials", [1, 10, 300, 29_324, 10**9])
def test_none_in_n_is_the_rule_of_three(trials: int) -> None:
    low, estimate, high = rate(0, trials)

    assert (low, estimate) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.05 ** (1 / trials), rel=1e-6)
    assert high < 3 / trials


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [(3, 100, 0.00823, 0.07571), (1, 20, 0.00256, 0.21611), (10, 10, 0.74113, 1.0), (5, 10, 0.22244, 0.77756)],
)
def test_above_none_the_bounds_are_those_of_clopper_and_pearson(
    events: int, trials: int, low: float, high: float
) -> None:
    found = rate(events, trials)

    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


@pytest.mark.parametrize(("events", "trials"), [(1, 7), (3, 50), (49, 50), (40, 200)])
def test_at_its_bound_a_rate_is_just_possible(events: int, trials: int) -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.comb(trials, n) * p**n * (1 - p) ** (trials - n) for n in range(k + 1))

    low, _, high = rate(events, trials)

    assert at_most(events, high) == pytest.approx(0.05)
    assert 1 - at_most(events - 1, low) == pytest.approx(0.05)


def test_without_trials_nothing_is_known() -> None:
    low, estimate, high = rate(0, 0)

    assert (low, high) == (0.0, 1.0)
    assert math.isnan(estimate)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 6.3138), (2, 2.9200), (10, 1.8125), (30, 1.6973), (1000, 1.6464)]
)
def test_quantiles_of_student(freedom: int, expected: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(expected, abs=1e-4)


def test_the_interval_of_a_mean() -> None:
    low, middle, high = mean([1.0, 2.0, 3.0])

    assert middle == 2.0
    assert high - middle == pytest.approx(2.9200 / math.sqrt(3), abs=1e-4)
    assert middle - low == pytest.approx(high - middle)


@pytest.mark.parametrize("samples", [[], [1.0]])
def test_one_sample_bounds_nothing(samples: list[float]) -> None:
    assert (mean(samples).low, mean(samples).high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("a", "b", "x", "expected"), [(1, 1, 0.3, 0.3), (2, 3, 0.5, 0.6875), (2, 2, 0.0, 0.0), (2, 2, 1.0, 1.0)]
)
def test_the_incomplete_beta_function(a: float, b: float, x: float, expected: float) -> None:
    assert beta_cdf(a, b, x) == pytest.approx(expected)

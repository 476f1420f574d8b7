"""Where an average over runs would mislead: one run with all divergences, one course twice, configurations apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.record.run import Run
from tests.guards import guards
from tests.validator.campaign import NOW, busy_run, busy_window, policy
from validator.gate.judgement import Judgement, judge
from validator.gate.rules.demand import Evidence

GROUP = "value|values corrupted|candidate"


def diverged(seed: int, count: int, **changes: Any) -> Run:
    window = busy_window()
    lookups = {**window.lookups, "init": {"both_hit_equal": 3900 - count, "both_miss": 100, "both_hit_differ": count}}
    return busy_run(
        seed, "control", replace(window, lookups=lookups, divergences={GROUP: count} if count else {}), **changes
    )


def judged(*runs: Run, by: str = "smoke") -> Judgement:
    return judge(Evidence(runs, now=NOW), policy(by))


def test_one_seed_with_all_the_divergences_is_no_average() -> None:
    first, apart = judged(*(diverged(seed, 12 * (seed == 3)) for seed in range(16))).spread

    assert first == "1 of 16 runs diverged: between 0.3% and 26.4% of all such runs at 95 %"
    assert apart == (
        "12 of 12 divergences lie in one run (seed 3, shadow stage) with 6% of the lookups: the rate of all runs is "
        "not this run's, nor the others' (0 in 180,000 lookups)"
    )


@guards("validator/gate/spread.py", "if chance < _RARE:", "if True:")
def test_divergences_that_chance_spreads_so_are_not_said_to_stand_apart() -> None:
    (alone,) = judged(*(diverged(seed, 2 + seed % 2) for seed in range(16))).spread
    assert alone.startswith("16 of 16 runs diverged")
    assert judged(*(diverged(seed, seed == 3) for seed in range(16))).spread[1:] == ()


def test_runs_that_do_not_diverge_are_alike() -> None:
    assert judged(*(diverged(seed, 0) for seed in range(16))).spread == ()
    assert judged(diverged(0, 5)).spread == ()


@guards(
    "validator/gate/judgement.py",
    "rates(distinct(evidence.runs), n_left(evidence))",
    "rates(evidence.runs, n_left(evidence))",
)
def test_one_course_counts_once_in_the_rates() -> None:
    runs = [diverged(seed, 0, course=course) for seed, course in enumerate(("a", "b", "a", ""))]
    judgement = judged(*runs)

    assert judgement.spread == ("1 of 4 runs took the course of another to the last bit; rates count it once",)
    assert judgement.rates[0].trials == 3 * 4000
    assert "0 divergences in 48,000 lookups, 36,000 of them of different courses" in judgement.reasons[0]


@pytest.mark.parametrize(
    "other", [{"pair": {"sources": {"candidate": "0c"}}}, {"manifest": {"config": {"env_num": 4}}}]
)
def test_one_course_of_another_candidate_or_configuration_is_another(other: dict[str, Any]) -> None:
    judgement = judged(diverged(0, 0, course="a"), diverged(1, 0, course="a", **other))
    assert judgement.rates[0].trials == 8000


@guards("validator/gate/rules/identity.py", '"run_id", "exp_name")', '"run_id")')
def test_where_an_experiment_lies_makes_it_no_other_one() -> None:
    judgement = judged(*(diverged(n, 0, course="a", manifest={"config": {"exp_name": f"data/{n}"}}) for n in (0, 1)))
    assert judgement.rates[0].trials == 4000
    assert judgement.groups == ()


def test_one_course_that_showed_something_else_is_another() -> None:
    judgement = judged(diverged(0, 0, course="a"), diverged(1, 3, course="a"))
    assert (judgement.rates[0].events, judgement.rates[0].trials) == (3, 8000)


@guards("validator/gate/rules/campaign.py", "apart = distinct(counting)", "apart = counting")
def test_seeds_that_ended_identical_are_counted_once() -> None:
    runs = [diverged(seed, 0, course="a" if seed else "b") for seed in range(3)]
    (demand,) = [one for one in judged(*runs, by="shadow-to-canary").demands if "distinct seeds" in one.demanded]

    assert demand.verdict.value == "INCONCLUSIVE"
    assert demand.found == "2 (0, 1); 1 more took the course of one of them to the last bit"


def test_each_configuration_has_rates_of_its_own() -> None:
    runs = [diverged(n, 4 * (n > 1), manifest={"config": {"env_num": 2 + 2 * (n > 1)}}) for n in range(4)]
    groups = judged(*runs).groups

    assert [(group.name, group.n_runs) for group in groups] == [("env_num 2", 2), ("env_num 4", 2)]
    assert [group.rates[0].events for group in groups] == [0, 8]
    assert judged(*runs[:2]).groups == ()


def test_stages_are_configurations_though_their_courses_are_one() -> None:
    shadow, canary = diverged(0, 0, course="a"), diverged(0, 0, course="a", pair={"primary": "candidate"})
    assert [group.name for group in judged(shadow, canary).groups] == ["stage shadow", "stage canary"]

"""The pooled divergence rate: per pool, by lookup and by episode."""

from __future__ import annotations

import pytest

from reports.record.words import Outcome
from tests.validator.campaign import busy_run, busy_window
from tests.validator.gate.test_judgement import divergence
from validator.gate.rates import Rate, rates


def named(found: list[Rate]) -> dict[tuple[str, str], tuple[int, int]]:
    return {(one.pool, one.unit): (one.events, one.trials) for one in found}


def test_all_runs_add_up_pool_by_pool() -> None:
    runs = [busy_run(seed) for seed in range(3)]

    found = rates(runs, n_left=0)

    assert named(found) == {
        (pool, unit): (0, {"lookup": 12_000, "episode": 300}[unit])
        for pool in ("init", "wm", "hierarchical")
        for unit in ("lookup", "episode")
    }
    assert str(found[0]) == "0 in 12,000: below 2.5e-04"


def differing(count: int, *episodes: int) -> list[Rate]:
    """One run with lookups that differed, some of them written in full with their episode."""
    lookups = {"init": {"both_hit_equal": 1000, "both_hit_differ": count}}
    about = {"pool": "init", "env_id": 0, "outcome": Outcome.BOTH_HIT_DIFFER}
    written = [divergence(id=n, episode=episode, **about) for n, episode in enumerate(episodes)]
    return rates([busy_run(0, "control", busy_window(lookups=lookups), divergences=written)], n_left=count)


@pytest.mark.parametrize(
    ("count", "episodes", "hit"),
    [
        (4, (7, 7, 7, 7), 1),  # one fault that shows four times
        (4, (7, 7, 8, 9), 3),
        (4, (7, 7), 3),  # two were only counted: each may be of an episode of its own
        (4, (-1, -1, 7, 7), 3),  # nobody knows of which episode
        (500, (7,), 100),  # never more than there were
    ],
)
def test_lookups_of_one_episode_count_once(count: int, episodes: tuple[int, ...], hit: int) -> None:
    by_lookup, by_episode = differing(count, *episodes)

    assert (by_lookup.events, by_lookup.trials) == (count, 1000 + count)
    assert (by_episode.events, by_episode.trials) == (hit, 100)
    assert by_episode.bounds.low < hit / 100 <= by_episode.bounds.high


def test_the_bound_above_zero_is_printed_with_both_ends() -> None:
    assert str(differing(4, 7, 7, 7, 7)[0]) == "4 in 1,004: between 1.4e-03 and 9.1e-03"


def test_no_pool_has_more_than_is_left_after_waivers() -> None:
    lookups = {"init": {"both_hit_equal": 10, "candidate_only": 5}}

    found = rates([busy_run(0, "control", busy_window(lookups=lookups))], n_left=2)

    assert found[0].events == 2


def test_a_pool_that_was_asked_for_and_never_looked_up_is_named() -> None:
    found = rates([], 0, ["wm"])

    assert [str(one) for one in found] == ["no lookup", "no episode"]
    assert found[0].bounds.high == 1.0

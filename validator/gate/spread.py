"""Are all runs alike? What the average over them hides: one run with all the divergences, one course taken twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from reports.record.run import Run
from validator.gate.intervals import beta_cdf, rate
from validator.gate.rates import Rate, rates
from validator.gate.rules.demand import Evidence
from validator.gate.rules.divergence import n_divergences, n_left
from validator.gate.rules.identity import configuration, distinct, is_sound, seed, stage
from validator.gate.rules.waived import waived

_RARE = 0.05  # probability, over all runs, at which one of them is said to stand apart
_MOST_GROUPS = 40


class Group(NamedTuple):
    """Runs of one configuration.

    Attributes:
        name: What sets it apart from the others.
        n_runs: How many of them count.
        rates: Their divergence rates, pool by pool.
    """

    name: str
    n_runs: int
    rates: tuple[Rate, ...]


def spread(evidence: Evidence) -> Iterator[str]:
    """Say in which respect the runs are not alike, one sentence each.

    Lookups of one run are not independent, so how many *runs* diverge is said with bounds of its own; and the run with
    the most divergences is named where chance would spread them so unevenly in one of twenty cases at most: the
    binomial tail for its share of the lookups, times the number of runs.
    """
    sound = [run for run in evidence.runs if is_sound(run)]
    n_alike = len(sound) - len(distinct(sound))
    if n_alike:
        yield f"{n_alike:,} of {len(sound):,} runs took the course of another to the last bit; rates count it once"
    permitted = waived(evidence).by_run
    left = {id(run): n_divergences(run) - permitted[position] for position, run in enumerate(evidence.runs)}
    runs = [run for run in distinct(evidence.runs) if run.totals.n_lookups]
    counts = [left[id(run)] for run in runs]
    total, lookups = sum(counts), sum(run.totals.n_lookups for run in runs)
    if not total or len(runs) < 2:
        return
    diverging = sum(map(bool, counts))
    low, _, high = rate(diverging, len(runs))
    yield f"{diverging:,} of {len(runs):,} runs diverged: between {low:.1%} and {high:.1%} of all such runs at 95 %"
    most = max(range(len(runs)), key=lambda position: counts[position])
    share = runs[most].totals.n_lookups / lookups
    # P(X >= k) of a binomial is I_p(k, n - k + 1).
    chance = beta_cdf(counts[most], total - counts[most] + 1, share) * len(runs)
    if chance < _RARE:
        rest = f"{total - counts[most]:,} in {lookups - runs[most].totals.n_lookups:,} lookups"
        named = f"seed {seed(runs[most])}, {stage(runs[most])} stage" if seed(runs[most]) else str(runs[most].path)
        yield (
            f"{counts[most]:,} of {total:,} divergences lie in one run ({named}) with {share:.0%} of the lookups: the "
            f"rate of all runs is not this run's, nor the others' ({rest})"
        )


def by_configuration(evidence: Evidence) -> list[Group]:
    """Bound the divergence rates of each configuration by itself; empty where there is one alone.

    Args:
        evidence: What is judged; runs that can't count are left out.

    Returns:
        A group for each, named by what differs between them; beyond some, the last stands for all others.
    """
    sound = distinct([run for run in evidence.runs if is_sound(run)], (stage,))
    told = [{"stage": stage(run), **_flat(json.loads(configuration(run)))} for run in sound]
    names = dict.fromkeys(name for one in told for name in one)
    differing = [name for name in names if len({one.get(name) for one in told}) > 1]
    groups: dict[str, list[Run]] = {}
    for run, one in zip(sound, told, strict=True):
        name = ", ".join(f"{name} {one.get(name)}" for name in differing if name in one)
        groups.setdefault(name if name in groups or len(groups) < _MOST_GROUPS else "all others", []).append(run)
    if len(groups) < 2:
        return []
    return [
        Group(name, len(runs), tuple(rates(runs, n_left(replace(evidence, runs=runs)))))
        for name, runs in groups.items()
    ]


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {name: str(value)}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}".lstrip(".")).items()}

"""How often may the candidate diverge, for all these runs show? Exact bounds, pool by pool, over all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.record.run import Run
from reports.record.words import DIFFERING
from validator.gate.intervals import Interval, rate


class Rate(NamedTuple):
    """The divergence rate of one pool over all runs.

    Attributes:
        pool: Pool that was asked.
        unit: ``lookup`` or ``episode``.
        events: Lookups that differed, or episodes with one.
        trials: Lookups, or episodes.
        bounds: One-sided at 95 % each.
    """

    pool: str
    unit: str
    events: int
    trials: int
    bounds: Interval

    def __str__(self) -> str:
        if not self.trials:
            return f"no {self.unit}"
        if self.events:
            low, _, high = self.bounds
            return f"{self.events:,} in {self.trials:,}: between {low:.1e} and {high:.1e}"
        return f"0 in {self.trials:,}: below {self.bounds.high:.1e}"


def rates(runs: Sequence[Run], n_left: int, pools: Sequence[str] = ()) -> list[Rate]:
    """Bound the divergence rate of each pool, by lookup and by episode.

    Lookups of one episode are not independent: one fault shows again and again. By episode is the careful reading. An
    episode counts as diverged if a divergence written in full names it; one that names none, or that was only counted,
    counts as an episode of its own.

    Args:
        runs: The runs.
        n_left: Divergences that are not waived; no pool can have more of them.
        pools: Pools to name even if they were never looked up.

    Returns:
        Two rates for each pool.
    """
    found = []
    episodes = sum(run.totals.coverage.get("episodes", 0) for run in runs)
    for pool in dict.fromkeys([*pools, *(pool for run in runs for pool in run.totals.lookups)]):
        differed = lookups = hit = 0
        for run in runs:
            counts = run.totals.lookups.get(pool, {})
            n_differed = sum(counts.get(outcome.value, 0) for outcome in DIFFERING)
            differed += n_differed
            lookups += sum(counts.values())
            hit += min(n_differed, _episodes(run, pool, n_differed))
        differed, hit = min(differed, n_left), min(hit, n_left)
        found.append(Rate(pool, "lookup", differed, lookups, rate(differed, lookups)))
        trials = episodes if lookups else 0
        found.append(Rate(pool, "episode", min(hit, trials), trials, rate(min(hit, trials), trials)))
    return found


def _episodes(run: Run, pool: str, n_differed: int) -> int:
    written = [one for one in run.divergences if one.pool == pool and one.outcome in DIFFERING]
    named = {(one.rank, one.cache, one.env_id, one.episode) for one in written if one.episode >= 0}
    nameless = sum(one.episode < 0 for one in written)
    return len(named) + nameless + max(0, n_differed - len(written))

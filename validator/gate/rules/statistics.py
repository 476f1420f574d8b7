"""What do all runs together show? Bounds on the divergence rate, and the candidate's cost against the control's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from reports.record.run import Run
from reports.record.words import Outcome, Verdict
from validator.gate.intervals import Interval, mean
from validator.gate.policy import GatePolicy
from validator.gate.rates import rates
from validator.gate.rules.demand import Demand, Evidence, demand
from validator.gate.rules.divergence import n_left
from validator.gate.rules.identity import distinct, is_sound
from validator.gate.rules.remedies import remedy

SIDES = ("control", "candidate")
_FEWEST_TIMED = 100  # operations in a window whose times are compared
_Z = 1.6449  # one-sided 95 % of the normal distribution


def rate_bounds(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The divergence rate of each pool is shown to be low."""
    limits = {"lookup": policy.rate.per_lookup, "episode": policy.rate.per_episode}
    if not any(limits.values()):
        return
    sound = [run for run in evidence.runs if is_sound(run)]
    for one in rates(distinct(sound), n_left(evidence), policy.rate.pools):
        limit = limits[one.unit]
        if not limit:
            continue
        low, _, high = one.bounds
        verdict = Verdict.PASS if high < limit else Verdict.FAIL if low > limit else Verdict.INCONCLUSIVE
        # 0 in N is below 3/N: so many show the limit if none of them diverges.
        remedy = f"it takes about {math.ceil(3 / limit):,} {one.unit}s without one: record more runs"
        demanded = f"divergence rate of pool {one.pool} below {limit:g} per {one.unit} at 95 %"
        yield Demand(demanded, str(one), verdict, _all(sound), "" if verdict is Verdict.PASS else remedy)


def latency(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The candidate's time in operations is shown not to be longer by more than the margin.

    Each window is one sample: the logarithm of the candidate's time over the control's. Windows are long against
    what disturbs both, and the two sides are called in random order.
    """
    if not policy.performance.latency:
        return
    sound = [run for run in evidence.runs if is_sound(run)]
    timed = [
        one for run in sound for one in run.timed if one.n >= _FEWEST_TIMED and one.control_ns and one.candidate_ns
    ]
    low, middle, high = mean([math.log(one.candidate_ns / one.control_ns) for one in timed])
    margin = policy.performance.latency_margin
    found = f"no window with {_FEWEST_TIMED} timed operations"
    if timed:
        found = f"{_change(middle)} ({_change(low)} to {_change(high)} at 95 %, {len(timed):,} windows)"
    yield _not_worse(
        f"candidate's time in operations at most {_percent(margin)} above the control's",
        found,
        Interval(low, middle, high),
        math.log1p(margin),
        _all(sound),
        "see which operation: kv-lockstep report RUN",
    )


def hit_rate(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The candidate's hit rate is shown not to be lower by more than the margin, on the same lookups."""
    if not policy.performance.hit_rate:
        return
    sound = [run for run in evidence.runs if is_sound(run)]
    counts = {outcome: sum(run.totals.outcomes()[outcome.value] for run in sound) for outcome in Outcome}
    answered = sum(counts.values()) - counts[Outcome.ERROR]
    both = counts[Outcome.BOTH_HIT_EQUAL] + counts[Outcome.BOTH_HIT_DIFFER]
    lost, won = counts[Outcome.CONTROL_ONLY], counts[Outcome.CANDIDATE_ONLY]
    margin = policy.performance.hit_rate_margin
    bounds, found = Interval(-math.inf, math.nan, math.inf), "no lookup that hit"
    if both + lost:
        # Relative to the control's hits; only lookups that one side alone answered tell the sides apart (McNemar).
        middle, half = (lost - won) / (both + lost), _Z * math.sqrt(lost + won) / (both + lost)
        bounds = Interval(middle - half, middle, middle + half)
        found = f"{(both + won) / answered:.2%} against {(both + lost) / answered:.2%}"
    yield _not_worse(
        f"candidate's hit rate at most {_percent(margin)} below the control's",
        found,
        bounds,
        margin,
        _all(sound),
        "see which pool: kv-lockstep report RUN",
    )


def memory(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """In no run did the candidate hold more bytes at its most than the control at its most, and the margin."""
    if not policy.performance.memory:
        return
    margin = policy.performance.memory_margin

    def grown(run: Run) -> tuple[float, str] | None:
        control, candidate = (_peak(run, side) for side in SIDES)
        return (candidate / control, f"{candidate:,} against {control:,} bytes") if control and candidate else None

    yield from _at_most(
        f"candidate's memory at most {_percent(margin)} above the control's, in each run",
        1 + margin,
        [(run, grown(run)) for run in evidence.runs],
        "bytes held by both sides are",
        lambda run: f"see what it holds: kv-lockstep report {run.path}",
    )


def overhead(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Validating took no larger share of the time than allowed: a watched training must stay a training."""
    limit = policy.performance.overhead
    if not limit:
        return

    def taken(run: Run) -> tuple[float, str] | None:
        wall_s = run.totals.t_s * max(1, len(run.ranks))
        share = run.totals.harness_ns / 1e9 / wall_s if wall_s else None
        return None if share is None else (share, f"{share:.0%}")

    yield from _at_most(
        f"validating took at most {limit:.0%} of the time",
        limit,
        [(run, taken(run)) for run in evidence.runs],
        "how long it took is",
        partial(remedy, "budget"),
    )


def _at_most(
    demanded: str,
    limit: float,
    figures: Sequence[tuple[Run, tuple[float, str] | None]],
    what: str,
    supply: Callable[[Run], str],
) -> Iterator[Demand]:
    """Demand it of the run with the greatest figure, and that every run has one; a figure is a number with its text."""
    unknown = [run for run, figure in figures if figure is None]
    if unknown:
        found = f"{what} not recorded in {len(unknown):,} runs"
        yield demand(demanded, found, False, str(unknown[0].path), "record again")
    known = [(*figure, run) for run, figure in figures if figure is not None]
    if known:
        most, found, run = max(known, key=lambda each: each[0])
        yield demand(demanded, found, most <= limit, str(run.path), supply(run), Verdict.FAIL)


def _not_worse(demanded: str, found: str, bounds: Interval, limit: float, where: str, look: str) -> Demand:
    """Judge non-inferiority: PASS if all of the interval is within the limit, FAIL if none of it is."""
    if bounds.high <= limit:
        return Demand(demanded, found, Verdict.PASS, where)
    if bounds.low > limit:
        return Demand(demanded, found, Verdict.FAIL, where, look)
    return Demand(demanded, found, Verdict.INCONCLUSIVE, where, "record more or longer runs")


def _peak(run: Run, side: str) -> int:
    most = {(window.rank, window.cache): 0 for window in run.windows}
    for window in run.windows:
        pair = (window.rank, window.cache)
        most[pair] = max(most[pair], window.bytes_held.get(side, 0), run.most_held.get(pair, {}).get(side, 0))
    return sum(most.values())


def _all(runs: Sequence[Run]) -> str:
    return str(runs[0].path) if len(runs) == 1 else f"{len(runs):,} sound runs"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _change(log_ratio: float) -> str:
    return f"{(math.exp(log_ratio) - 1) * 100:+.1f} %"

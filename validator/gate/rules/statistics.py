"""What do all runs together show? Bounds on the divergence rate, and the candidate's cost against the control's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from reports.record.run import Run
from reports.record.totals import Totals
from reports.record.words import Outcome, Verdict
from validator.gate.intervals import Interval, mean
from validator.gate.policy import GatePolicy
from validator.gate.rates import rates
from validator.gate.rules.demand import Demand, Evidence
from validator.gate.rules.divergence import n_left
from validator.gate.rules.identity import is_sound

SIDES = ("control", "candidate")
_FEWEST_TIMED = 100  # operations in a window whose times are compared
_Z = 1.6449  # one-sided 95 % of the normal distribution


def rate_bounds(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The divergence rate of each pool is shown to be low."""
    limits = {"lookup": policy.rate.per_lookup, "episode": policy.rate.per_episode}
    if not any(limits.values()):
        return
    sound = [run for run in evidence.runs if is_sound(run)]
    for one in rates(sound, n_left(evidence), policy.rate.pools):
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
    demanded = f"candidate's memory at most {_percent(margin)} above the control's, in each run"
    peaks = [(run, _peak(run, "control"), _peak(run, "candidate")) for run in evidence.runs]
    known = [each for each in peaks if each[1] and each[2]]
    if len(known) < len(peaks):
        unknown = next(run for run, control, candidate in peaks if not (control and candidate))
        found = f"bytes held by both sides are not recorded in {len(peaks) - len(known):,} runs"
        yield Demand(demanded, found, Verdict.INCONCLUSIVE, str(unknown.path), "record again")
    if known:
        run, control, candidate = max(known, key=lambda each: each[2] / each[1])
        over = candidate > control * (1 + margin)
        remedy = f"see what it holds: kv-lockstep report {run.path}" if over else ""
        verdict = Verdict.FAIL if over else Verdict.PASS
        yield Demand(demanded, f"{candidate:,} against {control:,} bytes", verdict, str(run.path), remedy)


def overhead(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Validating took no larger share of the time than allowed: a watched training must stay a training."""
    limit = policy.performance.overhead
    if not limit:
        return

    demanded = f"validating took at most {limit:.0%} of the time"
    known = [(run, share) for run in evidence.runs if (share := _share(run)) is not None]
    if len(known) < len(evidence.runs):
        unknown = next(run for run in evidence.runs if _share(run) is None)
        found = f"how long it took is not recorded in {len(evidence.runs) - len(known):,} runs"
        yield Demand(demanded, found, Verdict.INCONCLUSIVE, str(unknown.path), "record again")
    if known:
        run, most = max(known, key=lambda pair: pair[1])
        verdict = Verdict.FAIL if most > limit else Verdict.PASS
        remedy = "lower audit_share, or set overhead_budget, in cache_validation" if most > limit else ""
        yield Demand(demanded, f"{most:.0%}", verdict, str(run.path), remedy)


def _not_worse(demanded: str, found: str, bounds: Interval, limit: float, where: str, look: str) -> Demand:
    """Judge non-inferiority: PASS if all of the interval is within the limit, FAIL if none of it is."""
    if bounds.high <= limit:
        return Demand(demanded, found, Verdict.PASS, where)
    if bounds.low > limit:
        return Demand(demanded, found, Verdict.FAIL, where, look)
    return Demand(demanded, found, Verdict.INCONCLUSIVE, where, "record more or longer runs")


def _peak(run: Run, side: str) -> int:
    most: dict[tuple[int, str], int] = {}
    for window in run.windows:
        pair = (window.rank, window.cache)
        most[pair] = max(most.get(pair, 0), window.bytes_held.get(side, 0))
    return sum(most.values())


def _share(run: Run) -> float | None:
    totals: Totals = run.totals
    wall_s = totals.t_s * max(1, len(run.ranks))
    return totals.harness_ns / 1e9 / wall_s if wall_s else None


def _all(runs: Sequence[Run]) -> str:
    return str(runs[0].path) if len(runs) == 1 else f"{len(runs):,} sound runs"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _change(log_ratio: float) -> str:
    return f"{(math.exp(log_ratio) - 1) * 100:+.1f} %"

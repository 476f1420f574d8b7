"""What the page of a run shows, as plain values: which numbers stand where, and which plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from reports.content import facts
from reports.content.facts import SIDES, Judgement
from reports.content.groups import Group, grouped
from reports.content.heat_maps import Shown, differences
from reports.content.ranks import HEAD, N_NAMES, of_ranks
from reports.content.series import over_training
from reports.content.text import abbreviated, line, micros, plural, ratio, share, size
from reports.formats.html import svg
from reports.record.histogram import midpoint
from reports.record.records import Divergence, LeafDifference
from reports.record.run import Run
from reports.record.words import Fault, Outcome, Verdict

_PERCENTILES = (0.5, 0.9, 0.99)
_MAX_GROUPS = 60
_MAX_LISTED = 40


def of_run(run: Run, judgement: Judgement, n_divergences: int, n_operations: int) -> dict[str, Any]:
    """Return what ``run.html`` is filled with.

    Args:
        run: What was recorded.
        judgement: What follows from it.
        n_divergences: How many divergences are shown in full, one of each group.
        n_operations: How many operations' latencies are plotted.
    """
    groups = grouped(run)
    total = sum(group.count for group in groups)
    name, state, length = facts.ran(run)
    return {
        "verdict": judgement.verdict,
        "meaning": facts.meaning(run, judgement),
        "reasons": judgement.reasons[:20],
        "name": name,
        "state": state,
        "length": length,
        "classes": {side: facts.classes(run, side) for side in SIDES},
        "key_figures": list(_key_figures(run, total)),
        "blame": _blame(groups, total),
        "outcomes": list(Outcome),
        "pools": list(_pools(run)),
        "groups": groups[:_MAX_GROUPS],
        "n_groups": len(groups),
        "n_total": total,
        "n_unexplained": facts.unexplained(run),
        "shown": [_in_full(run, group) for group in groups if group.first][:n_divergences],
        "training": _training(run),
        "demands": facts.by_gravity(judgement.demands)[:100],
        "marks": facts.MARKS,
        "n_unmet": sum(demand.verdict is not Verdict.PASS for demand in judgement.demands),
        "exercised": list(facts.exercised(run)),
        "events": facts.events(run)[:_MAX_LISTED],
        "problems": run.problems[:_MAX_LISTED],
        "n_problems": len(run.problems),
        "latency": list(_latency(run, n_operations)),
        "memory": facts.memory(run),
        "overhead": facts.overhead(run),
        "rank_names": HEAD,
        "n_rank_names": N_NAMES,
        "ranks": of_ranks(run),
        "provenance": list(facts.provenance(run)),
        "config": _flat(run.manifest)[:200],
    }


def _key_figures(run: Run, total: int) -> Iterator[tuple[str, str, str]]:
    totals = run.totals
    yield "lookups", abbreviated(totals.n_lookups), plural(sum(totals.ops.values()), "operation")
    of_lookups = f"{share(totals.n_differing / totals.n_lookups)} of lookups differ" if totals.n_lookups else ""
    yield "divergences", abbreviated(total), of_lookups
    rates = totals.hit_rate()
    yield "hit rate", share(rates["candidate"]), f"control {share(rates['control'])}"
    name = max((name for name in totals.ops if name.startswith("get.")), key=lambda name: totals.ops[name], default="")
    control, candidate = (totals.latency(side, name, 0.5) for side in SIDES)
    yield f"{name or 'get'}, median", ratio(candidate, control), f"{micros(candidate)} µs, control {micros(control)} µs"
    held = totals.bytes_held
    have = all(side in held for side in SIDES)
    sizes = f"{size(held['candidate'])}, control {size(held['control'])}" if have else "not measured"
    yield "memory", ratio(held.get("candidate"), held.get("control")), sizes


def _blame(groups: list[Group], total: int) -> str:
    """Say in one sentence whose fault it is, if anything differed."""
    if not total:
        return ""
    by_fault: dict[str, int] = {}
    for group in groups:
        by_fault[group.fault] = by_fault.get(group.fault, 0) + group.count
    if set(by_fault) == {Fault.CONTROL.value}:
        return f"The control is at fault in all {total:,}; the candidate was right each time."
    named = ", ".join(f"{fault} in {count:,}" for fault, count in by_fault.items())
    return f"At fault: {named}."


def _pools(run: Run) -> Iterator[tuple[str, list[tuple[str, int]], list[str]]]:
    """Yield each pool with its outcomes (class, count) and hit rates; all pools last."""
    for pool, counts, rates in facts.pools(run, _MAX_LISTED):
        cells = []
        for outcome in Outcome:
            count, good = counts.get(outcome.value, 0), outcome in (Outcome.BOTH_HIT_EQUAL, Outcome.BOTH_MISS)
            cells.append(("none" if not count else "good" if good else "bad", count))
        yield "all pools" if pool is None else pool, cells, rates


def _in_full(run: Run, group: Group) -> dict[str, Any]:
    divergence = group.best
    assert divergence is not None
    leaves = divergence.leaves[:24]
    shown = differences(run.path, divergence.evidence) if divergence.evidence else ""
    drawn = isinstance(shown, Shown)
    why_not = divergence.evidence_note or "no tensors were kept with it"
    return {
        "group": group,
        "divergence": divergence,
        "is_first": divergence is group.first,
        "anchor": f"divergence-{divergence.rank}-{divergence.id}",
        "place": list(_place(divergence)),
        "leaves": leaves,
        "compared": any(leaf.n_elements for leaf in leaves),
        "special": not all(leaf.is_finite for leaf in leaves),
        "kinds": _kinds(leaves),
        "history": divergence.history[-24:],
        "shown": shown if drawn else None,
        "heat": _heat(shown) if isinstance(shown, Shown) else [],
        "no_heat": "" if drawn else shown or why_not,
    }


def _kinds(leaves: Sequence[LeafDifference]) -> list[tuple[str, str, str]]:
    """Return which tensors are of which size and dtype on both sides."""
    named: dict[tuple[str, str], list[str]] = {}
    for leaf in leaves:
        named.setdefault((leaf.control, leaf.candidate), []).append(line(leaf.name))
    return [(", ".join(names), control, candidate) for (control, candidate), names in named.items()]


def _heat(shown: Shown) -> list[dict[str, Any]]:
    titles = ("layers and tokens", f"heads and tokens of {shown.worst}, the worst tensor")
    found = []
    for title, grid in zip(titles, (shown.layers, shown.heads), strict=True):
        plot = svg.heat(f"Greatest absolute difference over {title}", grid)
        levels = {svg.level(value, *svg.bounds(grid)) for row in grid.values for value in row}
        found.append({"title": title, "plot": plot, "grid": grid, "bounds": svg.bounds(grid), "levels": levels})
    return found


def _place(divergence: Divergence) -> Iterator[tuple[str, str]]:
    where = [f"operation {divergence.op_index:,}", divergence.operation, facts.entry(divergence)]
    yield "where", " · ".join([*where, f"cache {divergence.cache}", f"rank {divergence.rank}"])
    yield "when", facts.when(divergence)
    if divergence.outcome is not None:
        yield "outcome", facts.words(divergence.outcome.value)
    if divergence.evidence:
        yield "evidence", divergence.evidence
    if divergence.evidence_note:
        yield "note", divergence.evidence_note


def _training(run: Run) -> dict[str, Any] | None:
    axis, steps = over_training(run)
    if not steps:
        return None
    rates = [(side, [(s.at, rate) for s in steps if (rate := s.hit_rate[side]) is not None]) for side in SIDES]
    names = sorted({fault for step in steps for fault in step.divergences})
    diverged = [(f"fault-{name}", [(s.at, float(s.divergences.get(name, 0))) for s in steps]) for name in names]
    held = [(s, [(step.at, float(step.bytes_held[s])) for step in steps if s in step.bytes_held]) for s in SIDES]
    n_found = sum(sum(step.divergences.values()) for step in steps)
    return {
        "axis": axis,
        "steps": steps,
        "faults": names,
        "fault_classes": [f"fault-{name}" for name in names],
        "hit_rate": _hit_rates(f"Hit rate of both sides over {axis}", rates, axis),
        "divergences": svg.lines(f"Divergences over {axis}", diverged, axis, _count, bars=True)
        if n_found
        else Markup(""),
        "memory": svg.lines(f"Memory of both sides over {axis}", held, axis, size, top=_most(held)),
    }


def _hit_rates(title: str, rates: list[tuple[str, list[svg.Point]]], axis: str) -> Markup:
    """Draw hit rates on an axis that begins at 0, 90 or 99 %, so that what happens near 100 % can be seen."""
    least = min((y for _, part in rates for _, y in part), default=0.0)
    bottom = next(floor for floor in (0.99, 0.9, 0.0) if least >= floor)
    return svg.lines(title, rates, axis, lambda y: f"{y:.{1 if bottom else 0}%}", top=1.0, bottom=bottom)


def _latency(run: Run, n_operations: int) -> Iterator[dict[str, Any]]:
    """Yield each operation's latencies, the most frequent operations first."""
    totals = run.totals
    names = sorted(totals.operations, key=lambda name: -totals.ops.get(name, 0))
    for position, name in enumerate(names[:_MAX_LISTED]):
        series = [(side, _distribution(totals.latency_ns.get(f"{side}.{name}", {}))) for side in SIDES]
        yield {
            "name": name,
            "count": totals.ops.get(name, 0),
            "marks": {side: [micros(totals.latency(side, name, mark)) for mark in _PERCENTILES] for side in SIDES},
            "ratio": ratio(totals.latency("candidate", name, 0.5), totals.latency("control", name, 0.5)),
            "plot": svg.distributions(f"Time of {name} on both sides", series) if position < n_operations else "",
            "points": _together(series) if position < n_operations else [],
        }


def _distribution(counts: dict[str, int]) -> list[svg.Point]:
    """Return durations and shares, two buckets put together, every gap filled with zero."""
    total = sum(counts.values())
    if not total:
        return []
    pairs: dict[int, int] = {}
    for index, count in counts.items():
        pairs[int(index) // 2] = pairs.get(int(index) // 2, 0) + count
    first, last = min(pairs), max(pairs)
    return [(midpoint(index * 2 + 1), pairs.get(index, 0) / total) for index in range(max(first - 1, 0), last + 2)]


def _together(series: Sequence[tuple[str, list[svg.Point]]]) -> list[tuple[float, dict[str, float]]]:
    """Return the durations of a plot that either side took, with the share of each."""
    shares: dict[float, dict[str, float]] = {}
    for side, points in series:
        for at, part in points:
            if part:
                shares.setdefault(at, {})[side] = part
    return sorted(shares.items())


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Lay a manifest out as dotted names and values."""
    if isinstance(value, dict) and value and name.count(".") < 6:
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    return [(name, str(value)[:300])]


def _most(series: list[tuple[str, list[svg.Point]]]) -> float:
    """Return the upper end of an axis of bytes: a full eighth of a power of two."""
    most = max((y for _, part in series for _, y in part), default=0.0)
    unit = 2.0 ** max(0, int(most).bit_length() - 4)
    return -(-most // unit) * unit


def _count(value: float) -> str:
    return abbreviated(round(value)) if value >= 10 or value == int(value) else f"{value:.1f}"

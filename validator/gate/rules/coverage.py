"""Was enough exercised? A run that saw nothing of a kind says nothing about that kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from reports.record.run import Run
from reports.record.totals import Totals
from reports.record.words import Outcome
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, at_least, each
from validator.gate.rules.remedies import remedy

_NOT_RECORDED = "number of envs not recorded"
_SETS_OF_LAYERS = re.compile(r"sets_of_(\d{1,6})_layers")

# Demand of CoveragePolicy: what to call it, which counters show it, which remedy would supply it.
_COVERAGE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "overwrites": ("overwrites", ("overwrites",), "keys repeat"),
    "evictions": ("evictions", ("evictions",), "pools fill"),
    "ring_wraps": ("ring wraps", ("ring_wraps",), "pools fill"),
    "clears": ("clears", ("clears_all", "clears_init", "clears_init_env", "clears_recur"), "longer"),
    "clears_all": ("clears of everything", ("clears_all",), "longer"),
    "clears_init": ("clears of all init pools", ("clears_init",), "longer"),
    "clears_init_env": ("clears of one env's init pool", ("clears_init_env",), "longer"),
    "clears_recur": ("clears of the recurrent pool", ("clears_recur",), "longer"),
    "weight_updates": ("weight updates", ("weight_updates",), "weight updates"),
    "episodes": ("episode ends", ("episodes",), "episodes"),
    "searches": ("searches", ("searches",), "searches"),
}


def exercised(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every kind of thing that a policy counts happened often enough."""
    runs, least = evidence.runs, policy.coverage
    yield from _in_each("lookups", least.lookups, runs, lambda totals: totals.n_lookups, "look up")
    yield from _in_each(
        "lookups that both sides answered equally",
        least.both_hits,
        runs,
        lambda totals: totals.outcomes()[Outcome.BOTH_HIT_EQUAL.value],
        "both hit",
    )
    for name, (called, counters, supply) in _COVERAGE.items():
        owing = [run for run in runs if not _spared(name, policy, run.caches)]
        yield from _in_each(called, getattr(least, name), owing, partial(_covered, counters), supply)
    for name in least.others:
        yield from _in_each(name.replace("_", " "), 1, runs, partial(_covered, (name,)), "longer")


def _spared(name: str, policy: GatePolicy, caches: Sequence[dict[str, Any]]) -> bool:
    """Tell whether no shadowed pair can be asked for something, which the policy does not name itself."""
    if name in policy.coverage.asked or not caches:
        return False
    return all(isinstance(spared := line.get("spared"), list) and name in spared for line in caches)


def _covered(counters: tuple[str, ...], totals: Totals) -> int:
    return sum(totals.coverage.get(name, 0) for name in counters)


def _in_each(
    called: str, least: int, runs: Sequence[Run], count: Callable[[Totals], int], supply: str
) -> Iterator[Demand]:
    """Demand it of each run, and name the run that shows least: a busy run must not cover for one that saw nothing."""
    if not (least and runs):
        return
    found, run = min(((count(run.totals), run) for run in runs), key=lambda pair: pair[0])
    yield at_least(called, least, found, str(run.path), remedy(supply, run))


def every_env(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every env of every shadowed pair was looked up; a pair of a shape without envs was compared at all."""
    if not policy.coverage.every_env:
        return

    def look(run: Run) -> tuple[str, str]:
        seen: dict[str, set[str]] = {}
        for window in run.windows:
            seen.setdefault(window.cache, set()).update(env for env, count in window.envs.items() if count)
        idle = _idle(run)
        unseen = [
            f"{line.get('cache')}: nothing was compared" * (str(line.get("cache")) in idle)
            if _spared("every_env", policy, [line])
            else _unseen(line, run, seen)
            for line in run.caches
        ] or ["no shadowed pair"]
        said = "; ".join(text for text in unseen if text)
        return said, remedy("env_num" if _NOT_RECORDED in said else "envs", run)

    yield from each(evidence.runs, "every env of every pair looked up", look, "all seen")


def every_pair(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """In every shadowed pair both sides answered something: a busy pair must not cover for one that saw nothing."""
    if not policy.coverage.every_pair:
        return

    def look(run: Run) -> tuple[str, str]:
        idle = _idle(run)
        some = len(idle) < len(run.caches)  # of none, the number of hits says it
        return (f"none of {', '.join(idle[:5])}" if idle and some else ""), remedy("look up", run)

    yield from each(evidence.runs, "lookups that both sides answered equally in every pair", look)


def _idle(run: Run) -> list[str]:
    """Name the pairs of which nothing was compared; a deep copy that was never used is none of them."""
    used, hit = set(), set()
    for window in run.windows:
        used |= {window.cache} if window.ops else set()
        equal = sum(counts.get(Outcome.BOTH_HIT_EQUAL.value, 0) for counts in window.lookups.values())
        hit |= {window.cache} if equal else set()
    copies = {line.get("cache") for line in run.caches if line.get("copy_of")}
    return [str(line.get("cache")) for line in run.caches if line.get("cache") not in hit | (copies - used)]


def every_rank(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """On every rank both sides answered something; a rank without a file is found missing by the reader."""
    if not policy.coverage.every_rank:
        return

    def look(run: Run) -> tuple[str, str]:
        hits = dict.fromkeys(run.ranks, 0)
        for window in run.windows:
            equal = (counts.get(Outcome.BOTH_HIT_EQUAL.value, 0) for counts in window.lookups.values())
            hits[window.rank] = hits.get(window.rank, 0) + sum(equal)
        idle = [str(rank) for rank, count in sorted(hits.items()) if not count]
        if len(hits) < 2 or not idle:
            return "", ""  # of a single rank, the number of hits says it
        more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
        return f"nothing on rank {', '.join(idle[:5])}{more}", "every rank's cache must be shadowed and used"

    yield from each(evidence.runs, "lookups that both sides answered on every rank", look)


def every_layer(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every entry had all layers of the model, with something in each: an empty one compares equal to anything."""
    if not policy.coverage.every_layer:
        return

    def look(run: Run) -> tuple[str, str]:
        wanted = run.manifest.get("num_layers")
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            return "how many layers the model has is not recorded", remedy("layers", run)
        sets: dict[int, int] = {}
        for name, count in run.totals.coverage.items():
            if match := _SETS_OF_LAYERS.fullmatch(name):
                sets[int(match[1])] = count
        off = {layers: count for layers, count in sets.items() if layers != wanted and count}
        if off or not sets.get(wanted):
            named = ", ".join(f"{count:,} sets of {layers or 'empty'}" for layers, count in sorted(off.items()))
            return f"{named or 'no set'}, where the model has {wanted} layers", remedy("longer", run)
        return "", ""

    yield from each(evidence.runs, "every set with every layer of the model", look)


def _unseen(line: dict[str, Any], run: Run, seen: dict[str, set[str]]) -> str:
    """Say which envs of one shadowed pair were never looked up, or nothing."""
    name = str(line.get("cache", ""))
    if line.get("copy_of") and name not in seen:
        return ""  # a deep copy that was never used, such as a target network's
    env_num = run.manifest.get("env_num") if line.get("env_num") is None else line["env_num"]
    if not isinstance(env_num, int) or isinstance(env_num, bool) or env_num < 1:
        return f"{name}: {_NOT_RECORDED}"
    known = seen.get(name, set())
    n_unseen = env_num - sum(env.isdecimal() and int(env) < env_num for env in known)
    if not n_unseen:
        return ""
    first = islice((str(env) for env in range(env_num) if str(env) not in known), 4)
    return f"{name}: {n_unseen} of {env_num} envs never seen ({', '.join(first)}{', ...' if n_unseen > 4 else ''})"

"""What the gate can demand: one function for each rule.

A rule turns runs and a policy into demands. It must hold in each run by itself, so that a busy run never covers for one
that saw nothing; only divergences are added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from validator.policy import GatePolicy
from validator.records import Dimension, Outcome, Verdict
from validator.run import Run, State, Totals

_SMALL_POOLS = "pools must fill: add --set world_model_cfg.max_cache_size=8 to kv-lockstep train"
_LONGER = "train longer, as with --set total_env_steps=20000"

_INCOMPLETE: dict[State, str] = {
    "complete": "record it again",
    "in progress": "judge it again when it has ended",
    "crashed": "record it again and let it end in order: with Lockstep(...) as lockstep",
    "unreadable": "record it again",
}

# Demand of CoveragePolicy: what to call it, which counters show it, what would supply it.
_COVERAGE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "overwrites": (
        "overwrites",
        ("overwrites",),
        "keys must repeat: add --set world_model_cfg.key_buckets=8 to kv-lockstep train",
    ),
    "evictions": ("evictions", ("evictions",), _SMALL_POOLS),
    "ring_wraps": ("ring wraps", ("ring_wraps",), _SMALL_POOLS),
    "clears": ("clears", ("clears_all", "clears_init", "clears_init_env", "clears_recur"), _LONGER),
    "clears_all": ("clears of everything", ("clears_all",), _LONGER),
    "clears_init": ("clears of all init pools", ("clears_init",), _LONGER),
    "clears_init_env": ("clears of one env's init pool", ("clears_init_env",), _LONGER),
    "clears_recur": ("clears of the recurrent pool", ("clears_recur",), _LONGER),
    "weight_updates": ("weight updates", ("weight_updates",), f"{_LONGER}; an own host calls weights_updated()"),
    "episodes": ("episode ends", ("episodes",), f"{_LONGER}; an own host calls episode_ended(env_id)"),
    "searches": ("searches", ("searches",), f"{_LONGER}; an own host calls search_started()"),
}


@dataclass(frozen=True, slots=True)
class Demand:
    """One line of a judgement.

    Attributes:
        demanded: What must hold.
        found: What the runs show.
        verdict: Whether it is shown to hold, shown not to, or not shown.
        where: Run, and place in it, to look at.
        remedy: What would supply missing evidence, or show more of a failure; empty for PASS.
    """

    demanded: str
    found: str
    verdict: Verdict
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.demanded}, found {self.found}"
        text += f" in {self.where}" if self.where else ""
        return f"{text}; {self.remedy}" if self.remedy else text


Rule = Callable[[Sequence[Run], GatePolicy], Iterator[Demand]]


def n_divergences(run: Run) -> int:
    """Return how many divergences a run shows, by whichever of its parts shows most.

    A killed process leaves divergences written in full whose window of counters is lost, and a lookup that differed
    is one even if nothing explains it.
    """
    outcomes = run.totals.outcomes()
    differing = (Outcome.BOTH_HIT_DIFFER, Outcome.CONTROL_ONLY, Outcome.CANDIDATE_ONLY)
    n_differing = sum(outcomes[outcome.value] for outcome in differing)
    return max(run.totals.n_divergences, len(run.divergences), n_differing)


def _some_runs(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    verdict = Verdict.PASS if runs else Verdict.INCONCLUSIVE
    remedy = "" if runs else "record one: kv-lockstep train --config configs/validate.toml"
    yield Demand("at least 1 run", str(len(runs)), verdict, remedy=remedy)
    names = [str(run.manifest["run_id"]) for run in runs if "run_id" in run.manifest]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Demand(
            "every run once", f"{', '.join(twice)} more than once", Verdict.INCONCLUSIVE, remedy="name each run once"
        )


def _no_divergence(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    found = {run.path: n_divergences(run) for run in runs}
    total = sum(found.values())
    failed = total > policy.max_divergences
    first = next((run for run in runs if found[run.path]), None)
    yield Demand(
        f"at most {policy.max_divergences} divergences" if policy.max_divergences else "no divergence",
        f"{total} ({_faults(runs) or 'unexplained'})" if total else "0",
        Verdict.FAIL if failed else Verdict.PASS,
        _place(first) if first else "",
        f"see it in full: kv-lockstep report {first.path}" if first and failed else "",
    )


def _complete(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    for run in runs:
        said = (run.summary or {}).get("state", "complete")
        whole = run.state == said == "complete"
        found = run.state if said in ("complete", run.state) else f"{run.state}, summary says {said!r:.40}"
        verdict = Verdict.PASS if whole else Verdict.INCONCLUSIVE
        yield Demand("a complete run", found, verdict, str(run.path), "" if whole else _INCOMPLETE[run.state])


def _readable(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    for run in runs:
        more = f"; and {len(run.problems) - 3} more" if len(run.problems) > 3 else ""
        found = "; ".join(run.problems[:3]) + more
        verdict = Verdict.INCONCLUSIVE if found else Verdict.PASS
        remedy = "mend what is named and record the run again" if found else ""
        yield Demand("all of it readable and consistent", found or "no problem", verdict, str(run.path), remedy)


def _nothing_dropped(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    for run in runs:
        dropped = sorted((reason, count) for reason, count in run.totals.dropped.items() if count)
        found = ", ".join(f"{count} x {reason}" for reason, count in dropped)
        verdict = Verdict.INCONCLUSIVE if found else Verdict.PASS
        remedy = "remove what the reasons name and record again" if found else ""
        yield Demand("nothing sampled, dropped or faulty", found or "nothing", verdict, str(run.path), remedy)


def _self_tested(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    for run in runs:
        told = run.manifest.get("selftest")
        if not policy.selftest and not told:
            continue
        done = told if isinstance(told, dict) else {}
        passed = done.get("passed") is True
        found = "no self-test recorded"
        if done:
            found = "noticed {detected} of {planted}, {cause_right} named, {side_right} charged rightly".format_map(
                {name: done.get(name, "?") for name in ("detected", "planted", "cause_right", "side_right")}
            )
        remedy = "" if passed else "see what it misses: kv-lockstep selftest" if done else "leave selftest on"
        yield Demand(
            "a harness that noticed planted faults",
            found,
            Verdict.PASS if passed else Verdict.INCONCLUSIVE,
            str(run.path),
            remedy,
        )


def _errors_explained(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    for run in runs:
        errors = run.totals.outcomes()[Outcome.ERROR.value]
        explained = run.totals.divergences_by(0).get(Dimension.ERROR.value, 0)
        missing = max(0, errors - explained)
        verdict = Verdict.INCONCLUSIVE if missing else Verdict.PASS
        remedy = "nothing was compared there; make the host's calls valid and record again" if missing else ""
        yield Demand("no lookup that raised unexplained", str(missing), verdict, str(run.path), remedy)


def _exercised(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    lookups = f"{_LONGER}, and check that the host's cache is the one Lockstep.shadow returned"
    yield from _at_least("lookups", policy.coverage.lookups, runs, lambda totals: totals.n_lookups, lookups)
    yield from _at_least(
        "lookups that both sides answered equally",
        policy.coverage.both_hits,
        runs,
        lambda totals: totals.outcomes()[Outcome.BOTH_HIT_EQUAL.value],
        "values are only compared where both sides hit; raise num_simulations, or let keys repeat",
    )
    for name, (called, counters, remedy) in _COVERAGE.items():
        yield from _at_least(called, getattr(policy.coverage, name), runs, partial(_covered, counters), remedy)


def _covered(counters: tuple[str, ...], totals: Totals) -> int:
    return sum(totals.coverage.get(name, 0) for name in counters)


def _at_least(
    called: str, least: int, runs: Sequence[Run], count: Callable[[Totals], int], remedy: str
) -> Iterator[Demand]:
    """Demand it of each run, and name the run that shows least: a busy run must not cover for one that saw nothing."""
    if not (least and runs):
        return
    found, run = min(((count(run.totals), run) for run in runs), key=lambda pair: pair[0])
    enough = found >= least
    verdict = Verdict.PASS if enough else Verdict.INCONCLUSIVE
    yield Demand(f"{called}: at least {least:,}", f"{found:,}", verdict, str(run.path), "" if enough else remedy)


def _every_env(runs: Sequence[Run], policy: GatePolicy) -> Iterator[Demand]:
    if not policy.coverage.every_env:
        return
    for run in runs:
        seen: dict[str, set[str]] = {}
        for window in run.windows:
            seen.setdefault(window.cache, set()).update(env for env, count in window.envs.items() if count)
        unseen = [_unseen(line, run, seen) for line in run.caches] or ["no shadowed pair"]
        found = "; ".join(text for text in unseen if text)
        verdict = Verdict.INCONCLUSIVE if found else Verdict.PASS
        remedy = f"{_LONGER}, or lower env_num" if found else ""
        yield Demand("every env of every pair looked up", found or "all seen", verdict, str(run.path), remedy)


def _unseen(line: dict[str, Any], run: Run, seen: dict[str, set[str]]) -> str:
    """Say which envs of one shadowed pair were never looked up, or nothing."""
    name = str(line.get("cache", ""))
    if line.get("copy_of") and name not in seen:
        return ""  # a deep copy that was never used, such as a target network's
    env_num = line.get("env_num", run.manifest.get("env_num"))
    if not isinstance(env_num, int) or isinstance(env_num, bool) or env_num < 1:
        return f"{name}: number of envs not recorded"
    known = seen.get(name, set())
    n_unseen = env_num - sum(env.isdecimal() and int(env) < env_num for env in known)
    if not n_unseen:
        return ""
    first = islice((str(env) for env in range(env_num) if str(env) not in known), 4)
    return f"{name}: {n_unseen} of {env_num} envs never seen ({', '.join(first)}{', ...' if n_unseen > 4 else ''})"


def _faults(runs: Sequence[Run]) -> str:
    """Say which sides are at fault how often."""
    total: Counter[str] = Counter()
    for run in runs:
        written = Counter(divergence.fault.value for divergence in run.divergences)
        total.update(written | Counter(run.totals.divergences_by(2)))
    return ", ".join(f"{fault} at fault in {count}" for fault, count in total.most_common())


def _place(run: Run) -> str:
    """Name the first divergence of a run."""
    if not run.divergences:
        return str(run.path)
    first = run.divergences[0]
    parts = [first.operation, first.cause.value]
    parts += [f"env {first.env_id}"] if first.env_id is not None else []
    parts += [f"key {first.key}"] if first.key else []
    parts += [f"op {first.op_index}"]
    return f"{run.path} ({', '.join(parts)})"


RULES: tuple[Rule, ...] = (
    _some_runs,
    _no_divergence,
    _complete,
    _readable,
    _nothing_dropped,
    _self_tested,
    _errors_explained,
    _exercised,
    _every_env,
)

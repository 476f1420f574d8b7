"""Can the runs be believed? Whole, readable, nothing left out, by a harness that proved itself. No policy waives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reports.record.run import Run, State
from reports.record.words import Dimension, Outcome
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, demand, each
from validator.gate.rules.identity import by_rank, dropped, planted, replayed, sampled
from validator.gate.rules.remedies import remedy

_INCOMPLETE: dict[State, str] = {
    "complete": "record it again",
    "in progress": "judge it again when it has ended",
    "crashed": "",  # as its host can
    "unreadable": "record it again",
}


def some_runs(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """At least one run, and none of them twice, played again neither."""
    runs = evidence.runs
    one = "record one: kv-lockstep train --config configs/validate.toml"
    yield demand("at least 1 run", f"{len(runs):,}", bool(runs), remedy=one)
    named: dict[str, list[Run]] = {}
    recorded: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for run in runs:
        if "run_id" in run.manifest:
            named.setdefault(str(run.manifest["run_id"]), []).append(run)
        if any(run.digests.values()):
            recorded.setdefault(tuple(sorted(run.digests.items())), set()).add(str(run.path))
    twice = sorted(name for name, group in named.items() if len(group) > 1)
    if twice:
        more = f" and {len(twice) - 5} others" if len(twice) > 5 else ""
        differ = [name for name in twice if len({tuple(run.digests.items()) for run in named[name]}) > 1]
        against = f"; their records of {', '.join(differ[:5])} contradict each other" if differ else ""
        found = f"{', '.join(twice[:5])}{more} more than once{against}"
        yield demand("every run once", found, False, remedy="name each run once")
    played = Counter(replayed(run) or str(run.manifest.get("run_id", "")) for run in runs)
    # Of one that does not say what it was played from, nobody knows that it repeats none of the others.
    origins = {str(run.path): origin for run in runs if (origin := replayed(run)) is not None}
    repeats = sorted(path for path, origin in origins.items() if len(runs) > 1 and (not origin or played[origin] > 1))
    if repeats:
        alone = "a replay is no second run of what it was played from; judge it by itself"
        yield demand("every stream once", f"{len(repeats)} replayed from another of these", False, repeats[0], alone)
    copies = sorted(min(paths) for paths in recorded.values() if len(paths) > 1)
    if copies and not twice:
        alone = "a copy is no second run; name the original alone"
        yield demand("every record once", f"{len(copies)} under several names", False, copies[0], alone)


def complete(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every run ended in order."""

    def look(run: Run) -> tuple[str, str]:
        said = (run.summary or {}).get("state", "complete")
        if run.state == said == "complete" and not run.lost:
            return "", ""
        found = run.state if said in ("complete", run.state) else f"{run.state}, summary says {said!r:.40}"
        found += f", the host ended {run.ended}" if run.ended else ""
        if run.lost:
            return f"{found}, {run.lost}", "see to that and record it again"
        return found, _INCOMPLETE[run.state] or remedy("again", run)

    yield from each(evidence.runs, "a complete run", look, "complete")


def readable(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Nothing in it is damaged, missing or at odds with the rest."""

    def look(run: Run) -> tuple[str, str]:
        more = f"; and {len(run.problems) - 3} more" if len(run.problems) > 3 else ""
        found = "; ".join(run.problems[:3]) + more
        return found, "mend what is named and record the run again"

    demanded = "all of it readable and consistent"
    yield from each(evidence.runs, demanded, look, "no problem")


def nothing_dropped(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Nothing was skipped, lost or left to chance."""

    def look(run: Run) -> tuple[str, str]:
        if chance := sampled(run):
            return chance, remedy("digests", run)
        found = ", ".join(f"{count:,} x {reason}" for reason, count in dropped(run).items())
        return found, "remove what the reasons name and record again"

    yield from each(evidence.runs, "nothing sampled, dropped or faulty", look, "nothing")


def nothing_planted(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """No run of a drill, whose candidate is not the candidate."""

    def look(run: Run) -> tuple[str, str]:
        name = planted(run)
        away = "judge runs of the candidate itself; kv-lockstep drill judges what it plants"
        return (f"drill: fault {name!r:.80} planted", away) if name else ("", "")

    runs = [run for run in evidence.runs if planted(run)]  # of all others there is nothing to say
    yield from each(runs, "no fault planted in the candidate", look)


def self_tested(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The harness showed on planted faults, before each run, that it would notice."""

    def look(run: Run) -> tuple[str, str]:
        for on, about in by_rank(run):
            told = about.get("selftest")
            done = told if isinstance(told, dict) else {}
            if done.get("passed") is True or not (policy.selftest or told):
                continue
            if not done:
                return f"no self-test recorded{on}", "leave selftest on"
            found = "noticed {detected} of {planted}, {cause_right} named, {side_right} charged rightly".format_map(
                {name: done.get(name, "?") for name in ("detected", "planted", "cause_right", "side_right")}
            )
            return f"{found}{on}", "see what it misses: kv-lockstep selftest"
        return "", ""

    demanded = "a harness that noticed planted faults"
    runs = [run for run in evidence.runs if policy.selftest or run.manifest.get("selftest")]
    yield from each(runs, demanded, look, "all noticed, named and charged rightly")


def errors_explained(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every lookup that raised is a divergence with a cause."""

    def look(run: Run) -> tuple[str, str]:
        errors = run.totals.outcomes()[Outcome.ERROR.value]
        missing = errors - run.totals.divergences_by(0).get(Dimension.ERROR.value, 0)
        valid = "nothing was compared there; make the host's calls valid and record again"
        return (f"{missing:,}", valid) if missing > 0 else ("", "")

    yield from each(evidence.runs, "no lookup that raised unexplained", look, "0")

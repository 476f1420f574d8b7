"""Are these the right runs? Enough of each stage, of one candidate, fresh, from committed code, and of one mind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from reports.record.run import Run, created
from validator.gate.policy import GatePolicy
from validator.gate.rules.demand import Demand, Evidence, at_least, demand, each
from validator.gate.rules.identity import (
    Candidate,
    by_rank,
    candidates,
    distinct,
    is_sound,
    replayed,
    seed,
    setting,
    stage,
    usual_candidate,
)
from validator.gate.rules.remedies import remedy

_AHEAD_S = 300.0  # by which clocks of two machines may differ
_DAY_S = 86_400.0
_PRIMARY = {"shadow": "legacy", "canary": "new"}


def nothing_unread(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Whatever lay where runs were looked for was read."""
    for sentence in evidence.unread:
        named = "name it by its own path if it is to count, else remove it"
        yield demand("everything found is read", sentence, False, remedy=named)


def one_candidate(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """All runs are of one class, built from one source."""
    wanted = policy.runs.candidate
    if not (policy.runs.same_candidate or wanted) or not evidence.runs:
        return
    usual = usual_candidate(evidence.runs, policy)
    alone = len(evidence.runs) == 1

    def look(run: Run) -> tuple[str, str]:
        own = candidates(run)
        kinds = {one.kind for one in own}
        if wanted and kinds != {wanted}:
            return _named(own), "a run of another candidate is no evidence; judge it by itself"
        if not policy.runs.same_candidate or not own:
            return "", ""  # a run without a pair is another rule's
        if len(own) > 1:
            return f"several: {_named(own)}", "record it with one candidate, of one version on every rank"
        if own != usual:
            apart = "runs of several candidates or versions say nothing together; judge each by itself"
            return f"{_named(own)}, where other runs have {_named(usual)}", apart
        if not alone and not all(one.source for one in own):
            return f"{_named(own)}, so it may be another version", "give the class a source file and record again"
        return "", ""

    demanded = f"candidate {wanted}" if wanted else "one candidate of one version"
    yield from each(evidence.runs, demanded, look, _named(usual))


def two_caches(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """The candidate is another class than the control."""
    if not policy.runs.two_caches:
        return

    def look(run: Run) -> tuple[str, str]:
        same = sorted({str(line.get("control")) for line in run.caches if line.get("control") == line.get("candidate")})
        return (f"both are {', '.join(same)}" if same else ""), "record a run with the new cache as candidate"

    yield from each(evidence.runs, "candidate and control of different classes", look)


def stages(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Enough sound runs of each stage, each with a seed of its own where seeds are demanded."""
    usual = usual_candidate(evidence.runs, policy)
    for name, least in (("shadow", policy.runs.shadow), ("canary", policy.runs.canary)):
        if not least:
            continue
        of_stage = [run for run in evidence.runs if stage(run) == name]
        counting = [run for run in of_stage if is_sound(run) and candidates(run) == usual and replayed(run) is None]
        apart = distinct(counting)
        seeds = {seed(run) for run in apart} - {""}
        found = f"{len(counting):,}"
        if len(of_stage) > len(counting):
            found += (
                f" ({len(of_stage) - len(counting):,} more that are incomplete, damaged, sampled, replayed or foreign)"
            )
        free = next(number for number in range(1, len(seeds) + 2) if str(number) not in seeds)
        like = next(iter(of_stage or evidence.runs), None)
        side, is_new = ("control", "candidate")[name == "canary"], name == "canary"
        more = remedy("one more", like, primary=_PRIMARY[name], seed=free, side=side, is_new=is_new)
        yield at_least(f"sound runs of the {name} stage", least, len(counting), "", more, found)
        if least_seeds := min(policy.runs.seeds, least):
            shown = f"{len(seeds):,}" + (f" ({', '.join(sorted(seeds)[:8])})" if seeds else "")
            alike = {seed(run) for run in counting} - seeds - {""}
            shown += f"; {len(alike):,} more took the course of one of them to the last bit" if alike else ""
            yield at_least(f"distinct seeds in the {name} stage", least_seeds, len(seeds), "", more, shown)


def fresh(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """No run is older than allowed, and none is of the future."""
    days = policy.runs.max_age_days

    def look(run: Run) -> tuple[str, str]:
        return age_problem(created(run.manifest), evidence.now, days), "record it again, by a clock that is right"

    demanded = f"begun within {days:g} days, by a clock that goes forward" if days else "not begun in the future"
    yield from each(evidence.runs, demanded, look)


def age_problem(begun: float | None, now: float, days: float) -> str:
    """Say what is wrong with the moment at which evidence was made, or nothing."""
    if begun is None:
        return "when is not recorded" if days else ""
    if begun > now + _AHEAD_S:
        return f"begun {_day(begun)}, after now ({_day(now)}): one of the clocks goes backwards"
    if days and now - begun > days * _DAY_S:
        return f"{(now - begun) / _DAY_S:.1f} days old, begun {_day(begun)}"
    return ""


def committed(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Every rank ran from a commit, with nothing uncommitted."""
    if not policy.runs.clean_commit:
        return

    def look(run: Run) -> tuple[str, str]:
        for on, about in by_rank(run):
            if problem := commit_problem(about):
                return f"{problem}{on}", "commit in a git checkout, and record again"
        return "", ""

    yield from each(evidence.runs, "run from a commit without changes", look)


def commit_problem(about: Mapping[str, Any]) -> str:
    """Say what is wrong with the commit that a manifest names, or nothing."""
    git = about.get("git")
    if not (isinstance(git, dict) and isinstance(git.get("commit"), str) and git["commit"]):
        return "no commit recorded"
    return "" if git.get("dirty") is False else f"uncommitted changes on {git['commit']:.12}"


def exact(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Bits were compared, without a tolerance."""
    if not policy.runs.exact:
        return

    def look(run: Run) -> tuple[str, str]:
        settings = run.manifest.get("validation")
        known = isinstance(settings, dict) and "rtol" in settings and "atol" in settings
        lossy = [pair for pair in run.caches if pair.get("rtol") is not None]
        own = [f"{pair.get('cache')}: rtol {pair['rtol']}, atol {pair.get('atol')}" for pair in lossy]
        if known and settings["rtol"] is None and settings["atol"] is None and not own:  # type: ignore[index]
            return "", ""
        found = f"rtol {settings['rtol']}, atol {settings['atol']}" if known else "not recorded"  # type: ignore[index]
        found = "; ".join(own) or found
        return found, "record again without rtol and atol"

    yield from each(evidence.runs, "bits compared, without tolerance", look)


def of_one_mind(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Runs of one setting and seed, which must take one course, do not contradict each other."""
    alike: dict[str, list[Run]] = {}
    for run in evidence.runs:
        if seed(run) and is_sound(run):
            alike.setdefault(setting(run), []).append(run)
    for group in alike.values():
        shown = {frozenset(name for name, count in run.totals.divergences.items() if count) for run in group}
        if len(shown) < 2:
            continue
        one, other = group[0], next(run for run in group if _causes(run) != _causes(group[0]))
        yield demand(
            "runs of one candidate, stage, seed and configuration agree",
            f"they contradict each other: {one.path} shows {_causes(one)}, {other.path} shows {_causes(other)}",
            False,
            str(other.path),
            "one of them was not what it says; see both: kv-lockstep compare "
            f"{one.path} {other.path}, and record them again",
        )


def _causes(run: Run) -> str:
    groups = sorted(name for name, count in run.totals.divergences.items() if count)
    return ", ".join(" by ".join(group.split("|")[1:]) for group in groups[:3]) or "no divergence"


def _named(found: frozenset[Candidate]) -> str:
    return ", ".join(sorted(map(str, found))) or "none"


def _day(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return f"at {moment:g} s"

"""Would this host show a fault at all? What drills of it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from reports.record.drills import WRONG, DrillOutcome, DrillRecord
from reports.record.run import created
from reports.record.words import Verdict
from validator.gate.policy import GatePolicy
from validator.gate.rules.campaign import age_problem, commit_problem
from validator.gate.rules.demand import Demand, Evidence, at_least
from validator.gate.rules.identity import Candidate, usual_candidate


def drilled(evidence: Evidence, policy: GatePolicy) -> Iterator[Demand]:
    """Enough planted faults were found and named on the same host, candidate and commit.

    A drill of these that missed a fault closes the gate even where none is demanded: a PASS of that host says little.
    """
    least = policy.drill.faults
    found: set[str] = set()
    left_out = []
    for drill in evidence.drills:
        why = _useless(drill, evidence, policy)
        if why:
            left_out.append(f"{drill.path.name}: {why}")
            continue
        found |= {one.name for one in drill.of(DrillOutcome.FOUND)}
        if wrong := drill.of(*WRONG):
            named = "; ".join(f"{one.name!r:.80} {one.outcome.value}" for one in wrong[:3])
            see = "this host has such faults pass by; see what it lacks: kv-lockstep drill"
            where = str(drill.path)
            yield Demand("planted faults are found on this host", named, Verdict.INCONCLUSIVE, where, see)
    if least:
        said = f"{len(found):,}" + (f", not counting {'; '.join(left_out[:3])}" if left_out else "")
        remedy = "kv-lockstep drill --out DIR, the directory of the runs, with the host and commit of the runs"
        yield at_least("planted faults that this host showed", least, len(found), "", remedy, said)


def _useless(drill: DrillRecord, evidence: Evidence, policy: GatePolicy) -> str:
    """Say why a drill is no evidence about these runs, or nothing."""
    about = drill.manifest
    if drill.problems:
        return drill.problems[0]
    if drill.state != "complete":
        return f"{drill.state}, not complete"
    listed = about.get("candidates")
    said = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    tested = frozenset(Candidate(str(each.get("kind")), str(each.get("source"))) for each in said)
    if tested != usual_candidate(evidence.runs, policy):
        return f"of {', '.join(sorted(map(str, tested))) or 'no candidate'}"
    if not all(each.source for each in tested):
        return "the version it tested is unknown"
    for what, read in (("host", _host), ("commit", _commit)):
        other = next((run for run in evidence.runs if not read(about) or read(run.manifest) != read(about)), None)
        if other is not None:
            return f"of another {what} than {other.path}" if read(about) else f"no {what} recorded"
    if policy.runs.clean_commit and (problem := commit_problem(about)):
        return problem
    return age_problem(created(about), evidence.now, policy.runs.max_age_days)


def _host(about: Mapping[str, Any]) -> str:
    """Return which program was watched: the kind of host, and its script where it has one."""
    host = str(about.get("host") or "")
    ran = about.get("script") or (about.get("argv") if host == "own" else None)
    return f"{host} {PurePath(str(ran[0])).name}" if host and isinstance(ran, list) and ran else host


def _commit(about: Mapping[str, Any]) -> str:
    git = about.get("git")
    return str(git.get("commit") or "") if isinstance(git, Mapping) else ""

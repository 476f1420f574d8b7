"""A drill counts for runs of the same host, candidate and commit; what such a one missed closes the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.disk.seal import seal
from reports.read.drills import find_drills, read_drill, write_drill
from reports.record.drills import Drilled, DrillOutcome, DrillRecord
from reports.record.run import Run
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.gate.runs import MANIFEST, PAIR, run_of, window, write_run
from validator.cli import main
from validator.gate.judgement import Evidence, judge
from validator.gate.policy import DrillPolicy, GatePolicy
from validator.gate.rules.drills import drilled

HOST = {"host": "own", "argv": ["/home/me/training.py", "--steps", "9"], "git": {"commit": "c0ffee", "dirty": False}}
CANDIDATE = {"kind": PAIR["candidate"], "source": PAIR["sources"]["candidate"]}  # type: ignore[index]  # JSON
FOUND = tuple(Drilled(name, "value", DrillOutcome.FOUND) for name in ("a", "b"))
NOW = 1_000_000.0


def drill(*faults: Drilled, state: str = "complete", problems: Any = (), **changes: Any) -> DrillRecord:
    about = {"drill_id": "drill-one", "created": NOW - 60, **HOST, "candidates": [CANDIDATE], **changes}
    return DrillRecord(Path("runs/drill-one"), state, about, list(faults or FOUND), list(problems))


def run(**changes: Any) -> Run:
    return run_of(manifest={**MANIFEST, **HOST, "argv": ["./training.py"], **changes})


def judged(*drills: DrillRecord, least: int = 2, **policy: Any) -> list[tuple[str, Verdict]]:
    demanded = replace(GatePolicy.from_mapping({"runs": policy} if policy else {"max_divergences": 0}))
    evidence = Evidence([run()], drills=drills, now=NOW)
    return [(one.found, one.verdict) for one in drilled(evidence, replace(demanded, drill=DrillPolicy(least)))]


def test_what_a_drill_found_counts_once_each() -> None:
    assert judged(drill()) == [("2", Verdict.PASS)]
    assert judged(drill(), drill(), least=3) == [("2", Verdict.INCONCLUSIVE)]
    assert judged() == [("0", Verdict.INCONCLUSIVE)]
    assert judged(drill(), least=0) == []


@guards("validator/gate/rules/drills.py", 'if drill.state != "complete":', "if False:")
@guards("validator/gate/rules/drills.py", '(("host", _host), ("commit", _commit))', '(("commit", _commit),)')
@guards("validator/gate/rules/drills.py", "if tested != usual_candidate(evidence.runs, policy):", "if False:")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "interrupted"}, "interrupted, not complete"),
        ({"problems": ["drill.json was changed"]}, "drill.json was changed"),
        ({"argv": ["/home/me/other.py"]}, "of another host than runs/one"),
        ({"host": "lightzero", "script": ["training.py"]}, "of another host than runs/one"),
        ({"host": None}, "no host recorded"),
        ({"git": {"commit": "decaf", "dirty": False}}, "of another commit than runs/one"),
        ({"git": None}, "no commit recorded"),
        ({"candidates": [{**CANDIDATE, "source": "0c"}]}, "of KVCacheManager of source 0c"),
        ({"candidates": "none"}, "of no candidate"),
        ({"created": NOW - 9 * 86_400}, "9.0 days old"),
    ],
)
def test_a_drill_of_something_else_is_no_evidence(changes: dict[str, Any], why: str) -> None:
    ((found, verdict),) = judged(drill(**changes), max_age_days=7)
    assert verdict is Verdict.INCONCLUSIVE
    assert found.startswith(f"0, not counting drill-one: {why}")


@guards("validator/gate/rules/drills.py", "if wrong := drill.of(*WRONG):", "if wrong := []:")
@pytest.mark.parametrize("outcome", [DrillOutcome.MISSED, DrillOutcome.MISNAMED])
def test_a_fault_that_passed_by_closes_the_gate_even_where_no_drill_is_demanded(outcome: DrillOutcome) -> None:
    missed = Drilled("c", "value", outcome)
    assert judged(drill(*FOUND, missed), least=0) == [(f"'c' {outcome.value}", Verdict.INCONCLUSIVE)]


def test_uncommitted_changes_are_none_of_the_commit_where_that_is_demanded() -> None:
    dirty = drill(git={"commit": "c0ffee", "dirty": True})
    assert judged(dirty) == [("2", Verdict.PASS)]
    assert judged(dirty, clean_commit=True)[0][0] == "0, not counting drill-one: uncommitted changes on c0ffee"


def test_the_gate_finds_a_drill_beside_the_runs_and_its_record_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    write_run(runs, "one", window())
    kept = replace(drill(), path=runs / "drill-one")
    kept.path.mkdir()
    write_drill(kept)
    (tmp_path / "policy.toml").write_text("[drill]\nfaults = 2\n[coverage]\nlookups = 1\n")
    decision = str(tmp_path / "decision.json")
    main(["gate", str(runs), "--policy", str(tmp_path / "policy.toml"), "--record", decision])
    assert "planted faults that this host showed: at least 2" in " ".join(capsys.readouterr().out.split())
    assert main(["gate", "--verify", decision]) == 5  # as it was judged: that run is of another host
    assert "unchanged: 5 files" in capsys.readouterr().out

    file = kept.path / "drill.json"
    file.write_bytes(file.read_bytes().replace(b'"found"', b'"missed"'))
    assert main(["gate", "--verify", decision]) == 5
    assert "drill runs/drill-one: drill.json" in " ".join(capsys.readouterr().out.split())


def test_what_is_kept_comes_back_and_what_was_edited_says_so(tmp_path: Path) -> None:
    kept = replace(drill(*FOUND, Drilled("c", "error", DrillOutcome.MISSED, ("raised",), (), 7, 9, 1)), path=tmp_path)
    write_drill(kept)
    assert find_drills(tmp_path.parent) == [tmp_path]
    again = read_drill(tmp_path)
    assert (again.faults, again.state, again.problems) == (kept.faults, "complete", [])

    file = tmp_path / "drill.json"
    file.write_bytes(file.read_bytes().replace(b'"missed"', b'"found"'))
    assert read_drill(tmp_path).problems
    file.write_bytes(seal(b'{"kind": "ab"}'))
    assert read_drill(tmp_path).problems[0].startswith("drill.json is of kind 'ab'")
    file.unlink()
    assert read_drill(tmp_path).problems


def test_a_policy_that_demands_a_drill_passes_with_one_alone() -> None:
    policy = GatePolicy.from_mapping({"drill": {"faults": 2}})
    with_one = judge(Evidence([run()], drills=[drill()], now=NOW), policy)
    assert with_one.verdict is Verdict.PASS
    assert judge(Evidence([run()], now=NOW), policy).verdict is Verdict.INCONCLUSIVE

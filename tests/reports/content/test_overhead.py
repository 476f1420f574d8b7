"""The report says which share of the time the control, the candidate and kv-lockstep took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reports.content.facts import overhead
from reports.reader import read_run
from tests.guards import guards
from tests.reports.records_for_tests import window, write_run

SECOND = 10**9


def said(tmp_path: Path, primary: str, n: int = 64) -> str:
    """Write a run of ten seconds in which the control took 1 s, the candidate 2 s, and say what it cost."""
    took = {f"{side}.get.init": {str(bucket): n} for side, bucket in (("control", 168), ("candidate", 176))}
    made = window(t_s=10.0, ops={"get.init": 64}, lookups={}, latency_ns=took, harness_ns=5 * SECOND)
    run = read_run(write_run(tmp_path, windows=(made,)))
    return overhead(replace(run, caches=[{**run.caches[0], "primary": primary}]))


@guards("reports/content/facts.py", "secondary = ours if", "secondary = theirs if")
def test_control_candidate_and_harness_have_their_shares_of_the_time(tmp_path: Path) -> None:
    sides = "of all time control 5.70%, candidate 11.41%, kv-lockstep itself"
    spent = f"5.0 s of 10.0 s went into validating (50.00%); {sides}"
    assert said(tmp_path / "1", "control") == f"{spent} 38.59%"  # the control's time would have been spent anyway
    assert said(tmp_path / "2", "candidate") == f"{spent} 44.30%"


def test_where_a_share_is_timed_the_report_says_which(tmp_path: Path) -> None:
    assert said(tmp_path, "control", n=4) == (
        "5.0 s of 10.0 s went into validating (50.00%); latencies are those of 4 of 64 operations (6.25%)"
    )

"""The first line of every format: true, and it names the side to look at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from reports.content.facts import meaning
from reports.formats.html.page import render as html
from reports.formats.machine import as_json, as_junit, workflow_commands
from reports.formats.markdown import render as markdown
from reports.formats.terminal.run import render as terminal
from reports.reader import read_run
from reports.record.run import Run
from reports.record.words import Cause, Dimension, Fault, Outcome
from tests.reports.records_for_tests import divergence, window, write_run
from validator.gate.judgement import judge
from validator.gate.rules.demand import Demand

ELSEWHERE = "gate not passed: the control is at fault, not the candidate"
SHIP_NOT = "the candidate must not ship"


def run_with(tmp_path: Path, *faults: Fault, **changes: Any) -> Run:
    """A run with one divergence of each of these sides."""
    found = [
        divergence(
            id=n, fault=fault, cause=Cause.SLOT_LEAK, dimension=Dimension.PRESENCE, outcome=Outcome.CANDIDATE_ONLY
        )
        for n, fault in enumerate(faults)
    ]
    counted = {one.group: sum(other.group == one.group for other in found) for one in found}
    return read_run(write_run(tmp_path, windows=(window(0, divergences=counted, **changes),), divergences=tuple(found)))


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ([Fault.CONTROL], ELSEWHERE),
        ([Fault.HOST], ELSEWHERE.replace("the control", "the host")),
        ([Fault.CONTROL, Fault.HOST], ELSEWHERE.replace("the control", "the control or the host")),
        ([Fault.CANDIDATE], SHIP_NOT),
        ([Fault.CONTROL, Fault.CANDIDATE], SHIP_NOT),
        ([Fault.CONTROL, Fault.BOTH], SHIP_NOT),
        ([Fault.CONTROL, Fault.UNKNOWN], SHIP_NOT),
    ],
)
def test_names_the_side_to_look_at(tmp_path: Path, faults: list[Fault], said: str) -> None:
    run = run_with(tmp_path, *faults)

    assert meaning(run, judge([run])) == said


def test_a_lookup_that_nothing_explains_is_not_the_controls(tmp_path: Path) -> None:
    run = run_with(tmp_path, Fault.CONTROL, lookups={"init": {"candidate_only": 2}})

    assert meaning(run, judge([run])) == SHIP_NOT


def test_another_demand_that_failed_is_not_the_controls(tmp_path: Path) -> None:
    run = run_with(tmp_path, Fault.CONTROL)
    judgement = judge([run])
    slow = Demand("latency of the candidate at most 1.05 of the control's", "2.10", judgement.verdict)
    object.__setattr__(judgement, "demands", (*judgement.demands, slow))

    assert meaning(run, judgement) == SHIP_NOT


def test_every_format_says_the_same(tmp_path: Path) -> None:
    run = run_with(tmp_path, Fault.CONTROL)
    judgement = judge([run])
    out = Console(file=io.StringIO(), width=200)
    terminal(run, judgement, out)
    suite = ElementTree.fromstring(as_junit(run, judgement))[0]
    verdict = suite.find("properties/property[@name='verdict']")

    assert out.file.getvalue().startswith(f"FAIL: {ELSEWHERE}\n")  # type: ignore[attr-defined]
    assert markdown(run, judgement).startswith(f"## ❌ FAIL: {ELSEWHERE}\n")
    assert f"<b>FAIL</b> {ELSEWHERE}</h1>" in html(run, judgement)
    assert f'"meaning": "{ELSEWHERE}"' in as_json(run, judgement)
    assert verdict is not None
    assert verdict.get("value") == f"FAIL: {ELSEWHERE}"
    assert next(workflow_commands(run, judgement)) == f"::error title=kv-lockstep::FAIL: {ELSEWHERE}"

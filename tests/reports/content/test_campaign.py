"""What the page of a campaign says, and that it stays small and harmless."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reports.content.campaign import outcome, state, tables
from reports.formats.html.campaign import MAX_BYTES, render
from reports.read.campaign import read_campaign
from reports.record.campaign import Attempt, Campaign, Fate, Job
from reports.record.run import Run
from tests.guards import guards
from tests.validator.campaign import busy_run, busy_window, policy
from tests.validator.campaign.jobs import JUDGED, LOST, Backend, Watcher, made
from tests.validator.gate.runs import divergence
from validator.campaign.drive import drive
from validator.commands.gate_evidence import find_sources, read_sources
from validator.gate.judgement import judge
from validator.gate.rules.demand import Evidence

GROUP = "value|values corrupted|candidate"


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Three jobs, of which one was lost and repeated, and one diverged."""
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: LOST if name == "0001-1" else JUDGED), Watcher())
    found = read_sources(find_sources([campaign.path]))
    run = found.runs[2]
    run.totals.add(busy_window(divergences={GROUP: 3}))
    run.divergences.append(divergence())
    (run.path / "report.html").write_text("")
    return found


def rows(evidence: Evidence, title: str) -> list[list[str]]:
    made = tables(evidence.campaigns[0], evidence.runs, judge(evidence, policy("smoke")))
    (table,) = [one for one in made if one.title == title]
    return [[getattr(cell, "text", cell) for cell in row] for row in table.rows]


def test_divergences_are_gathered_by_cause_over_all_runs(evidence: Evidence) -> None:
    assert rows(evidence, "Divergences by cause, over all runs") == [
        ["values corrupted", "candidate", "value", "2", "3", "1 of 3", "3 in job 2"]
    ]


def test_what_ran_where_names_every_job(evidence: Evidence) -> None:
    found = rows(evidence, "What ran where")
    assert [row[:4] for row in found] == [[str(n), "train", str(n), "legacy"] for n in range(3)]
    assert [row[6] for row in found] == ["PASS"] * 3
    assert found[2][-1] == "3"


def test_what_was_lost_is_named_with_what_came_of_it(evidence: Evidence) -> None:
    assert rows(evidence, "Lost, stopped and repeated") == [
        ["jobs/0001-1", "job 1: train seed 1 legacy", "lost", "killed by SIGKILL", "-", "repeated as jobs/0001-2"]
    ]


def test_coverage_is_united_with_the_least_of_one_run(evidence: Evidence) -> None:
    evidence.runs[0].totals.coverage["searches"] = 0
    found = {row[0]: row[1:] for row in rows(evidence, "Coverage, united")}
    assert found["searches"] == ["900", "0", "2 of 3"]


@guards("reports/content/campaign.py", "if page.is_file() else text", "if True else text")
def test_a_page_leads_to_the_pages_of_its_runs_alone(evidence: Evidence) -> None:
    page = render(evidence.campaigns[0], evidence.runs, judge(evidence, policy("smoke")))
    targets = set(re.findall(r'href="(?!#)([^"]*)"', page))
    run = evidence.runs[2]
    assert targets == {f"jobs/0002-1/{run.path.name}/report.html"}
    assert all((evidence.campaigns[0].path / target).is_file() for target in targets)


def test_what_a_campaign_is_called_and_runs_is_only_text(evidence: Evidence) -> None:
    campaign = evidence.campaigns[0]
    campaign.jobs[0] = Job(0, ("<script>alert(1)</script>",), 0, "legacy", "\u202e<b>")
    campaign.attempts[1] = replace(campaign.attempts[1], reason="<img src=x onerror=alert(1)>", host='"><b>')
    page = render(campaign, evidence.runs, judge(evidence, policy("smoke")))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\u202e" not in page


def test_a_thousand_runs_stay_below_two_megabytes(tmp_path: Path) -> None:
    jobs = [Job(n, ("train", "--config", "x" * 300), n, "legacy", "a.b.c.d=" + "1" * 60) for n in range(1000)]
    campaign = Campaign(tmp_path, {}, jobs)

    machine = "machine-of-the-cluster-17"
    campaign.attempts = [Attempt(n, 1, Fate.JUDGED, 0, host=machine, seconds=n) for n in range(1000)]
    runs: list[Run] = []
    for n in range(1000):
        path = tmp_path / f"jobs/{n:04d}-1/20261129-010722-vm-{n}-992a"
        runs.append(busy_run(n, path=path, windows=[]))
    begun = time.perf_counter()
    page = render(campaign, runs, judge(Evidence(runs, campaigns=[campaign]), policy("smoke")))
    assert time.perf_counter() - begun < 30
    assert "and 1,000 more" not in page
    assert page.count(machine) >= 1000
    assert len(page.encode()) < MAX_BYTES


def test_how_far_a_campaign_is_fits_on_a_line(evidence: Evidence) -> None:
    campaign = read_campaign(evidence.campaigns[0].path)
    assert state(campaign) == "3 jobs: 3 judged, 1 attempt lost or stopped"
    campaign.attempts[0] = replace(campaign.attempts[0], fate=Fate.RUNNING)
    del campaign.attempts[-1]
    assert state(campaign) == "3 jobs: 1 judged, 1 running, 1 missing, 1 attempt lost or stopped"
    assert [outcome(one) for one in (None, *campaign.attempts)] == ["never ran", "running", "lost", "PASS"]

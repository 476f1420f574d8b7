"""A campaign passes as a whole or not at all: nothing missing, nothing other than asked, nothing seen and repeated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reports.read.campaign import new_attempt, read_campaign, write_attempt
from reports.record.campaign import ATTEMPT_FILE, CAMPAIGN_FILE, Attempt, Fate
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.campaign import busy_window, policy
from tests.validator.campaign.jobs import FAILED, JUDGED, LOST, Backend, Watcher, made
from tests.validator.gate.runs import divergence
from tests.validator.gate.waivers import EATEN
from validator.campaign.drive import drive
from validator.commands.gate_evidence import find_sources, read_sources
from validator.gate.judgement import Judgement, judge


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A campaign of three jobs, each judged."""
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(), Watcher())
    return campaign.path


def judged(path: Path) -> Judgement:
    return judge(read_sources(find_sources([path])), policy("smoke"))


def found(judgement: Judgement, demanded: str) -> str:
    (one,) = [each for each in judgement.demands if demanded in each.demanded and each.verdict is not Verdict.PASS]
    return str(one)


def test_a_whole_campaign_passes(whole: Path) -> None:
    judgement = judged(whole)
    assert judgement.verdict is Verdict.PASS, judgement
    assert "all 3 jobs of the campaign ended with a verdict of their own" in [d.demanded for d in judgement.demands]


@guards(
    "validator/gate/rules/jobs.py",
    "yield demand(demanded, found, not wrong, str(one.path), remedy)",
    "yield demand(demanded, found, True)",
)
@pytest.mark.parametrize("gone", ["", ATTEMPT_FILE])
def test_a_campaign_with_a_job_missing_never_passes(whole: Path, gone: str) -> None:
    for path in (whole / "jobs").iterdir():
        if path.name == "0001-1":
            shutil.rmtree(path) if not gone else (path / gone).unlink()
    judgement = judged(whole)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "found 2; job 1: train seed 1 legacy never ran" in found(judgement, "all 3 jobs")
    assert f"kv-lockstep campaign --resume {whole}" in found(judgement, "all 3 jobs")
    if gone:
        assert "jobs/0001-1 has no attempt.json" in found(judgement, "record readable")


def test_a_job_that_left_nothing_is_named(whole: Path) -> None:
    for run in (whole / "jobs" / "0002-1").iterdir():
        if run.is_dir():
            shutil.rmtree(run)
    judgement = judged(whole)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "job 2: train seed 2 legacy left nothing to judge, with exit code 0" in found(judgement, "all 3 jobs")


def test_a_job_that_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: FAILED if name == "0000-1" else JUDGED), Watcher())
    judgement = judged(campaign.path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "job 0: train seed 0 legacy failed: ended with exit code 3: a fault" in found(judgement, "all 3 jobs")


def test_what_was_lost_and_repeated_does_not_count(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: LOST if name == "0001-1" else JUDGED), Watcher())
    evidence = read_sources(find_sources([campaign.path]))

    assert (len(evidence.runs), len(evidence.superseded)) == (3, 1)
    judgement = judge(evidence, policy("smoke"))
    assert judgement.verdict is Verdict.PASS, judgement
    assert "no divergence in 1 superseded attempts (1 lost, 0 stopped)" in [d.demanded for d in judgement.demands]


@guards("validator/gate/rules/jobs.py", "left = n_left(replace(evidence, runs=evidence.superseded))", "left = 0")
def test_a_divergence_in_what_was_lost_is_one(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: LOST if name == "0001-1" else JUDGED), Watcher())
    evidence = read_sources(find_sources([campaign.path]))
    (lost,) = evidence.superseded
    lost.divergences.append(divergence())
    judgement = judge(evidence, policy("smoke"))

    assert judgement.verdict is Verdict.FAIL
    assert str(lost.path) in found(judgement, "superseded")


def test_a_job_that_was_never_repeated_is_missing_and_its_lost_run_looked_at(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: LOST if name.startswith("0001") else JUDGED), Watcher())
    judgement = judged(campaign.path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "job 1: train seed 1 legacy lost: killed by SIGKILL" in found(judgement, "all 3 jobs")
    assert "in 2 superseded attempts" in str([d.demanded for d in judgement.demands])


@guards("validator/gate/rules/jobs.py", 'return f"{job} ran with seed {seed(run)}"', 'return ""')
def test_a_run_of_another_seed_than_its_jobs_is_not_the_job(whole: Path) -> None:
    evidence = read_sources(find_sources([whole]))
    evidence.runs[2].manifest["seed"] = 7
    judgement = judge(evidence, policy("smoke"))

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not so in 1: job 2: train seed 2 legacy ran with seed 7" in found(judgement, "its job's seed")


def test_a_run_of_the_other_stage_than_its_jobs_is_not_the_job(whole: Path) -> None:
    evidence = read_sources(find_sources([whole]))
    evidence.runs[1].caches[0]["primary"] = "candidate"
    assert "ran in the canary stage" in found(judge(evidence, policy("smoke")), "its job's seed")


@pytest.mark.parametrize("name", [CAMPAIGN_FILE, f"jobs/0001-1/{ATTEMPT_FILE}"])
def test_an_edited_record_is_noticed(whole: Path, name: str) -> None:
    file = whole / name
    file.write_bytes(file.read_bytes().replace(b'"number": 1', b'"number":  1'))
    judgement = judged(whole)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "its digest does not fit its content" in found(judgement, "record readable")


def test_the_record_of_another_attempt_is_none(whole: Path) -> None:
    new_attempt(whole, 0, 2)
    shutil.copy(whole / "jobs" / "0001-1" / ATTEMPT_FILE, whole / "jobs" / "0000-2" / ATTEMPT_FILE)

    assert "jobs/0000-2 holds the record of attempt jobs/0001-1" in found(judged(whole), "record readable")
    assert len(read_campaign(whole).attempts) == 3


def test_a_link_among_the_attempts_is_not_followed(whole: Path, tmp_path: Path) -> None:
    (whole / "jobs" / "0001-1").rename(tmp_path / "elsewhere")
    (whole / "jobs" / "0001-1").symlink_to(tmp_path / "elsewhere")
    assert judged(whole).verdict is Verdict.INCONCLUSIVE


def test_a_campaign_below_a_directory_of_runs_is_not_passed_over(whole: Path) -> None:
    (run,) = [path for path in (whole / "jobs" / "0001-1").iterdir() if path.is_dir()]
    shutil.copytree(run, whole.parent / run.name)
    sources = find_sources([whole.parent])
    assert sources.unread == [f"{whole} is a campaign, whose runs were not read"]


def test_a_divergence_of_a_job_fails_the_campaign(whole: Path) -> None:
    evidence = read_sources(find_sources([whole]))
    evidence.runs[0].totals.add(busy_window(divergences={EATEN: 1}))
    assert judge(evidence, policy("smoke")).verdict is Verdict.FAIL


def test_an_attempt_that_still_runs_is_missing(whole: Path) -> None:
    campaign = read_campaign(whole)
    write_attempt(whole, replace(campaign.attempts[2], fate=Fate.RUNNING, code=None))
    assert "job 2: train seed 2 legacy running" in found(judged(whole), "all 3 jobs")
    assert Attempt(2, 1).directory == "jobs/0002-1"

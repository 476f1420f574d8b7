"""What becomes of a campaign's jobs when machines fail, people interrupt and drivers die."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from reports.disk.process import identity
from reports.read.campaign import new_attempt, read_campaign, write_attempt
from reports.record.campaign import Attempt, Campaign, Fate
from tests.guards import guards
from tests.validator.campaign.jobs import FAILED, JUDGED, LOST, Backend, Watcher, made
from validator.campaign.drive import drive, settle_what_was_left, signals_kept
from validator.errors import ConfigError


def fates(campaign: Campaign) -> list[str]:
    again = read_campaign(campaign.path)
    assert again.attempts == sorted(campaign.attempts, key=lambda one: (one.job, one.number))
    assert again.problems == []
    return [f"{one.job}-{one.number} {one.fate.value}" for one in again.attempts]


def test_each_job_runs_once_in_a_directory_of_its_own(tmp_path: Path) -> None:
    campaign, backend, watcher = made(tmp_path / "c"), Backend(), Watcher()
    drive(campaign, campaign.jobs, backend, watcher)

    assert fates(campaign) == ["0-1 judged", "1-1 judged", "2-1 judged"]
    assert watcher.told[0] == "0-1 running"
    assert len(watcher.told) == 6
    assert backend.words["0001-1"] == [
        "train",
        "--out",
        str(tmp_path / "c" / "jobs" / "0001-1"),
        "--seed",
        "1",
        "--ranks=1",
    ]
    assert campaign.missing() == list(campaign.superseded()) == []


def test_what_the_machine_lost_is_repeated_once(tmp_path: Path) -> None:
    campaign, backend = made(tmp_path / "c"), Backend(lambda name: LOST if name == "0001-1" else JUDGED)
    drive(campaign, campaign.jobs, backend, Watcher())

    assert fates(campaign) == ["0-1 judged", "1-1 lost", "1-2 judged", "2-1 judged"]
    assert [one.number for one in campaign.superseded()] == [1]
    assert campaign.counting()[1].number == 2


@guards("validator/campaign/drive.py", "end.fate is Fate.LOST and retries[job.number]", "end.fate is Fate.LOST")
def test_it_is_not_repeated_twice(tmp_path: Path) -> None:
    n_lost = 0

    def lose(name: str) -> object:
        nonlocal n_lost
        n_lost += name.startswith("0001")
        return LOST if name.startswith("0001") and n_lost < 5 else JUDGED

    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lose), Watcher())

    assert fates(campaign) == ["0-1 judged", "1-1 lost", "1-2 lost", "2-1 judged"]
    assert [job.number for job in campaign.missing()] == [1]


def test_a_job_that_failed_for_its_own_reason_is_not_repeated(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    drive(campaign, campaign.jobs, Backend(lambda name: FAILED), Watcher())

    assert fates(campaign) == ["0-1 failed", "1-1 failed", "2-1 failed"]


def test_an_interrupt_stops_what_runs_and_a_resumption_runs_what_is_missing(tmp_path: Path) -> None:
    campaign, backend = made(tmp_path / "c", 4), Backend(interrupt_at="0001-1")
    with pytest.raises(KeyboardInterrupt):
        drive(campaign, campaign.jobs, backend, Watcher())

    assert backend.stopped
    assert fates(campaign) == ["0-1 judged", "1-1 stopped", "2-1 stopped"]
    resumed, backend = read_campaign(campaign.path), Backend()
    drive(resumed, resumed.missing(), backend, Watcher())
    assert backend.started == ["0001-2", "0002-2", "0003-1"]
    assert resumed.missing() == []


def left_running(campaign: Campaign, **driver: object) -> None:
    attempt = Attempt(0, new_attempt(campaign.path, 0), driver={**identity(), **driver})
    write_attempt(campaign.path, attempt)
    campaign.attempts.append(attempt)


@guards("validator/campaign/drive.py", "if living or (living is None and not give_up):", "if False:")
def test_a_campaign_that_still_runs_is_not_resumed(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    left_running(campaign)
    with pytest.raises(ConfigError, match=f"job 0 is being run by process {os.getpid()}.*wait for it"):
        settle_what_was_left(campaign, give_up=True)
    assert fates(campaign) == ["0-1 running"]


def test_what_a_dead_driver_began_is_lost(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    left_running(campaign, pid_started=1)
    settle_what_was_left(campaign, give_up=False)

    assert fates(campaign) == ["0-1 lost"]
    assert [job.number for job in campaign.missing()] == [0, 1, 2]


def test_what_another_machine_began_is_given_up_only_when_told_so(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    left_running(campaign, hostname="elsewhere")
    with pytest.raises(ConfigError, match="of elsewhere; if it no longer runs, add --yes"):
        settle_what_was_left(campaign, give_up=False)
    settle_what_was_left(campaign, give_up=False, only=campaign.jobs[1])
    settle_what_was_left(campaign, give_up=True)
    assert fates(campaign) == ["0-1 lost"]


def test_a_late_second_attempt_counts_for_nothing(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c", 1)
    drive(campaign, campaign.jobs, Backend(), Watcher())
    first = campaign.attempts[0]
    new_attempt(campaign.path, 0, 2)
    write_attempt(campaign.path, replace(first, number=2))

    again = read_campaign(campaign.path)
    assert again.counting() == {0: first}
    assert [one.number for one in again.superseded()] == [2]


def test_two_attempts_that_begin_at_once_get_directories_of_their_own(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c")
    assert [new_attempt(campaign.path, 0) for _ in range(3)] == [1, 2, 3]


@guards("validator/campaign/drive.py", "signal.signal(number, handler)\n", "pass\n")
def test_signal_handlers_are_put_back_whatever_a_library_did_to_them() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with signals_kept():
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


@guards("validator/campaign/drive.py", " is not signal.SIG_IGN:  # as under nohup", " is not None:")
def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_kept():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stopped_attempt_says_so(tmp_path: Path) -> None:
    campaign = made(tmp_path / "c", 1)
    with pytest.raises(KeyboardInterrupt):
        drive(campaign, campaign.jobs, Backend(interrupt_at="0000-1"), Watcher())
    (one,) = read_campaign(campaign.path).attempts
    assert (one.fate, one.reason) == (Fate.STOPPED, "stopped with its campaign")

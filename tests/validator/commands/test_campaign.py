"""``kv-lockstep campaign`` as a shell sees it: what it refuses, what it runs, and the code that comes back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from reports.disk.process import identity
from reports.read.campaign import new_attempt, read_campaign, write_attempt
from reports.record.campaign import Attempt, Fate
from tests.guards import guards
from tests.validator.campaign import write
from tests.validator.campaign.jobs import JUDGED, LOST, Backend
from validator import cli
from validator.commands import campaign as command

Printed = pytest.CaptureFixture[str]
JOB = ("--", "train", "--config", "smoke")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """What runs in the place of processes."""
    made = Backend()
    monkeypatch.setattr(command, "Local", lambda n_jobs, most, timeout_s: made)
    return made


def run(out: Path, *words: str) -> int:
    return cli.main(["campaign", "--out", str(out), *words])


def only(out: Path) -> Path:
    (path,) = out.iterdir()
    return path


def test_a_campaign_passes_and_the_gate_says_the_same(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    assert run(tmp_path, "--seeds", "1..3", "--policy", "smoke", "--primary", "legacy", *JOB) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("PASS by policy 'smoke'")
    assert f"campaign: {only(tmp_path)}" in printed.out
    assert "job 1: train seed 2 legacy PASS" in printed.err
    assert cli.main(["gate", str(only(tmp_path)), "--policy", "smoke"]) == 0
    assert backend.started == ["0000-1", "0001-1", "0002-1"]


def test_a_campaign_of_which_a_job_is_lost_does_not_pass(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    backend.ends = lambda name: LOST if name.startswith("0001") else JUDGED
    assert run(tmp_path, "--seeds", "1..3", "--policy", "smoke", *JOB) == 5
    printed = capsys.readouterr()
    assert "job 1: train seed 2 lost in 0 ms: killed by SIGKILL" in printed.err
    assert "kv-lockstep campaign --resume" in printed.out

    backend.ends = lambda name: JUDGED
    assert cli.main(["campaign", "--resume", str(only(tmp_path))]) == 0
    assert backend.started[-1] == "0001-3"
    n_started = len(backend.started)
    assert cli.main(["campaign", "--resume", str(only(tmp_path))]) == 0
    assert len(backend.started) == n_started


def test_ctrl_c_keeps_what_is_complete(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    backend.interrupt_at = "0001-1"
    assert run(tmp_path, "--seeds", "1..4", "--policy", "smoke", *JOB) == 5
    assert f"stopped; what is missing: kv-lockstep campaign --resume {only(tmp_path)}" in capsys.readouterr().err
    backend.interrupt_at = ""
    backend._running.clear()
    assert cli.main(["campaign", "--resume", str(only(tmp_path)), *JOB]) == 2  # without its seeds: another matrix
    assert cli.main(["campaign", "--seeds", "1..4", "--resume", str(only(tmp_path)), *JOB]) == 0
    assert backend.started == ["0000-1", "0001-1", "0002-1", "0001-2", "0002-2", "0003-1"]


@guards("validator/commands/arguments.py", 'add("job", nargs="*"', 'add("job", nargs=argparse.REMAINDER')
def test_a_file_says_the_same_as_flags(tmp_path: Path, backend: Backend) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'policy = "smoke"\ntimeout_s = 60\n[[matrix]]\njob = ["train", "--config", "smoke"]\nseeds = "1..2"\n'
        'settings = { env_num = [2, 3] }\n[[matrix]]\njob = ["conformance", "--ops", "200"]\n'
    )
    run(tmp_path / "out", str(file))
    campaign = read_campaign(only(tmp_path / "out"))
    assert [str(job) for job in campaign.jobs] == [
        *(
            f"job {n}: train seed {seed} env_num={envs}"
            for n, (seed, envs) in enumerate([(1, 2), (1, 3), (2, 2), (2, 3)])
        ),
        "job 4: conformance",
    ]
    assert (campaign.manifest["policy"], campaign.manifest["timeout_s"]) == ("smoke", 60)
    behind = ["--policy", "remove-legacy", "--on", "print"]
    assert run(tmp_path / "late", str(file), *behind) == 0
    assert read_campaign(only(tmp_path / "late")).manifest["policy"] == "remove-legacy"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a file, or a job after --"),
        (["gone.toml"], "gone.toml: a campaign can't be read"),
        (["gone.toml", "--seeds", "1..2"], "leave --seeds, --primary and --ranks away"),
        (["--seeds", "1..20000", "--", "conformance"], "that makes 20,000 jobs, more than 10,000; add --yes"),
        (["--policy", "smoek", *JOB], "did you mean 'smoke'"),
        (["--waivers", "legacy", *JOB], "legacy-ring"),
        (["--", "train", "--config", "smok"], "did you mean 'smoke'"),
        (["--", "train", "--set", "env_nums=3"], "did you mean 'env_num'"),
        (["--", "train", "--candidate", "nowhere:Cache"], "can't be built"),
        (["--", "run", "gone.py"], "gone.py: expected a Python script"),
        (["--jobs", "-1", *JOB], "expected no negative number"),
        (["--only", "1", *JOB], "add --resume CAMPAIGN"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_runs(
    tmp_path: Path, backend: Backend, capsys: Printed, words: list[str], said: str
) -> None:
    assert run(tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert (backend.started, (tmp_path / "out").exists()) == ([], False)


def test_very_many_jobs_run_if_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST_JOBS", 1)
    words = ["--seeds", "1..2", "--on", "print", "--", "conformance", "--ops", "200"]
    assert run(tmp_path / "out", *words) == 2
    assert run(tmp_path / "out", "--yes", *words) == 0


def test_a_file_that_says_something_unknown_is_refused(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[matrix]]\njobs = ["train"]\n')
    assert run(tmp_path / "out", str(file)) == 2
    assert "unknown setting 'jobs'; did you mean 'job'?" in capsys.readouterr().err


@guards("validator/commands/campaign.py", "        if asked != campaign.jobs:\n", "        if False:\n")
def test_a_campaign_of_another_matrix_is_not_resumed(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    run(tmp_path, "--seeds", "1..2", *JOB)
    path = str(only(tmp_path))
    assert cli.main(["campaign", "--resume", path, "--seeds", "1..3", *JOB]) == 2
    assert "is of another matrix (3 jobs against 2)" in capsys.readouterr().err
    assert cli.main(["campaign", "--resume", path, "--seeds", "5..6", *JOB]) == 2
    assert "is of another matrix (job 0: train seed 5 against job 0: train seed 1)" in capsys.readouterr().err
    assert cli.main(["campaign", "--resume", path, "--policy", "smoke"]) == 2
    assert cli.main(["campaign", "--resume", str(tmp_path)]) == 2
    assert "no campaign.json in it" in capsys.readouterr().err


def test_a_damaged_campaign_is_not_resumed(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    run(tmp_path, "--seeds", "1..2", *JOB)
    file = only(tmp_path) / "campaign.json"
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 3'))
    assert cli.main(["campaign", "--resume", str(only(tmp_path))]) == 2
    assert "a damaged campaign can't be resumed" in capsys.readouterr().err


def test_print_gives_one_line_a_job_that_runs_it_alone(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    assert run(tmp_path, "--seeds", "1..2", "--policy", "smoke", "--on", "print", *JOB) == 0
    *jobs, last = capsys.readouterr().out.splitlines()
    assert backend.started == []
    for line in jobs:
        assert cli.main(line.partition("  #")[0].split()[1:]) == 0
    assert backend.started == ["0000-1", "0001-1"]
    assert cli.main(jobs[0].partition("  #")[0].split()[1:]) == 0  # a launcher that starts it again starts nothing
    assert backend.started == ["0000-1", "0001-1"]
    assert cli.main(last.partition("  #")[0].split()[1:]) == 0
    assert "PASS by policy 'smoke'" in capsys.readouterr().out


def test_one_job_alone_gives_its_own_code(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    run(tmp_path, "--seeds", "1..2", "--on", "print", *JOB)
    backend.ends = lambda name: JUDGED._replace(code=1)
    assert cli.main(["campaign", "--resume", str(only(tmp_path)), "--only", "0"]) == 1
    backend.ends = lambda name: LOST
    assert cli.main(["campaign", "--resume", str(only(tmp_path)), "--only", "1"]) == 5
    assert cli.main(["campaign", "--resume", str(only(tmp_path)), "--only", "2"]) == 2
    assert "has jobs 0 to 1" in capsys.readouterr().err


def test_a_record_of_a_campaign_notices_whatever_changes(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    backend.ends = lambda name: LOST if name == "0001-1" else JUDGED
    run(tmp_path / "out", "--seeds", "1..2", *JOB)
    path, record = only(tmp_path / "out"), tmp_path / "decision.json"
    assert cli.main(["gate", str(path), "--policy", "smoke", "--record", str(record)]) == 0
    kinds = [item["kind"] for item in json.loads(record.read_text())["evidence"]]
    assert sorted(kinds) == ["campaign", "policy", "run", "run", "superseded run"]
    assert cli.main(["gate", "--verify", str(record)]) == 0
    assert "unchanged" in capsys.readouterr().out

    (path / "jobs" / "0001-1" / "attempt.json").unlink()
    assert cli.main(["gate", "--verify", str(record)]) == 5
    assert "attempt.json is missing" in " ".join(capsys.readouterr().out.split())  # wherever the line is broken


def test_watch_says_how_far_a_campaign_is(tmp_path: Path, backend: Backend, capsys: Printed) -> None:
    backend.ends = lambda name: LOST if name.startswith("0001") else JUDGED
    run(tmp_path, "--seeds", "1..3", "--policy", "smoke", *JOB)
    path = only(tmp_path)
    attempt = Attempt(1, new_attempt(path, 1), begun=time.time(), driver=identity())
    write_attempt(path, attempt)
    write(path / attempt.directory, 7, now=time.time(), close=False)
    capsys.readouterr()

    assert cli.main(["watch", str(path), "--once"]) == 0
    state, running, *_ = capsys.readouterr().out.splitlines()
    assert state == "3 jobs: 2 judged, 1 running, 2 attempts lost or stopped"
    assert running.startswith("job 1: train seed 2  ")
    assert running.endswith("operations  0 divergences")


def test_jobs_run_as_processes_of_their_own(tmp_path: Path) -> None:
    words = ["--", "conformance", "--control", "new", "--ops", "50"]
    assert run(tmp_path, "--seeds", "3", *words) == 5  # streams alone are no run
    (attempt,) = read_campaign(only(tmp_path)).attempts
    assert (attempt.fate, attempt.code) == (Fate.JUDGED, 0)
    (result,) = (only(tmp_path) / attempt.directory).glob("conformance-*.json")
    assert json.loads(result.read_text())["seed"] == 3
    assert "conform in" in (only(tmp_path) / attempt.directory / "log.txt").read_text()

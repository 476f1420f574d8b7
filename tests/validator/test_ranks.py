"""Several processes of one job share one run directory, and are judged by their files."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from rich.console import Console

from reports.disk.run_id import run_id
from reports.errors import RunDirectoryError
from reports.read.follow import Follower
from reports.reader import find_runs, read_run
from reports.record.words import Verdict
from reports.writer import RunWriter
from tests.guards import guards
from tests.validator.campaign import busy_window, write
from tests.validator.gate.runs import MANIFEST
from tests.validator.sessions import exercise
from tests.validator.trials import manager
from validator.commands.at_close import closed_run
from validator.commands.gate_evidence import find_sources, read_sources
from validator.config import ValidationConfig
from validator.gate.judgement import Judgement, judge
from validator.gate.policy import CoveragePolicy, GatePolicy
from validator.session import Lockstep

ROOT = Path(__file__).parents[2]
GONE = 2**22 + 1  # number of no process
RANK = """
import sys
sys.path.insert(0, {root!r})
from tests.validator.sessions import *
from tests.validator.trials import manager
with Lockstep({out!r}, ValidationConfig(selftest=False), manifest_extra={{"seed": 7}}) as lockstep:
    exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))
"""


class Launcher:
    """What torchrun does for its workers: a store of its own, and what it tells them by variables."""

    def __init__(self, run_id: str = "nightly") -> None:
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.told = {
            "TORCHELASTIC_RUN_ID": run_id,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_ERROR_FILE": f"/tmp/elastic/{run_id}_{self.store.port}/attempt_0/0/error.json",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "LOCAL_WORLD_SIZE": "2",
            "WORLD_SIZE": "2",
        }

    def worker(self, rank: int, attempt: int = 0) -> dict[str, str]:
        return {**self.told, "RANK": str(rank), "TORCHELASTIC_RESTART_COUNT": str(attempt)}


Open = Callable[..., Lockstep]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a session as a process of its own would, told by these variables."""
    sessions = []

    def open_one(told: dict[str, str], out: str = "runs", **about: Any) -> Lockstep:
        monkeypatch.setattr("validator.ranks._SESSIONS", itertools.count(1))
        for name, text in told.items():
            monkeypatch.setenv(name, text)
        config = ValidationConfig(selftest=False, run_id=told.get("run_id", ""))
        sessions.append(Lockstep(tmp_path / out, config, manifest_extra={"seed": 7, "host": "own", **about}))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


def work(lockstep: Lockstep) -> None:
    exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))


def judged(*paths: Path, **coverage: bool) -> Judgement:
    runs = [read_run(path) for path in paths]
    policy = GatePolicy(coverage=CoveragePolicy(**coverage), selftest=False)
    return judge(runs, policy)


def launch(out: Path, world_size: int, ranks: range) -> None:
    """Run ranks side by side, as torchrun does on one machine."""
    code = RANK.format(root=str(ROOT), out=str(out))
    launcher = Launcher()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **launcher.worker(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


def test_ranks_of_one_job_share_a_run_and_a_missing_one_is_missing_evidence(tmp_path: Path) -> None:
    launch(tmp_path, 2, range(2))

    (path,) = find_runs(tmp_path)
    run = read_run(path)
    assert sorted(file.name for file in path.glob("*.json*")) == [
        "rank-0000.jsonl",
        "rank-0001.jsonl",
        "run.json",
        "summary.json",
    ]
    assert (run.state, run.problems) == ("complete", [])
    assert sorted(run.ranks) == [0, 1]
    assert run.ranks[1]["pid"] != run.ranks[0]["pid"]
    assert run.ranks[1]["seed"] == 7
    hits = [(one.rank, counts.get("both_hit_equal", 0)) for one in run.windows for counts in one.lookups.values()]
    per_rank = [sum(count for rank, count in hits if rank == wanted) for wanted in (0, 1)]
    assert per_rank[0] == per_rank[1] > 0
    assert run.totals.outcomes()["both_hit_equal"] == sum(per_rank)

    (path / "rank-0001.jsonl").unlink()

    judgement = judge(read_sources(find_sources([tmp_path])))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "1 of 2 ranks left no file that can be read: rank 1" in str(judgement)


@guards("validator/gate/rules/identity.py", "{0: run.manifest, **run.ranks}", "{0: run.manifest}")
def test_a_rank_that_proved_nothing_is_named(tmp_path: Path) -> None:
    """Rank 1 writes what it says of itself into its own file, because only rank 0 writes the manifest."""
    path = write(tmp_path, 1, now=1.0, world_size=2)
    about = {**MANIFEST, "selftest": None, "world_size": 2}
    writer = RunWriter.create(tmp_path, "run-1", about, rank=1, evidence_limit_bytes=0)
    writer.window(busy_window())
    writer.close({"state": "complete"})

    judgement = judge(read_sources(find_sources([path])))

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons == (
        f"a harness that noticed planted faults, found no self-test recorded on rank 1 in {path}; leave selftest on",
    )


def session(monkeypatch: pytest.MonkeyPatch, out: Path, rank: int) -> Lockstep:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    return Lockstep(out, ValidationConfig(run_id="shared", selftest=False))


def test_rank_0_judges_once_the_others_have_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (session(monkeypatch, tmp_path, rank) for rank in (0, 1))
    said = io.StringIO()
    first.close()
    waiting = closed_run(first, Console(file=said), wait_s=0.0)
    assert waiting is not None
    assert waiting.state == "in progress"

    later = threading.Timer(0.2, second.close)
    later.start()
    run = closed_run(first, Console(file=said))
    later.join()

    assert run is not None
    assert run.state == "complete"
    assert closed_run(second, Console(file=said, width=200)) is None
    assert said.getvalue().splitlines() == [
        "waits up to 60 s for rank 1 to close",
        f"rank 1 of 2 closed; rank 0 judges: {tmp_path / 'shared'}",
    ]


@guards("validator/ranks.py", "if size > 1 and (store := _store()) is not None:", "if False:")
def test_ranks_of_one_launch_find_each_other_whatever_each_was_given(opened: Open, tmp_path: Path) -> None:
    """As of a script of LightZero, whose experiment has another name on each rank; and rank 1 comes first."""
    launcher = Launcher()
    second = opened(launcher.worker(1), out="exp")
    first = opened(launcher.worker(0), out="exp_261129_010203")
    for each in (second, first):
        work(each)
        each.close()

    assert first.run_dir == second.run_dir
    assert first.run_dir.parent == tmp_path / "exp"
    judgement = judged(first.run_dir)
    assert judgement.verdict is Verdict.PASS, judgement


def test_a_name_that_a_launcher_uses_again_leads_to_another_run(opened: Open) -> None:
    before, now = Launcher("fixed"), Launcher("fixed")
    old = opened(before.worker(0))
    old.close()  # its rank 1 never came
    new = [opened(now.worker(rank)) for rank in (1, 0)]

    assert new[0].run_dir == new[1].run_dir != old.run_dir


def test_a_rank_that_comes_when_the_others_are_gone_is_one_of_them(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.disk.ranks.begun", lambda: time.time() + 1)
    launcher = Launcher()
    for rank in (0, 1):
        one = opened(launcher.worker(rank), pid=GONE)
        work(one)
        one.close()

    assert sorted(read_run(one.run_dir).ranks) == [0, 1]
    assert judged(one.run_dir).verdict is Verdict.PASS


@guards("reports/disk/ranks.py", "return found if latest < begun() else None", "return None")
def test_what_ranks_of_an_earlier_launch_left_is_joined_by_none_of_a_later_one(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"world_size": 2, "pid": GONE}
    RunWriter.create(tmp_path / "runs", "night", about, rank=0, evidence_limit_bytes=0).close({"state": "complete"})
    monkeypatch.setattr("reports.disk.ranks.begun", lambda: time.time() + 1)

    with pytest.raises(RunDirectoryError, match="holds what rank 0 of an earlier run left; choose another"):
        opened({"RANK": "1", "WORLD_SIZE": "2", "run_id": "night"})


@guards("validator/gate/rules/ranks.py", "restarted.append((run, by))", "kept.append(run)")
@guards("validator/gate/rules/ranks.py", "if by is run or n_divergences(run) or", "if by is run or")
def test_an_attempt_that_a_restart_replaced_is_named_and_not_counted(opened: Open, tmp_path: Path) -> None:
    launcher = Launcher()
    lost = opened(launcher.worker(0))
    work(lost)
    lost.close("crashed")
    again = [opened(launcher.worker(rank, attempt=1)) for rank in (0, 1)]
    for each in again:
        work(each)
        each.close()
    whole = again[0].run_dir

    assert lost.run_dir != whole
    judgement = judged(lost.run_dir, whole)
    assert judgement.verdict is Verdict.PASS, judgement
    assert f"{lost.run_dir} is not counted: {whole} is the next attempt" in str(judgement)
    assert f"in {read_run(whole).totals.n_lookups:,} lookups" in str(judgement)
    assert judged(lost.run_dir).verdict is Verdict.INCONCLUSIVE

    found = read_run(lost.run_dir)
    found.totals.divergences["value|other|candidate"] = 1
    assert judge([found, read_run(whole)]).verdict is Verdict.FAIL  # a restart undoes no finding


@guards("reports/reader.py", "if os.path.lexists(path / twice_file(lines.rank)):", "if False:")
def test_two_processes_of_one_rank_are_named(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = Launcher()
    whole = [opened(launcher.worker(rank)) for rank in (0, 1)]
    twin = opened(launcher.worker(1))
    for each in (*whole, twin):
        work(each)
        each.close()

    assert twin.run_dir != whole[0].run_dir
    assert "another process was rank 1 of this launch before" in capsys.readouterr().err
    judgement = judged(whole[0].run_dir)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "two processes called themselves rank 1, and only one was observed" in str(judgement)
    assert judged(whole[0].run_dir, twin.run_dir).verdict is Verdict.INCONCLUSIVE


@guards("reports/writer.py", "claimed_again(path, rank)", "pass")
def test_a_second_process_of_a_rank_is_refused_where_ranks_can_not_talk(opened: Open, tmp_path: Path) -> None:
    alone = {"world_size": 2, "pid": os.getppid(), "pid_started": None}
    RunWriter.create(tmp_path / "runs", "night", alone, rank=1, evidence_limit_bytes=0)

    with pytest.raises(RunDirectoryError, match=f"process {os.getppid()} is rank 1 of this run already; give each"):
        opened({"RANK": "1", "WORLD_SIZE": "2", "run_id": "night"})
    assert (tmp_path / "runs" / "night" / "rank-0001.twice").exists()


@guards("validator/gate/rules/ranks.py", "if difference := parted(ours, theirs):", "if False:")
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"config": {"policy": {"batch_size": 16}, "seed": 8}}, "config.policy.batch_size is 16 on rank 1, 32 on rank"),
        ({"switches": {"use_new_cache_manager": True}}, "switches.use_new_cache_manager is True on rank 1, False on"),
        ({"seed": 8, "config": {"policy": {"batch_size": 32}, "seed": 8, "exp_name": "exp_2"}}, ""),
    ],
)
def test_a_rank_that_is_configured_otherwise_is_named(opened: Open, own: dict[str, Any], said: str) -> None:
    launcher = Launcher()
    first = {"config": {"policy": {"batch_size": 32}, "seed": 7}, "switches": {"use_new_cache_manager": False}}
    ranks = [opened(launcher.worker(0), **first), opened(launcher.worker(1), **{**first, **own})]
    for each in ranks:
        work(each)
        each.close()

    judgement = judged(ranks[0].run_dir)
    assert judgement.verdict is (Verdict.INCONCLUSIVE if said else Verdict.PASS), judgement
    assert said in str(judgement)


@guards("validator/gate/rules/ranks.py", "if len(set(by_rank.values())) > 1:", "if False:")
def test_weights_out_of_step_in_a_process_group_are_named(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher()
    ranks = [opened(launcher.worker(rank)) for rank in (0, 1)]
    for each in ranks:
        work(each)
    ranks[1].weights_updated()
    for each in ranks:
        each.close()
    path = ranks[0].run_dir

    assert judged(path).verdict is Verdict.PASS  # each is a training of its own
    monkeypatch.setattr("validator.gate.rules.ranks._in_group", lambda run: True)
    assert "weight updates of cache: 1 on rank 0, 2 on rank 1 in" in str(judged(path))
    assert judged(path, weights_in_step=False).verdict is Verdict.PASS


@guards(
    "validator/ranks.py", 'return "process_group" if place() == (rank, size) else "other_process_group"', 'return ""'
)
def test_a_session_of_before_its_process_group_is_named(opened: Open, tmp_path: Path) -> None:
    early = opened({"RANK": "1", "WORLD_SIZE": "2"})
    work(early)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        early.close()
        grouped = opened({"RANK": "1", "WORLD_SIZE": "2"})
    finally:
        dist.destroy_process_group()

    assert (grouped.rank, grouped.world_size) == (0, 1)
    assert "a session opened before the process group" in str(judged(early.run_dir))


def test_a_rank_0_that_never_came_and_ranks_that_died_are_named(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    for rank, about in ((1, {}), (2, {"pid": GONE})):
        RunWriter.create(out, "x", {"world_size": 4, **about}, rank=rank, evidence_limit_bytes=0)

    run = read_run(out / "x")

    assert run.state == "crashed"
    assert "2 of 4 ranks left no file that can be read: rank 0, 3" in run.problems
    assert run.fates == {0: "missing", 1: "not closed yet", 2: "no close, process gone", 3: "missing"}
    follower = Follower(out / "x")
    follower.look()
    follower.close()
    assert follower.gone == [2]


def name(**environment: str) -> str:
    return run_id(4, environment={"WORLD_SIZE": "4", **environment})


def test_a_job_with_a_name_gives_it_to_its_run() -> None:
    assert name(TORCHELASTIC_RUN_ID="night/42").startswith("job-night42")
    assert name(SLURM_JOB_ID="99", SLURM_STEP_ID="1").startswith("job-slurm-99-1")
    assert name(SLURM_JOB_ID="99", SLURM_STEP_ID="1", SLURM_RESTART_COUNT="2").startswith("job-slurm-99-1-restart2")
    assert not name(SLURM_JOB_ID="99").startswith("job-")  # a batch script may start any number of jobs


def test_a_restart_by_the_launcher_is_another_run() -> None:
    first = name(TORCHELASTIC_RUN_ID="a", TORCHELASTIC_RESTART_COUNT="0")
    again = name(TORCHELASTIC_RUN_ID="a", TORCHELASTIC_RESTART_COUNT="1")

    assert "-restart1" in again
    assert "-restart" not in first


def test_a_second_session_of_a_process_is_another_run() -> None:
    about = {"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "b"}
    names = {run_id(4, number, about) for number in (1, 2)}

    assert len(names) == 2


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2"},  # several machines and nothing in common
        {},
    ],
)
def test_else_a_run_has_a_name_of_its_own(environment: dict[str, str]) -> None:
    assert name(**environment) != name(**environment)
    assert not name(**environment).startswith("job-")


def test_ranks_on_one_machine_share_their_launcher() -> None:
    local = name(LOCAL_WORLD_SIZE="4")

    assert local.startswith("job-")
    assert f"-{os.getppid()}-" in local


@guards("reports/disk/run_id.py", "if not _NUMBER.fullmatch(text):", "if False:")
@guards("reports/disk/run_id.py", "if not rank < size:", "if False:")
@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"RANK": "-1"}, r"RANK='-1': expected a whole number"),
        ({"RANK": ""}, r"RANK='': expected a whole number"),
        ({"RANK": "12345678901"}, r"RANK='12345678901': expected a whole number below 1,000,000,000; set it, or unset"),
        ({"RANK": "1_0", "WORLD_SIZE": "99"}, r"RANK='1_0'"),
        ({"RANK": "\u0661"}, r"RANK='\u0661'"),
        ({"RANK": "one"}, r"RANK='one'"),
        ({"WORLD_SIZE": ""}, r"WORLD_SIZE=''"),
        ({"WORLD_SIZE": "-2"}, r"WORLD_SIZE='-2'"),
        ({"WORLD_SIZE": "0"}, r"RANK=0 of WORLD_SIZE=0"),
        ({"RANK": "3", "WORLD_SIZE": "2"}, r"RANK=3 of WORLD_SIZE=2: expected a rank below the number of ranks"),
        ({"RANK": "1"}, r"RANK=1 of WORLD_SIZE=1"),
    ],
)
def test_what_a_launcher_says_is_refused_at_the_start_in_one_sentence(
    tmp_path: Path, said: dict[str, str], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(RunDirectoryError, match=refused):
        Lockstep(tmp_path / "runs", ValidationConfig(selftest=False))
    assert not (tmp_path / "runs").exists()

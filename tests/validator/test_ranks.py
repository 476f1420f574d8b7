"""Several processes of one job share one run directory, and are judged by their files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from reports.disk.run_id import run_id
from reports.errors import RunDirectoryError
from reports.reader import find_runs, read_run
from reports.record.words import Verdict
from reports.writer import RunWriter
from tests.guards import guards
from tests.validator.campaign import busy_window, write
from tests.validator.gate.runs import MANIFEST
from validator.commands.at_close import closed_run
from validator.commands.gate_evidence import find_sources, read_sources
from validator.config import ValidationConfig
from validator.gate.judgement import judge
from validator.session import Lockstep

ROOT = Path(__file__).parents[2]
RANK = """
import sys
sys.path.insert(0, {root!r})
from tests.validator.sessions import *
from tests.validator.trials import manager
with Lockstep({out!r}, ValidationConfig(selftest=False), manifest_extra={{"seed": 7}}) as lockstep:
    exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))
"""


def launch(out: Path, world_size: int, ranks: range) -> None:
    """Run ranks side by side as torchrun does on one machine: as children of one process, told by variables."""
    code = RANK.format(root=str(ROOT), out=str(out))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "LOCAL_WORLD_SIZE": str(world_size),
                "TORCHELASTIC_RUN_ID": "none",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
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
    assert said.getvalue() == f"rank 1 of 2 closed; rank 0 judges: {tmp_path / 'shared'}\n"


def name(**environment: str) -> str:
    return run_id({"WORLD_SIZE": "4", **environment})


def test_a_job_with_a_name_gives_it_to_its_run() -> None:
    assert name(TORCHELASTIC_RUN_ID="night/42").startswith("job-night42")
    assert name(SLURM_JOB_ID="99", SLURM_STEP_ID="1").startswith("job-slurm-99-1")


def test_a_restart_by_the_launcher_is_another_run() -> None:
    first = name(TORCHELASTIC_RUN_ID="a", TORCHELASTIC_RESTART_COUNT="0")
    again = name(TORCHELASTIC_RUN_ID="a", TORCHELASTIC_RESTART_COUNT="1")

    assert "-restart1" in again
    assert "-restart" not in first


def test_a_second_session_of_a_process_is_another_run() -> None:
    names = {name(TORCHELASTIC_RUN_ID="b") for _ in range(2)}

    assert len(names) == 2


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "a"},  # nobody to share with
        {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2"},  # several machines and nothing in common
        {},
    ],
)
def test_else_a_run_has_a_name_of_its_own(environment: dict[str, str]) -> None:
    assert name(**environment) != name(**environment)
    assert not name(**environment).startswith("job-")


def test_ranks_on_one_machine_share_their_launcher() -> None:
    local = name(LOCAL_WORLD_SIZE="4", TORCHELASTIC_RUN_ID="none")

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

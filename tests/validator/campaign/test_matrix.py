"""Which jobs a campaign is made of, and what is refused before any of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.record.campaign import Job
from tests.guards import guards
from validator.campaign.matrix import Matrix, Plan, filled, jobs_of, seeds_of
from validator.commands.arguments import parser
from validator.errors import ConfigError

STREAMS = ("conformance", "--ops", "200")


def jobs(*job: str, **axes: Any) -> list[Job]:
    return jobs_of(Plan((Matrix(job, **axes),)), parser())


@pytest.mark.parametrize(
    ("said", "seeds"),
    [("1..4", [1, 2, 3, 4]), ("7", [7]), ("1, 5..6", [1, 5, 6]), ((3, 1), [3, 1]), ("", []), ("-1..1", [-1, 0, 1])],
)
def test_seeds_are_read_as_people_write_them(said: Any, seeds: list[int]) -> None:
    assert seeds_of(said) == seeds


@pytest.mark.parametrize("said", ["1-4", "4..1", "one", "1..", "1,1", "1..3,2", "1..99999999999", "0x1"])
def test_what_are_no_seeds_is_refused(said: str) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        seeds_of(said)


def test_seeds_primaries_and_settings_are_multiplied_out() -> None:
    made = jobs("train", "--config", "smoke", seeds="1..2", primary="both", settings={"env_num": [2, 3]})

    assert [(job.seed, job.settings, job.primary) for job in made] == [
        (seed, f"env_num={n}", primary) for seed in (1, 2) for n in (2, 3) for primary in ("legacy", "new")
    ]
    assert [job.number for job in made] == list(range(8))
    words = filled(made[5], "0005-1", "here")
    given = parser().parse_args(words)
    assert (given.seed, given.primary, given.settings, given.out) == (2, "new", ["env_num=2"], "here")
    assert given.config == "smoke"


def test_placeholders_reach_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("")
    (job,) = jobs("run", str(script), "--seed={seed}", "{primary}-{run}", '{"a": 1}', seeds="5", primary="new")

    assert filled(job, "0000-2", "here") == [
        *("run", "--out", "here", "--primary", "new"),
        *(str(script), "--seed=5", "new-0000-2", '{"a": 1}'),
    ]


@guards("validator/campaign/matrix.py", "not _reaches(name, matrix.job, given)", "False")
def test_a_script_that_no_seed_reaches_is_refused_for_more_than_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import torch")
    with pytest.raises(ConfigError, match=r"seed doesn't reach this job.*KV_LOCKSTEP_SEED"):
        jobs("run", str(script), seeds="1..2")
    assert len(jobs("run", str(script), seeds="1")) == 1

    script.write_text("seed = int(os.environ['KV_LOCKSTEP_SEED'])")
    assert [job.seed for job in jobs("run", str(script), seeds="1..2")] == [1, 2]


@pytest.mark.parametrize(
    ("job", "axes", "said"),
    [
        (("tran",), {}, "one of train, run"),
        (("gate", "runs"), {}, "one of train, run"),
        (("train", "--foo"), {}, "unrecognized arguments: --foo"),
        (("train", "--seed", "x"), {}, "invalid int value"),
        (("train", "--seed", "3"), {"seeds": "1..2"}, "leave --seed away"),
        (("train", "--primary", "new"), {"primary": "both"}, "leave --primary away"),
        ((*STREAMS, "--out", "there"), {}, "leave --out away"),
        (STREAMS, {"primary": "both"}, "primary doesn't reach this job"),
        (STREAMS, {"settings": {"env_num": [1]}}, "has no --set"),
        (("run", "/nowhere/script.py"), {"seeds": "1..2"}, "can't be read"),
    ],
)
def test_a_job_that_could_not_run_so_is_refused(job: tuple[str, ...], axes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        jobs(*job, **axes)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Matrix(), "job is required"),
        (lambda: Matrix(STREAMS, primary="old"), "legacy, new or both"),
        (lambda: Matrix(STREAMS, settings={"env_num": 2}), "a list of values"),
        (lambda: Matrix(("train",), ranks=0), "ranks: expected 1 or more"),
        (lambda: Matrix(STREAMS, ranks=2), "more than 1 with train and run alone"),
        (lambda: Plan(), "names no job"),
        (lambda: Plan((Matrix(STREAMS),), timeout_s=-1), "timeout_s"),
    ],
)
def test_what_a_file_can_say_wrongly_is_told(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()

"""``kv-lockstep ab``: the order of trainings, what is recorded of each, and a real series."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from reports.errors import RunUnreadable
from reports.read.trainings import find_trainings, read_trainings, write_trainings
from reports.record.trainings import AB_FILE, Training, Trainings
from shadow.hosts.unizero import load_config
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.gate.trainings import training, trainings_of
from tests.warm import module
from validator.ab import series
from validator.ab.alone import AloneSession, Counted
from validator.ab.meter import Meter, peak_resident_bytes
from validator.ab.one import _embedded
from validator.ab.series import Step, order, run_series
from validator.ab.trajectory import KINDS, Happened, first_difference
from validator.cli import main
from validator.commands import ab as ab_command
from validator.commands.ab_shown import series_display

ROOT = Path(__file__).parents[3]
SMALL = {"num_simulations": 3, "max_cache_size": 4}
TINY = """
env_num = 2
total_env_steps = 60
collect_steps = 10
updates_per_collect = 1
learning_starts = 8
batch_size = 4

[world_model_cfg]
cache_validation_mode = true
embed_dim = 16
hidden_dim = 16
num_heads = 2
game_segment_length = 5
num_simulations = 3
max_cache_size = 4
context_length = 8
"""


# Order


@guards("validator/ab/series.py", "SIDES if index % 2 == 0 else SIDES[::-1]", "SIDES")
def test_sides_take_turns_at_going_first() -> None:
    assert list(order([5, 6, 7])) == [
        *((5, "control"), (5, "candidate")),
        *((6, "candidate"), (6, "control")),
        *((7, "control"), (7, "candidate")),
    ]


# What is counted


def test_lookups_are_counted_where_the_model_makes_them() -> None:
    cache = Counted(KVCacheManager(SMALL, env_num=2))
    cache.set_init_cache(0, 1, make_entry(1.0))
    cache.set_recur_cache(2, make_entry(1.0))

    answers = [cache.get_init_cache(0, 1), cache.get_init_cache(1, 1), cache.hierarchical_get(0, 2)]

    assert [answer is None for answer in answers] == [False, True, False]
    assert (cache.lookups, cache.hits) == (3, 2)
    assert cache.kind is KVCacheManager


def test_a_counted_cache_can_be_copied() -> None:
    cache = Counted(LegacyKVCache(SMALL, env_num=1))
    cache.set_init_cache(0, 1, make_entry(1.0))

    assert copy.deepcopy(cache).get_init_cache(0, 1) is not None


@pytest.mark.parametrize(("primary", "kind"), [("control", LegacyKVCache), ("candidate", KVCacheManager)])
def test_the_session_hands_out_the_primary_alone(primary: str, kind: type) -> None:
    built: list[Counted] = []
    told: list[int] = []
    session = AloneSession(built.append, told.append)

    cache = session.shadow(
        control=LegacyKVCache(SMALL, env_num=1), candidate=KVCacheManager(SMALL, env_num=1), primary=primary, name="x"
    )
    session.progress(train_iter=3, env_step=10)
    session.progress(env_step=10)
    cache.observer.harness_failed("attachment", RuntimeError("a slot number without a copy"))

    assert built == [cache]
    assert cache.kind is kind
    assert told == [10]
    assert (session.env_steps, session.updates, session.faults) == (10, 3, ["a slot number without a copy"])


def test_the_meter_reads_the_late_part_of_a_training() -> None:
    meter = Meter()
    meter.built(Counted(KVCacheManager(SMALL, env_num=1)))
    found = meter.read([0.0] * 5 + [10.0] * 20, [9.0] * 8 + [1.0, 3.0])

    assert (found["mean_return"], found["mean_loss"], found["episodes"], found["error"]) == (10.0, 2.0, 25, "")
    assert found["cache"] == "shadow.manager.KVCacheManager"
    assert found["peak_bytes"] > 50_000_000


@guards("validator/ab/meter.py", '"" if all(map(math.isfinite, losses)) else', '"" if True else')
@guards("validator/ab/meter.py", "if not self.caches:", "if False:")
def test_a_loss_that_is_no_number_spoils_a_training() -> None:
    meter = Meter()
    meter.built(Counted(KVCacheManager(SMALL, env_num=1)))

    assert meter.read([], [1.0, float("nan")])["error"] == "the loss is not finite"
    assert Meter().read([], [])["error"] == "no cache was built, so nothing was measured"


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_resident_bytes()
    held = bytearray(before + 60_000_000)
    held[::4096] = b"1" * len(held[::4096])

    assert peak_resident_bytes() >= before + 50_000_000


# Trajectories

STEPS = [
    Happened("actions", 0, 0, "{0: 1}"),
    Happened("rewards", 0, 0, "{0: 1.0}"),
    Happened("losses", 20, 4, "7.25"),
    Happened("weights", 40, 8, "abcd"),
]


def test_equal_trajectories_have_no_first_difference() -> None:
    assert first_difference(3, STEPS, list(STEPS)) is None


@pytest.mark.parametrize("at", range(len(STEPS)))
def test_the_first_thing_that_differs_is_named(at: int) -> None:
    other = [
        *STEPS[:at],
        STEPS[at]._replace(value="other"),
        *(each._replace(value="later") for each in STEPS[at + 1 :]),
    ]

    found = first_difference(3, STEPS, other)

    assert found is not None
    assert (found.quantity, found.env_step, found.train_iter) == STEPS[at][:3]
    assert (found.control, found.candidate) == (STEPS[at].value, "other")


@guards("validator/ab/trajectory.py", "if len(control) != len(candidate):", "if False:")
def test_a_trajectory_that_goes_on_differs_in_length() -> None:
    found = first_difference(3, STEPS, STEPS[:2])

    assert found is not None
    assert str(found) == (
        "seed 3: length differ first at env step 20, iteration 4 (4 with the control, 2 with the candidate)"
    )


def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


def trained(tmp_path: Path, **world_model: Any) -> dict[str, Any]:
    """Train in this process as a process of its own would, and return what it tells last."""
    switches = {"cache_validation_mode": False, **world_model}
    config = load_config(tiny(tmp_path), world_model_cfg=switches)
    told: list[dict[str, Any]] = []
    _embedded({"config": asdict(config)}, lambda **what: told.append(what))
    return told[-1]


def test_a_candidate_that_forgets_parts_in_its_searches_first(tmp_path: Path) -> None:
    sound = trained(tmp_path)
    forgetful = trained(
        tmp_path, use_new_cache_manager=True, cache_validation={"candidate": "tests.validator.candidates:Forgets"}
    )

    found = first_difference(0, sound["trajectory"], forgetful["trajectory"])

    assert forgetful["training"]["cache"] == "tests.validator.candidates.Forgets"
    assert forgetful["training"]["hits"] < sound["training"]["hits"]
    assert found is not None
    assert found.quantity == "searches"
    assert sound["training"]["digests"]["searches"] != forgetful["training"]["digests"]["searches"]


def test_every_kind_of_thing_is_recorded(tmp_path: Path) -> None:
    found = trained(tmp_path)

    assert {happened.kind for happened in found["trajectory"]} == set(KINDS)
    assert found["training"]["updates"] >= 1
    assert found["training"]["env_steps"] >= 40


# On disk


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = trainings_of(path=tmp_path)
    written.manifest |= {"seeds": [0, 1, 2], "host": "unizero"}
    write_trainings(written, {"verdict": "PASS"})

    found = read_trainings(tmp_path)

    assert find_trainings(tmp_path.parent) == [tmp_path]
    assert (found.state, found.problems, found.trainings) == ("complete", [], written.trainings)
    assert found.manifest["host"] == "unizero"


@guards(
    "reports/read/trainings.py",
    "json_file(path, AB_FILE, problems, problems)",
    "json_file(path, AB_FILE, problems, [])",
)
@guards("reports/read/trainings.py", "paired != sorted(seeds)", "False")
@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"hits": 9900', b'"hits": 9901', "ab.json was changed after it was written"),
        (b'"hits": 9900', b'"hits": "x"', "trainings[0]: expected int, got 'x'"),
        (b'"kind": "ab"', b'"kind": "xy"', "ab.json is of kind 'xy', expected 'ab'"),
        (b'"schema": 2', b'"schema": 9', "ab.json is of schema 9, this kv-lockstep reads up to 2: upgrade it"),
        (b'"seed": 2', b'"seed": 7', "ab.json names seeds [0, 1, 2] and holds pairs of [0, 1, 7]"),
        (b'"trainings": [', b'"trainings": 3, "x": [', "ab.json: trainings is no list"),
        (b"{", b"", "ab.json can't be read as JSON"),
    ],
)
def test_a_changed_file_says_so(tmp_path: Path, old: bytes, new: bytes, problem: str) -> None:
    written = trainings_of(path=tmp_path)
    written.manifest["seeds"] = [0, 1, 2]
    write_trainings(written, {})
    path = tmp_path / AB_FILE
    path.write_bytes(path.read_bytes().replace(old, new, -1 if b"seed" in old else 1))

    assert any(problem in found for found in read_trainings(tmp_path).problems), read_trainings(tmp_path).problems


def test_a_directory_without_a_result_is_said(tmp_path: Path) -> None:
    assert find_trainings(tmp_path) == []
    with pytest.raises(RunUnreadable, match="expected a result directory of kv-lockstep ab"):
        read_trainings(tmp_path)


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    elsewhere, linked = tmp_path / "elsewhere", tmp_path / "linked"
    elsewhere.mkdir()
    linked.mkdir()
    write_trainings(trainings_of(path=elsewhere), {})
    (linked / AB_FILE).symlink_to(elsewhere / AB_FILE)

    assert read_trainings(linked).problems == ["ab.json is no plain file inside the run directory; not read"]


# The command


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ab"], "expected either --config FILE for the embedded agent, or -- SCRIPT.py for LightZero's"),
        (["ab", "--config", "x.toml", "--", "script.py"], "expected either --config FILE"),
        (["ab", "--config", "none.toml"], "none.toml: a training configuration can't be read"),
        (["ab", "--", "none.py"], "none.py: expected a Python script"),
        (["ab", "--config", "TINY", "--seeds", "0"], "--seeds 0: expected at least 1"),
        (["ab", "--config", "TINY", "--set", "env_nm=3"], "unknown setting 'env_nm'; did you mean 'env_num'?"),
        (["ab", "--config", "TINY", "--candidate", "no.such:Cache"], "cache 'no.such:Cache' can't be built"),
        (["ab", "--config", "TINY", "--policy", "POLICY"], "no table [training] in it"),
        (["ab", "--config", "TINY", "--policy", "remove-legcy"], "did you mean 'remove-legacy'?"),
    ],
)
def test_what_can_t_be_run_is_refused_before_anything_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    (tmp_path / "policy.toml").write_text("max_divergences = 0\n", encoding="utf-8")
    files = {"TINY": str(tiny(tmp_path)), "POLICY": str(tmp_path / "policy.toml")}

    code = main(
        [
            *(files.get(word, word) for word in arguments[:1]),
            "--out",
            str(tmp_path / "runs"),
            *(files.get(word, word) for word in arguments[1:]),
        ]
    )

    assert code == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


class Forked:
    """A process as ``Popen`` starts it, which has imported torch already and has ended once it is there."""

    def __init__(self, command: list[str], stdout: int, stderr: Any) -> None:
        program, option, name, specification = command
        assert (program, option) == (sys.executable, "-m")
        done = module(name, specification, cwd=ROOT)
        stderr.write(done.stderr.encode())
        self.stdout = io.StringIO(done.stdout)
        self.returncode = done.returncode

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        return


@pytest.mark.slow
def test_a_real_series_trains_each_seed_with_both_caches_and_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "subprocess", SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE))
    policy = tmp_path / "loose.toml"
    policy.write_text("[training]\nseeds = 2\ntime = inf\nmemory = inf\nreturns = inf\n", encoding="utf-8")
    out = tmp_path / "runs"

    code = main(["ab", "--config", str(tiny(tmp_path)), "--seeds", "2", "--out", str(out), "--policy", str(policy)])

    printed = capsys.readouterr()
    (path,) = find_trainings(out)
    found = read_trainings(path)
    assert code == 0, printed.out + printed.err
    assert [(each.seed, each.side) for each in found.trainings] == [
        *((0, "control"), (0, "candidate")),
        *((1, "candidate"), (1, "control")),
    ]
    assert (found.state, found.problems, found.differences) == ("complete", [], [])
    assert {name for name, _ in found.caches("control")} == {"shadow.legacy.LegacyKVCache"}
    assert {name for name, _ in found.caches("candidate")} == {"shadow.manager.KVCacheManager"}
    assert all(control.digests == candidate.digests for control, candidate in found.pairs())
    assert len({training.digests["weights"] for training in found.trainings}) == 2  # seeds differ, caches do not
    assert all(training.cpu_s > 0 and training.hits > 0 for training in found.trainings)
    assert {"versions", "git", "platform", "argv", "config"} <= found.manifest.keys()
    assert json.loads((path / AB_FILE).read_text(encoding="utf-8"))["verdict"] == "PASS"
    assert printed.out.startswith("PASS over 2 seeds, control and candidate each alone")
    assert "identical to the last bit for 2 seeds" in printed.out
    assert printed.err.count("env steps") == 4


@guards("validator/ab/series.py", "process.returncode and not", "False and not")
def test_a_training_that_fails_leaves_its_last_words_and_the_next_one_is_run(tmp_path: Path) -> None:
    config = load_config(tiny(tmp_path), total_env_steps=20, world_model_cfg={"cache_validation_mode": False})
    specifications = {
        "control": {"host": "unizero", "config": {"env_nm": 3}},
        "candidate": {"host": "unizero", "config": asdict(config)},
    }

    steps = list(run_series([4], lambda _, side: specifications[side], tmp_path, lambda *_: None, lambda _: None))

    failed, trained = (step.training for step in steps)
    assert [(step.training.seed, step.training.side, step.difference) for step in steps] == [
        (4, "control", None),
        (4, "candidate", None),
    ]
    assert failed.error.startswith("exit code 1: ")
    assert "SettingsError: ab: unknown setting 'env_nm'; did you mean 'env_num'?" in failed.error
    assert failed.error.endswith("; see seed-4-control.log")
    assert "Traceback" in (tmp_path / "seed-4-control.log").read_text(encoding="utf-8")
    assert (trained.error, trained.env_steps) == ("", 20)
    assert trained.hits > 0


def test_an_interrupted_series_is_kept_and_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Iterator[Step]:
        yield Step(training(0, "control"), None)
        raise KeyboardInterrupt

    monkeypatch.setattr(ab_command, "run_series", interrupted)

    code = main(["ab", "--config", str(tiny(tmp_path)), "--out", str(tmp_path / "runs"), "--policy", "remove-legacy"])

    printed = capsys.readouterr()
    found = read_trainings(find_trainings(tmp_path / "runs")[0])
    assert code == 5
    assert (found.state, len(found.trainings)) == ("interrupted", 1)
    assert "interrupted; what was recorded is judged as an incomplete series" in printed.err
    assert "a complete A/B of trainings, found interrupted" in printed.out
    assert "at least 5 seeds, found 0" in printed.out


def test_a_terminal_shows_which_training_runs_and_how_far_it_is() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)

    with series_display(out, n_trainings=6, total_env_steps=400, quiet=False) as display:
        display.started(1, "control")
        display.stepped(120)
        display.ended(training(1, "control"))

    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "training 1 of 6: seed 1, control alone" in shown
    assert "seed 1 control: 1,000 env steps, mean return 21" in shown


def test_a_training_and_a_comparison_are_what_the_records_say() -> None:
    assert Training(0, "control").s_per_env_step is None
    assert Training(0, "control").hit_rate is None
    assert Trainings(Path("x"), "running").pairs() == []

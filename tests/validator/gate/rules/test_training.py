"""What the gate demands of trainings with one cache alone: each demand, in a case where it alone decides."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from reports.record.run import Run
from reports.record.trainings import FirstDifference, Trainings
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.gate.runs import run_of
from tests.validator.gate.trainings import CANDIDATE, CONTROL, training, trainings_of
from validator.errors import ConfigError
from validator.gate.judgement import Evidence, judge
from validator.gate.policy import GatePolicy, TrainingPolicy
from validator.gate.rules.demand import Demand
from validator.gate.rules.training import trains_as_well

POLICY = GatePolicy(name="strict", training=TrainingPolicy())


def judged_run(**changes: Any) -> Run:
    """A run that compared the caches of these trainings."""
    sources = {"control": "1234", "candidate": "1234"}
    line = {"cache": "collect", "control": CONTROL, "candidate": CANDIDATE, "env_num": 2, "sources": sources}
    return run_of(caches=[{**line, **changes}])


def demands(*trainings: Trainings, policy: GatePolicy = POLICY, runs: tuple[Run, ...] = ()) -> list[Demand]:
    return list(trains_as_well(Evidence(runs or (judged_run(),), trainings=trainings), policy))


def deciding(*trainings: Trainings, policy: GatePolicy = POLICY, runs: tuple[Run, ...] = ()) -> Demand:
    """Return the one demand that does not hold."""
    (one,) = [each for each in demands(*trainings, policy=policy, runs=runs) if each.verdict is not Verdict.PASS]
    return one


def with_candidate(seeds: int = 3, **changes: Any) -> Trainings:
    return trainings_of(*(training(seed, "candidate", **changes) for seed in range(seeds)), seeds=seeds)


@guards("validator/gate/rules/training.py", "    yield _whole(trainings)\n", "")
@guards("validator/gate/rules/training.py", "        yield _fit(trainings, evidence, policy)\n", "")
def test_a_sound_comparison_meets_every_demand() -> None:
    found = demands(trainings_of())

    assert [demand.verdict for demand in found] == [Verdict.PASS] * 10
    assert "identical for 3 seeds" in [demand.found for demand in found]
    assert "21 against 21, +0.0% (+0.0% to +0.0%)" in [demand.found for demand in found]


def test_nothing_is_demanded_by_a_policy_without_the_table() -> None:
    assert demands(policy=GatePolicy()) == []


@guards("validator/gate/rules/training.py", "if not evidence.trainings:", "if False:")
def test_no_comparison_is_missing_evidence() -> None:
    demand = deciding()

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert demand.demanded == "control and candidate trained alone with 3 seeds"
    assert demand.remedy.startswith("kv-lockstep ab --config configs/validate.toml")


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_an_unfinished_comparison_is_none(state: str) -> None:
    demand = deciding(replace(trainings_of(), state=state))

    assert (demand.verdict, demand.found) == (Verdict.INCONCLUSIVE, state)


def test_a_comparison_that_can_t_be_read_whole_is_none() -> None:
    demand = deciding(trainings_of(problems=["ab.json was changed"]))

    assert (demand.verdict, demand.found) == (Verdict.INCONCLUSIVE, "ab.json was changed")


@guards("validator/gate/rules/training.py", "len(counting) >= policy.seeds", "True")
def test_too_few_seeds_are_missing_evidence() -> None:
    demand = deciding(trainings_of(seeds=2))

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert str(demand).startswith("both sides trained to the end with at least 3 seeds, found 2 in runs/ab-one")


@guards("validator/gate/rules/training.py", "    yield from _ended(trainings)\n", "")
@guards("validator/gate/rules/training.py", "bool(candidate.error and not control.error)", "False")
def test_a_training_that_fails_with_the_candidate_alone_is_the_candidate_s_failure() -> None:
    broken = training(3, "candidate", error="exit code 1: RuntimeError: planted")
    demand = deciding(trainings_of(broken, seeds=4))

    assert demand.verdict is Verdict.FAIL
    assert demand.found == "seed 3 with the candidate alone: exit code 1: RuntimeError: planted"


@pytest.mark.parametrize("sides", [("control",), ("control", "candidate")])
def test_a_training_that_fails_with_the_control_shows_nothing_of_the_candidate(sides: tuple[str, ...]) -> None:
    demand = deciding(trainings_of(*(training(3, side, error="exit code 1") for side in sides), seeds=4))

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert demand.found == "seed 3 with the control: exit code 1"


@guards("validator/gate/rules/training.py", "if not any(training.error for training in pair)]", "]")
def test_a_seed_whose_training_failed_does_not_count() -> None:
    found = demands(trainings_of(training(2, "control", error="exit code 1")))

    (seeds,) = [demand for demand in found if "at least 3 seeds" in demand.demanded]
    assert (seeds.verdict, seeds.found) == (Verdict.INCONCLUSIVE, "2")


def test_trajectories_that_part_fail_and_the_first_difference_is_named() -> None:
    parted = FirstDifference(1, "actions", 132, 10, "{0: 1}", "{0: 0}")
    found = trainings_of(training(1, "candidate", digests={"actions": "cc"}), differences=[parted])
    demand = deciding(found)

    assert demand.verdict is Verdict.FAIL
    assert demand.found == (
        "seed 1: actions differ first at env step 132, iteration 10 "
        "({0: 1} with the control, {0: 0} with the candidate)"
    )
    assert demand.remedy.endswith("--seed 1")


@guards("validator/gate/rules/training.py", "if control.digests != candidate.digests]", "if False]")
def test_digests_that_differ_fail_even_if_no_difference_is_named() -> None:
    demand = deciding(trainings_of(training(1, "candidate", digests={"actions": "cc"})))

    assert (demand.verdict, demand.found) == (Verdict.FAIL, "seed 1: digests differ")


@guards("validator/gate/rules/training.py", "not all(training.digests for", "False and all(training.digests for")
def test_trajectories_nobody_recorded_are_missing_evidence() -> None:
    blank = [training(seed, side, digests={}) for seed in range(3) for side in ("control", "candidate")]
    demand = deciding(trainings_of(*blank))

    assert (demand.verdict, demand.found) == (Verdict.INCONCLUSIVE, "no trajectory recorded")


def test_a_host_that_never_repeats_itself_is_not_asked_for_its_trajectories() -> None:
    found = with_candidate(digests={"actions": "cc"})
    found.manifest["repeatable"] = False

    assert {demand.verdict for demand in demands(found)} == {Verdict.PASS}


def test_a_policy_may_leave_trajectories_out() -> None:
    policy = GatePolicy(training=TrainingPolicy(trajectories=False))

    assert {demand.verdict for demand in demands(with_candidate(digests={}), policy=policy)} == {Verdict.PASS}


WORSE: list[tuple[str, dict[str, Any], str]] = [
    ("mean return", {"mean_return": 10.0}, "10 against 21, -52.4%"),
    ("mean loss", {"mean_loss": 8.0}, "8 against 4.1, +95.1%"),
    ("time per env step", {"cpu_s": 10.0}, "10.00 ms against 5.10 ms, +96.1%"),
    ("peak memory", {"peak_bytes": 400_000_000}, "400 MB against 300 MB, +33.3%"),
    ("hit rate", {"hits": 5_000}, "50.00% against 98.99%, -49.5%"),
]


@pytest.mark.parametrize(("called", "changes", "found"), WORSE, ids=[worse[0] for worse in WORSE])
def test_each_quantity_alone_fails_a_candidate_that_is_worse(called: str, changes: dict[str, Any], found: str) -> None:
    demand = deciding(with_candidate(**changes))

    assert demand.verdict is Verdict.FAIL
    assert demand.demanded == f"{called} at most 5.0% worse than the control's"
    assert demand.found.startswith(found)


@pytest.mark.parametrize(
    ("name", "worse"), list(zip(("returns", "loss", "time", "memory", "hit_rate"), WORSE, strict=True))
)
def test_a_margin_of_inf_demands_nothing_of_a_quantity(name: str, worse: tuple[str, dict[str, Any], str]) -> None:
    policy = GatePolicy(training=TrainingPolicy(**{name: math.inf}))

    assert {demand.verdict for demand in demands(with_candidate(**worse[1]), policy=policy)} == {Verdict.PASS}


def test_better_is_no_reason_to_refuse() -> None:
    better = with_candidate(mean_return=99.0, mean_loss=1.0, cpu_s=1.0, peak_bytes=100_000_000, hits=10_000)

    assert {demand.verdict for demand in demands(better)} == {Verdict.PASS}


def test_an_interval_across_the_margin_is_inconclusive_and_says_how_many_seeds_would_do() -> None:
    demand = deciding(trainings_of(training(1, "candidate", cpu_s=5.6)))

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert demand.remedy == "about 44 seeds would decide: --seeds 44"


@guards("validator/gate/rules/training.py", "if found is None:\n        longer", "if False:\n        longer")
def test_what_was_not_measured_in_every_training_is_missing_evidence() -> None:
    demand = deciding(trainings_of(training(1, "control", mean_return=None, episodes=0)))

    assert (demand.verdict, demand.found) == (Verdict.INCONCLUSIVE, "not measured in every training")


def test_on_a_gpu_it_is_wall_time_that_counts() -> None:
    slow = [training(seed, side, device="cuda", wall_s=9.0) for seed in range(3) for side in ("control", "candidate")]
    slower = [replace(each, wall_s=18.0) if each.side == "candidate" else each for each in slow]

    assert {demand.verdict for demand in demands(trainings_of(*slow))} == {Verdict.PASS}
    assert deciding(trainings_of(*slower)).found.startswith("18.00 ms against 9.00 ms")


@guards("validator/gate/rules/training.py", "same = candidate == usual and", "same = True or")
@guards("validator/gate/rules/training.py", "candidate == usual and", "")
@guards("validator/gate/rules/training.py", " and control <= controls", "")
@pytest.mark.parametrize(
    "line",
    [
        {"candidate": "somebody.else.Cache"},
        {"control": "somebody.else.Cache"},
        {"sources": {"control": "1234", "candidate": "9999"}},
    ],
)
def test_trainings_of_other_caches_than_the_runs_never_help(line: dict[str, Any]) -> None:
    demand = deciding(trainings_of(), runs=(judged_run(**line),))

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert demand.demanded == "trained with the caches that the runs compared"
    assert demand.found == f"{CANDIDATE} of source 1234 against {CONTROL} of source 1234"


@guards("validator/gate/rules/training.py", " and control != candidate", "")
def test_a_cache_against_itself_says_nothing() -> None:
    same = [training(seed, side, cache=CONTROL) for seed in range(3) for side in ("control", "candidate")]
    demand = deciding(trainings_of(*same), runs=(judged_run(candidate=CONTROL),))

    assert demand.verdict is Verdict.INCONCLUSIVE


@guards("validator/gate/rules/training.py", " and known", "")
def test_caches_of_unrecorded_source_may_be_of_another_version() -> None:
    unknown = [training(seed, side, source="") for seed in range(3) for side in ("control", "candidate")]
    demand = deciding(trainings_of(*unknown), runs=(judged_run(sources={}),))

    assert demand.verdict is Verdict.INCONCLUSIVE
    assert demand.found == f"{CANDIDATE} of unrecorded source against {CONTROL} of unrecorded source"


def test_every_comparison_must_hold_by_itself() -> None:
    found = demands(trainings_of(), with_candidate(mean_return=10.0))

    assert [demand.verdict for demand in found].count(Verdict.FAIL) == 1


def test_the_gate_s_verdict_rests_on_it() -> None:
    run = judged_run()

    assert judge(Evidence((run,), trainings=(trainings_of(),)), POLICY).verdict is Verdict.PASS
    assert judge(Evidence((run,)), POLICY).verdict is Verdict.INCONCLUSIVE
    assert judge(Evidence((run,), trainings=(with_candidate(hits=1),)), POLICY).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"seeds": 1}, "seeds must be at least 2, got 1"),
        ({"time": -0.1}, "time must be a margin of at least 0"),
        ({"time": math.nan}, "time must be a margin of at least 0"),
        ({"tme": 0.1}, "unknown setting 'tme'; did you mean 'time'?"),
        (
            {"trajectories": False} | dict.fromkeys(("returns", "loss", "time", "memory", "hit_rate"), math.inf),
            "it demands nothing",
        ),
    ],
)
def test_an_impossible_table_is_refused(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace("?", r"\?")):
        GatePolicy.from_mapping({"training": table})


NOW = 1_800_000_000.0
CLEAN = {"commit": "abc", "dirty": False}


@guards("validator/gate/rules/training.py", "if policy.runs.clean_commit:", "if False:")
@pytest.mark.parametrize(
    ("manifest", "runs", "found"),
    [
        ({"created": NOW - 20 * 86_400}, {"max_age_days": 14}, "20.0 days old, begun 2026-12-26 08:00 UTC"),
        ({}, {"max_age_days": 14}, "when is not recorded"),
        ({"created": NOW + 9000}, {}, "begun 2027-01-15 10:30 UTC, after now"),
        ({"git": None}, {"clean_commit": True}, "no commit recorded"),
        ({"git": CLEAN | {"dirty": True}}, {"clean_commit": True}, "uncommitted changes on abc"),
    ],
)
def test_trainings_must_be_as_fresh_and_as_clean_as_runs(
    manifest: dict[str, Any], runs: dict[str, Any], found: str
) -> None:
    policy = GatePolicy.from_mapping({"runs": runs, "training": {"seeds": 3}})
    trainings = trainings_of(manifest={"repeatable": True, **manifest})

    shown = list(trains_as_well(Evidence((judged_run(),), trainings=(trainings,), now=NOW), policy))

    (one,) = [demand for demand in shown if demand.verdict is not Verdict.PASS]
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.found.startswith(found)
    sound = trainings_of(manifest={"repeatable": True, "created": NOW - 86_400, "git": CLEAN})
    shown = list(trains_as_well(Evidence((judged_run(),), trainings=(sound,), now=NOW), policy))
    assert {demand.verdict for demand in shown} == {Verdict.PASS}

"""What single rules of the gate count, and what they leave out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports.record.run import Run, created
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.campaign import DAY, NOW, busy_run, busy_window, conformance_result, policy, sound, with_run
from tests.validator.gate.runs import run_of, window
from validator.gate.judgement import Evidence, judge
from validator.gate.policy import ConformancePolicy, GatePolicy, RunsPolicy
from validator.gate.rules.campaign import of_one_mind, one_candidate, stages
from validator.gate.rules.demand import Demand
from validator.gate.rules.identity import stage
from validator.gate.rules.streams import conforms


def found(demands: list[Demand]) -> list[str]:
    return [demand.found for demand in demands]


STREAMS = GatePolicy(conformance=ConformancePolicy(operations=150_000))


def streams(*results: object) -> list[Demand]:
    return list(conforms(replace(sound("smoke"), conformance=results), STREAMS))  # type: ignore[arg-type]


def test_streams_of_two_seeds_add_up() -> None:
    demands = streams(conformance_result(), conformance_result(seed=1, operations=50_000))

    assert [(one.found, one.verdict) for one in demands] == [("150,000", Verdict.PASS)]


@guards("validator/gate/rules/streams.py", "max(result.operations, operations", "(result.operations + operations")
def test_the_same_streams_twice_are_no_second_evidence() -> None:
    demands = streams(conformance_result(operations=90_000), conformance_result())

    assert [(one.found, one.verdict) for one in demands] == [("100,000", Verdict.INCONCLUSIVE)]
    assert demands[0].remedy.startswith("kv-lockstep conformance --candidate KVCacheManager --ops 150000 --out DIR")


def test_a_control_that_does_other_than_it_declares_is_no_yardstick() -> None:
    (charged, short) = streams(conformance_result(conforms=False, charged={"control": ["set ignored"]}))

    assert (charged.verdict, short.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert charged.found == "control at fault: set ignored"


@guards("validator/gate/rules/campaign.py", "if is_sound(run) and candidates(run) == usual", "if True")
@pytest.mark.parametrize(
    "bad",
    [
        {"state": "crashed", "summary": None},
        {"problems": ["line 3: no JSON"]},
        {"pair": {"candidate": "Other"}},
        {"manifest": {"validation": {"digest_share": 0.1}}},
    ],
)
def test_a_bad_run_never_helps_to_pass(bad: dict[str, object]) -> None:
    two = replace(sound("shadow-to-canary"), runs=sound("shadow-to-canary").runs[:2])
    evidence = with_run(two, busy_run(7, "control", **bad))  # type: ignore[arg-type]

    demands = list(stages(evidence, policy("shadow-to-canary")))

    assert found(demands) == ["2 (1 more that are incomplete, damaged, sampled, replayed or foreign)", "2 (0, 1)"]


def test_what_dropped_something_never_helps_to_pass() -> None:
    evidence = Evidence([busy_run(7, "control", busy_window(dropped={"lost": 1}))])

    assert found(list(stages(evidence, GatePolicy(runs=RunsPolicy(shadow=1)))))[0].startswith("0 (1 more")


def test_a_named_candidate_makes_all_others_foreign() -> None:
    wanted = GatePolicy(runs=RunsPolicy(candidate="KVCacheManager"))
    others = [busy_run(seed, pair={"candidate": "Other"}) for seed in (1, 2)]

    demands = list(one_candidate(Evidence([busy_run(0), *others]), wanted))

    assert [one.verdict for one in demands] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.PASS]
    assert demands[0].demanded == "candidate KVCacheManager"
    assert demands[0].found == "Other of source 0b"


def test_several_candidates_in_one_run_are_said() -> None:
    run = busy_run(0)
    run.caches.append({**run.caches[0], "cache": "eval", "candidate": "Other"})

    (demand,) = one_candidate(Evidence([run]), GatePolicy())

    assert demand.found == "several: KVCacheManager of source 0b, Other of source 0b"


def test_a_run_of_mixed_stages_counts_for_none() -> None:
    run = busy_run(0)
    run.caches.append({**run.caches[0], "cache": "eval", "primary": "candidate"})

    assert (stage(run), stage(busy_run(1)), stage(busy_run(1, "candidate"))) == ("unknown", "shadow", "canary")


@pytest.mark.parametrize("change", [{"seed": 5}, {"config": {"env_num": 8}}, {"seed": None}])
def test_runs_of_other_settings_do_not_contradict(change: dict[str, object]) -> None:
    group = "presence|capacity eaten|control"
    other = busy_run(0, "control", busy_window(divergences={group: 1}), manifest={"run_id": "twin", **change})

    assert list(of_one_mind(Evidence([busy_run(0), other]), GatePolicy())) == []


def test_where_a_run_lies_is_no_setting() -> None:
    group = "presence|capacity eaten|control"
    elsewhere = {"env_num": 2, "cache_validation": {"out": "elsewhere", "run_id": "x"}}
    other = busy_run(0, "control", busy_window(divergences={group: 1}), manifest={"config": elsewhere})

    (demand,) = of_one_mind(Evidence([busy_run(0), other]), GatePolicy())

    assert "shows no divergence" in demand.found
    assert "shows capacity eaten by control" in demand.found


@pytest.mark.parametrize(
    "said", [NOW - DAY, "2026-11-24T09:46:40+00:00", "2026-11-24T09:46:40Z", "2026-11-24T09:46:40"]
)
def test_when_a_run_began_is_read_as_number_and_as_text(said: object) -> None:
    assert created({"created": said}) == NOW - DAY


@pytest.mark.parametrize("said", [None, "yesterday", float("nan"), [], {}])
def test_a_moment_that_is_none_is_not_known(said: object) -> None:
    assert created({"created": said}) is None


def test_many_offenders_are_counted_and_the_first_are_named() -> None:
    runs = [busy_run(seed, "control", state="crashed", path=Path(f"runs/{seed}")) for seed in range(1000)]

    judgement = judge(Evidence([*runs, busy_run(2000)], now=NOW))

    lines = [one for one in judgement.demands if one.demanded == "a complete run"]
    assert len(lines) == 22
    assert (lines[20].found, lines[21].where) == ("not so in 980 more runs", "1 runs")


def test_a_thousand_sound_runs_are_a_line_for_each_demand() -> None:
    runs: list[Run] = [busy_run(seed, path=Path(f"runs/{seed}")) for seed in range(1000)]

    judgement = judge(replace(sound("shadow-to-canary"), runs=runs), policy("shadow-to-canary"))

    assert judgement.verdict is Verdict.PASS
    assert len(judgement.demands) < 45


@guards("validator/gate/rules/coverage.py", "if name in policy.coverage.asked or not caches:", "if not caches:")
@guards("validator/gate/rules/coverage.py", "return all(isinstance(spared", "return any(isinstance(spared")
def test_what_a_shape_does_not_have_is_asked_only_where_the_policy_names_it() -> None:
    mapping = {"cache": "lru", "control": "a.A", "candidate": "a.B", "spared": ["weight_updates", "every_env"]}
    pools = {"cache": "cache", "control": "a.A", "candidate": "a.B", "env_num": 1, "spared": []}
    bare = window(cache="lru", coverage={}, envs={})
    named = GatePolicy.from_mapping({"coverage": {"weight_updates": 1}})

    def missing(policy: GatePolicy, *caches: dict[str, object]) -> set[str]:
        judgement = judge([run_of(bare, caches=list(caches))], policy)
        return {demand.demanded for demand in judgement.demands if demand.verdict is Verdict.INCONCLUSIVE}

    asked = {"weight updates: at least 1", "every env of every pair looked up"}
    assert missing(GatePolicy(), mapping) & asked == set()
    assert missing(named, mapping) & asked == {"weight updates: at least 1"}
    assert missing(GatePolicy(), mapping, pools) & asked == asked


@guards("validator/gate/rules/coverage.py", 'nothing was compared" * (str(line.get("cache")) in idle)', '" * 0')
def test_a_pair_without_envs_of_which_nothing_was_compared_is_missed() -> None:
    lru, other = ({"cache": name, "control": "a.A", "candidate": "a.B", "spared": ["every_env"]} for name in "lo")
    run = run_of(window(cache="l"), caches=[lru, other])

    missing = [str(demand) for demand in judge([run]).demands if demand.verdict is Verdict.INCONCLUSIVE]

    assert any("o: nothing was compared" in each for each in missing)
    assert not any("l: nothing was compared" in each for each in missing)

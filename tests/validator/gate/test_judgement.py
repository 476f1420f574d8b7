"""Each rule of the default policy, in a case where that rule alone decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.record.records import Window
from reports.record.run import Run
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.gate.runs import COVERED, LOOKUPS, MANIFEST, PAIR, divergence, run_of, window
from validator.gate.judgement import Demand, judge
from validator.gate.policy import CoveragePolicy, GatePolicy, RunsPolicy


def deciding(run: Run, verdict: Verdict) -> Demand:
    """Judge a run; return the one demand that decided."""
    judgement = judge([run])
    assert judgement.verdict is verdict, judgement
    (demand,) = [demand for demand in judgement.demands if demand.verdict is not Verdict.PASS]
    assert demand.verdict is verdict
    assert str(demand) in judgement.reasons
    return demand


def without(name: str) -> Window:
    return window(coverage={counter: count for counter, count in COVERED.items() if counter != name})


def test_a_sound_run_passes_and_says_on_what_evidence() -> None:
    judgement = judge([run_of()])

    assert judgement.verdict is Verdict.PASS
    assert judgement.exit_code == 0
    assert judgement.reasons == (
        "0 divergences in 300 lookups: rate below 3/300 = 1.0e-02 at 95 %",
        "290 of them answered by both sides, with equal entries",
        "KVCacheManager judged against LegacyKVCache",
    )
    assert all(demand.verdict is Verdict.PASS and not demand.remedy for demand in judgement.demands)


def test_no_runs_are_no_evidence() -> None:
    judgement = judge([])

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.exit_code == 5
    assert judgement.reasons == (
        "at least 1 run, found 0; record one: kv-lockstep train --config configs/validate.toml",
    )


def test_a_counted_divergence_fails_and_names_who_is_at_fault() -> None:
    run = run_of(window(divergences={"value|values corrupted|candidate": 2, "presence|capacity eaten|control": 1}))

    demand = deciding(run, Verdict.FAIL)

    assert demand.demanded == "no divergence"
    assert demand.found == "3 (candidate at fault in 2, control at fault in 1)"
    assert demand.remedy == "see it in full: kv-lockstep report runs/one"


def test_a_divergence_whose_window_was_lost_fails() -> None:
    demand = deciding(run_of(divergences=[divergence()]), Verdict.FAIL)

    assert demand.found == "1 (candidate at fault in 1)"
    assert demand.where == "runs/one (get.recur, values corrupted, key 00000000000000ff, op 512)"


@pytest.mark.parametrize("outcome", ["both_hit_differ", "control_only", "candidate_only"])
def test_a_lookup_that_differed_fails_even_unexplained(outcome: str) -> None:
    run = run_of(window(lookups={**LOOKUPS, "recur": {"both_hit_equal": 9, outcome: 1}}))

    assert deciding(run, Verdict.FAIL).found == "1 (unexplained)"


@pytest.mark.parametrize("state", ["in progress", "crashed", "unreadable"])
def test_an_incomplete_run_is_inconclusive(state: Any) -> None:
    demand = deciding(run_of(state=state, summary=None), Verdict.INCONCLUSIVE)

    assert (demand.demanded, demand.found, demand.where) == ("a complete run", state, "runs/one")
    assert demand.remedy


def test_a_summary_of_an_interrupted_run_is_inconclusive() -> None:
    demand = deciding(run_of(summary={"state": "interrupted"}), Verdict.INCONCLUSIVE)

    assert demand.found == "complete, summary says 'interrupted'"


def test_a_problem_of_reading_is_inconclusive_and_quoted() -> None:
    problems = [f"rank-0000.jsonl: line {number}: no JSON" for number in range(1, 6)]

    demand = deciding(run_of(problems=problems), Verdict.INCONCLUSIVE)

    assert demand.found == "; ".join([*problems[:3], "and 2 more"])


def test_anything_dropped_is_inconclusive_with_its_reason() -> None:
    demand = deciding(run_of(window(dropped={"comparison failed": 4, "none": 0})), Verdict.INCONCLUSIVE)

    assert demand.found == "4 x comparison failed"


def test_errors_that_no_divergence_explains_are_inconclusive() -> None:
    run = run_of(window(lookups={**LOOKUPS, "wm": {"error": 5}}))

    demand = deciding(run, Verdict.INCONCLUSIVE)

    assert (demand.demanded, demand.found) == ("no lookup that raised unexplained", "5")


def test_errors_that_a_divergence_explains_are_a_fail_alone() -> None:
    run = run_of(window(lookups={**LOOKUPS, "wm": {"error": 5}}, divergences={"error|raised|candidate": 5}))

    assert deciding(run, Verdict.FAIL).found == "5 (candidate at fault in 5)"


def test_no_lookups_are_inconclusive() -> None:
    judgement = judge([run_of(window(lookups={}, envs={}))])

    missing = [demand.demanded for demand in judgement.demands if demand.verdict is Verdict.INCONCLUSIVE]
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert missing == [
        "lookups: at least 1",
        "lookups that both sides answered equally: at least 1",
        "every env of every pair looked up",
    ]


def test_the_number_of_lookups_alone_can_decide() -> None:
    policy = GatePolicy(coverage=CoveragePolicy(lookups=301))

    judgement = judge([run_of()], policy)

    (missing,) = judgement.reasons
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert missing.startswith("lookups: at least 301, found 300 in runs/one; train longer")


def test_lookups_that_compared_no_value_are_inconclusive() -> None:
    run = run_of(window(lookups={"init": {"both_miss": 100}}))

    demand = deciding(run, Verdict.INCONCLUSIVE)

    assert demand.demanded == "lookups that both sides answered equally: at least 1"


@pytest.mark.parametrize(
    ("counter", "demanded"),
    [
        ("overwrites", "overwrites: at least 1"),
        ("evictions", "evictions: at least 1"),
        ("clears_recur", "clears: at least 1"),
        ("weight_updates", "weight updates: at least 1"),
    ],
)
def test_what_was_not_exercised_is_inconclusive_and_says_what_would_supply_it(counter: str, demanded: str) -> None:
    demand = deciding(run_of(without(counter)), Verdict.INCONCLUSIVE)

    assert (demand.demanded, demand.found, demand.where) == (demanded, "0", "runs/one")
    assert demand.remedy


@pytest.mark.parametrize("kind", ["clears_all", "clears_init", "clears_init_env", "clears_recur"])
def test_a_clear_of_any_kind_will_do(kind: str) -> None:
    covered = {name: count for name, count in COVERED.items() if name != "clears_recur"}

    assert judge([run_of(window(coverage={**covered, kind: 1}))]).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "demand", ["ring_wraps", "clears_all", "clears_init", "clears_init_env", "episodes", "searches"]
)
def test_a_policy_can_demand_more_than_the_default(demand: str) -> None:
    policy = GatePolicy(coverage=CoveragePolicy(**{demand: 2}))

    short = judge([run_of(window(coverage={**COVERED, demand: 1}))], policy)
    enough = judge([run_of(window(coverage={**COVERED, demand: 2}))], policy)

    assert (short.verdict, enough.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)


def test_an_env_never_seen_is_inconclusive_and_named() -> None:
    demand = deciding(run_of(window(envs={"0": 100, "1": 0})), Verdict.INCONCLUSIVE)

    assert demand.found == "collect: 1 of 2 envs never seen (1)"


def test_an_env_that_another_pair_saw_is_not_seen() -> None:
    caches = [{"cache": "collect", "env_num": 2}, {"cache": "eval", "env_num": 1}]

    demand = deciding(run_of(caches=caches), Verdict.INCONCLUSIVE)

    assert demand.found == "eval: 1 of 1 envs never seen (0)"


@pytest.mark.parametrize("env_num", [None, "2", True, 0])
def test_an_unknown_number_of_envs_is_inconclusive(env_num: Any) -> None:
    demand = deciding(run_of(caches=[{"cache": "collect", "env_num": env_num}]), Verdict.INCONCLUSIVE)

    assert demand.found == "collect: number of envs not recorded"


def test_the_number_of_envs_may_stand_in_the_manifest() -> None:
    run = run_of(caches=[{"cache": "collect"}], manifest={**MANIFEST, "env_num": 3})

    assert deciding(run, Verdict.INCONCLUSIVE).found == "collect: 1 of 3 envs never seen (2)"


def test_an_absurd_number_of_envs_is_answered_at_once() -> None:
    demand = deciding(run_of(caches=[{"cache": "collect", "env_num": 10**15}]), Verdict.INCONCLUSIVE)

    assert demand.found == "collect: 999999999999998 of 1000000000000000 envs never seen (2, 3, 4, 5, ...)"


def test_a_run_without_a_shadowed_pair_is_inconclusive() -> None:
    assert deciding(run_of(caches=[]), Verdict.INCONCLUSIVE).found == "no shadowed pair"


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (None, "no self-test recorded"),
        ({"passed": False, "detected": 60, "planted": 61, "cause_right": 60, "side_right": 60}, "noticed 60 of 61"),
        ({"passed": "yes"}, "noticed ? of ?"),
        ("yes", "no self-test recorded"),
    ],
)
def test_a_harness_that_did_not_prove_itself_passes_nothing(told: Any, found: str) -> None:
    run = run_of(manifest={**MANIFEST, "selftest": told})

    assert deciding(run, Verdict.INCONCLUSIVE).found.startswith(found)


def test_a_deep_copy_that_was_never_used_is_not_missed() -> None:
    unused = {**PAIR, "cache": "collect-copy", "copy_of": "collect"}

    assert judge([run_of(caches=[PAIR, unused])]).verdict is Verdict.PASS
    assert deciding(run_of(caches=[PAIR, {**unused, "copy_of": ""}]), Verdict.INCONCLUSIVE)


def test_a_divergence_in_a_crashed_run_is_a_fail() -> None:
    judgement = judge([run_of(state="crashed", summary=None, problems=["cut off"], divergences=[divergence()])])

    assert judgement.verdict is Verdict.FAIL
    assert judgement.exit_code == 1
    assert judgement.reasons[-1] == f"besides, evidence is missing for 2 of {len(judgement.demands)} demands"


def test_a_good_run_does_not_cover_for_one_that_saw_nothing() -> None:
    idle = run_of(without("evictions"), path=Path("runs/idle"), manifest={**MANIFEST, "run_id": "idle"})

    judgement = judge([run_of(), idle])

    (missing,) = judgement.reasons
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert missing.startswith("evictions: at least 1, found 0 in runs/idle")


def test_one_bad_run_among_good_ones_fails_and_is_named() -> None:
    bad = run_of(divergences=[divergence(env_id=3)], path=Path("runs/bad"), manifest={"run_id": "bad"})

    judgement = judge([run_of(), bad])

    (failed,) = [demand for demand in judgement.demands if demand.verdict is Verdict.FAIL]
    assert judgement.verdict is Verdict.FAIL
    assert failed.where == "runs/bad (get.recur, values corrupted, env 3, key 00000000000000ff, op 512)"


def test_the_same_run_twice_is_not_two_runs() -> None:
    judgement = judge([run_of(), run_of()])

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reasons == ("every run once, found one more than once; name each run once",)


@guards("validator/gate/rules/soundness.py", "(not origin or played[origin] > 1)", "False")
@pytest.mark.parametrize("origin", ["one", ""])
def test_a_replay_is_no_second_run_of_its_original(origin: str) -> None:
    again = named("two", replayed={"run_id": origin})
    assert judge([again]).verdict is Verdict.PASS
    judgement = judge([run_of(), again])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    (reason,) = judgement.reasons
    assert "every stream once, found 1 replayed from another of these" in reason
    assert "judge it by itself" in reason
    twice = [named(name, replayed={"run_id": "gone"}) for name in ("two", "three")]
    assert judge(twice).verdict is Verdict.INCONCLUSIVE
    assert judge([run_of(), named("two", replayed={"run_id": "gone"})]).verdict is Verdict.PASS


@guards("validator/gate/rules/campaign.py", " and replayed(run) is None]", "]")
def test_a_replay_does_not_count_among_the_runs_that_a_stage_demands() -> None:
    policy = GatePolicy(runs=RunsPolicy(shadow=1))
    assert judge([run_of()], policy).verdict is Verdict.PASS
    assert judge([named("two", replayed={"run_id": "gone"})], policy).verdict is Verdict.INCONCLUSIVE


def named(name: str, **more: Any) -> Run:
    return run_of(path=Path("runs") / name, manifest={**MANIFEST, "run_id": name, **more})


def test_a_policy_may_allow_some_divergences_and_the_pass_says_so() -> None:
    run = run_of(window(divergences={"presence|capacity eaten|control": 2}))

    assert judge([run], GatePolicy(max_divergences=1)).verdict is Verdict.FAIL
    allowed = judge([run], GatePolicy(max_divergences=2))
    assert allowed.verdict is Verdict.PASS
    assert allowed.reasons[0] == "2 divergences in 300 lookups, which the policy allows"


def test_a_run_of_a_cache_against_itself_says_so() -> None:
    caches = [{"cache": "collect", "control": "LegacyKVCache", "candidate": "LegacyKVCache", "env_num": 2}]

    judgement = judge([run_of(caches=caches)])

    assert judgement.reasons[-1] == "candidate and control are both LegacyKVCache: this says nothing about a new cache"


def test_a_judgement_prints_its_verdict_and_reasons() -> None:
    assert str(judge([])) == f"INCONCLUSIVE\n  {judge([]).reasons[0]}"

"""Every rule of every shipped policy, in a case where that rule alone decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from typing import Any, NamedTuple

import pytest

from reports.record.run import Run
from reports.record.totals import Timed
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.campaign import (
    DAY,
    NOW,
    POLICIES,
    alone,
    busy_run,
    busy_window,
    conformance_result,
    policy,
    sound,
    with_run,
)
from tests.validator.gate.waivers import EATEN, LOST, waiver
from validator.gate.judgement import Evidence, judge
from validator.gate.policy import CoveragePolicy
from validator.gate.rules import RULES, campaign, coverage, divergence, soundness, statistics, streams, training, waived
from validator.gate.rules.demand import Rule
from validator.gate.waivers import Scope

FAIL, INCONCLUSIVE = Verdict.FAIL, Verdict.INCONCLUSIVE
STAGED = ("shadow-to-canary", "canary-to-default", "remove-legacy")
LAST = ("remove-legacy",)
COMMITTED = ("canary-to-default", "remove-legacy")


class Case(NamedTuple):
    """One thing wrong, the rule that must say so, and the policies that have it."""

    name: str
    rule: Rule
    change: Callable[[Evidence], Evidence]
    verdict: Verdict
    said: str
    policies: tuple[str, ...] = POLICIES


def extra(*windows: Any, seed: int = 90, **about: Any) -> Callable[[Evidence], Evidence]:
    """Add one run that has something wrong beside enough that have not."""
    return lambda evidence: with_run(evidence, busy_run(seed, evidence.runs[0].caches[0]["primary"], *windows, **about))


def every_run(change: Callable[[Run], Run]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, runs=tuple(change(run) for run in evidence.runs))


def windowed(**changes: Any) -> Callable[[Evidence], Evidence]:
    """Let every run have another window."""

    def changed(run: Run) -> Run:
        return busy_run(run.manifest["seed"], run.caches[0]["primary"], busy_window(**changes))

    return every_run(changed)


FEW_ROOTS = {"init": {"both_hit_equal": 400}, "wm": {"both_hit_equal": 9000}, "hierarchical": {"both_hit_equal": 9000}}
LOSSY = {
    "init": {"both_hit_equal": 4000},
    "wm": {"both_hit_equal": 8000},
    "hierarchical": {"both_hit_equal": 3000, "control_only": 1500},
}
OTHER = {"candidate": "OtherCache"}


def without_last(evidence: Evidence) -> Evidence:
    return replace(evidence, runs=evidence.runs[:-1])


def same_seed(evidence: Evidence) -> Evidence:
    *others, last = evidence.runs
    twin = busy_run(0, last.caches[0]["primary"], manifest={"run_id": "twin"}, digests={"rank-0000.jsonl": "77"})
    if last.caches[0]["primary"] == others[0].caches[0]["primary"]:
        return replace(evidence, runs=(*others, twin))
    return replace(evidence, runs=(*others[:-1], busy_run(0, manifest={"run_id": "twin"}, digests={}), last))


def lossy(evidence: Evidence) -> Evidence:
    """Let the candidate miss a tenth of what the control hits, and the reviewers have waived that."""
    permitted = waiver(cause="missed an entry it holds", side="candidate", scope=Scope(candidate="KVCacheManager"))
    found = windowed(lookups=LOSSY, divergences={LOST: 1500})(evidence)
    return replace(found, waivers=(permitted,))


def contradicting(evidence: Evidence) -> Evidence:
    """Add a run of a setting that was run before, which shows another divergence than that one."""
    first = evidence.runs[0]
    twin = busy_run(
        first.manifest["seed"],
        first.caches[0]["primary"],
        busy_window(divergences={EATEN: 1}),
        manifest={"run_id": "twin"},
        digests={},
    )
    return replace(with_run(evidence, twin), waivers=(waiver(),))


def waived_with(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, waivers=(waiver(**changes),))


def trained(**candidate: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, trainings=(alone(**candidate),))


def idle_rank(evidence: Evidence) -> Evidence:
    first = evidence.runs[0]
    ranks = {0: first.manifest, 1: {"selftest": {"passed": True}, "git": {"commit": "c0ffee", "dirty": False}}}
    return extra(ranks=ranks)(evidence)


CASES = [
    Case("no runs", soundness.some_runs, lambda e: replace(e, runs=()), INCONCLUSIVE, "at least 1 run", ("smoke",)),
    Case("twice", soundness.some_runs, lambda e: with_run(e, e.runs[0]), INCONCLUSIVE, "run-0 more than once"),
    Case(
        "a copy under another name",
        soundness.some_runs,
        lambda e: with_run(e, busy_run(91, e.runs[0].caches[0]["primary"], digests=e.runs[0].digests)),
        INCONCLUSIVE,
        "1 under several names",
    ),
    Case("a link", campaign.nothing_unread, lambda e: replace(e, unread=("runs/x is a link",)), INCONCLUSIVE, "runs/x"),
    Case(
        "a divergence",
        divergence.no_divergence,
        extra(busy_window(divergences={"live_keys|wrong eviction|candidate": 1})),
        FAIL,
        "1 (candidate at fault in 1)",
    ),
    Case("an expired waiver", waived.waivers_hold, waived_with(expires=date(2026, 1, 1)), INCONCLUSIVE, "expired"),
    Case("contradiction", campaign.of_one_mind, contradicting, INCONCLUSIVE, "they contradict each other"),
    Case("crashed", soundness.complete, extra(state="crashed", summary=None), INCONCLUSIVE, "crashed"),
    Case("damaged", soundness.readable, extra(problems=["line 3: no JSON"]), INCONCLUSIVE, "line 3: no JSON"),
    Case("dropped", soundness.nothing_dropped, extra(busy_window(dropped={"lost": 2})), INCONCLUSIVE, "2 x lost"),
    Case(
        "sampled",
        soundness.nothing_dropped,
        extra(manifest={"validation": {"digest_share": 0.5, "rtol": None, "atol": None}}),
        INCONCLUSIVE,
        "digest_share 0.5",
    ),
    Case("no self-test", soundness.self_tested, extra(manifest={"selftest": None}), INCONCLUSIVE, "no self-test"),
    Case(
        "raised unexplained",
        soundness.errors_explained,
        extra(busy_window(lookups={**busy_window().lookups, "recur": {"error": 3, "both_hit_equal": 9000}})),
        INCONCLUSIVE,
        "unexplained, found 3",
    ),
    Case("foreign", campaign.one_candidate, extra(pair=OTHER), INCONCLUSIVE, "OtherCache of source 0b, where other"),
    Case(
        "another version",
        campaign.one_candidate,
        extra(pair={"sources": {"control": "0a", "candidate": "0c"}}),
        INCONCLUSIVE,
        "KVCacheManager of source 0c, where other runs have KVCacheManager of source 0b",
    ),
    Case(
        "a class against itself",
        campaign.two_caches,
        extra(pair={"control": "KVCacheManager"}),
        INCONCLUSIVE,
        "both are KVCacheManager",
    ),
    Case("one run fewer", campaign.stages, without_last, INCONCLUSIVE, "stage: at least", STAGED),
    Case("one seed twice", campaign.stages, same_seed, INCONCLUSIVE, "distinct seeds in the", STAGED),
    Case("of the future", campaign.fresh, extra(manifest={"created": NOW + DAY}), INCONCLUSIVE, "goes backwards"),
    Case("too old", campaign.fresh, extra(manifest={"created": NOW - 99 * DAY}), INCONCLUSIVE, "99.0 days old", STAGED),
    Case(
        "uncommitted",
        campaign.committed,
        extra(manifest={"git": {"commit": "c0ffee", "dirty": True}}),
        INCONCLUSIVE,
        "uncommitted changes on c0ffee",
        COMMITTED,
    ),
    Case("no git", campaign.committed, extra(manifest={"git": None}), INCONCLUSIVE, "no commit recorded", COMMITTED),
    Case(
        "tolerance",
        campaign.exact,
        extra(manifest={"validation": {"digest_share": 1.0, "rtol": 1e-5, "atol": 1e-8}}),
        INCONCLUSIVE,
        "rtol 1e-05, atol 1e-08",
        STAGED,
    ),
    Case("env", coverage.every_env, extra(pair={"env_num": 3}), INCONCLUSIVE, "1 of 3 envs never seen (2)"),
    Case("layer", coverage.every_layer, extra(manifest={"num_layers": 3}), INCONCLUSIVE, "900 sets of 2, where the"),
    Case("rank", coverage.every_rank, idle_rank, INCONCLUSIVE, "nothing on rank 1"),
    Case(
        "few roots", statistics.rate_bounds, windowed(lookups=FEW_ROOTS), INCONCLUSIVE, "rate of pool init", STAGED[:2]
    ),
    Case(
        "few episodes",
        statistics.rate_bounds,
        windowed(coverage={**busy_window().coverage, "episodes": 10}),
        INCONCLUSIVE,
        "per episode at 95 %",
        STAGED,
    ),
    Case(
        "an unseen pool",
        statistics.rate_bounds,
        windowed(lookups={pool: {"both_hit_equal": 6000} for pool in ("init", "hierarchical")}),
        INCONCLUSIVE,
        "rate of pool wm below",
        STAGED,
    ),
    Case("no streams", streams.conforms, lambda e: replace(e, conformance=()), INCONCLUSIVE, "found 0", STAGED),
    Case(
        "streams of another version",
        streams.conforms,
        lambda e: replace(e, conformance=(conformance_result(source="0c"),)),
        INCONCLUSIVE,
        "found 0, not counting conformance-1.json: of KVCacheManager of source 0c",
        STAGED,
    ),
    Case(
        "streams charge the candidate",
        streams.conforms,
        lambda e: replace(
            e,
            conformance=(
                *e.conformance,
                conformance_result(conforms=False, charged={"candidate": ["values corrupted"]}),
            ),
        ),
        FAIL,
        "candidate at fault: values corrupted; the runs, which show no divergence, contradict it",
    ),
    Case(
        "slow",
        statistics.latency,
        every_run(lambda run: replace(run, timed=[Timed(1000.0, 1200.0 + n, 300) for n in range(9)])),
        FAIL,
        "candidate's time in operations at most 5 % above the control's",
        STAGED,
    ),
    Case(
        "not timed",
        statistics.latency,
        every_run(lambda run: replace(run, timed=[])),
        INCONCLUSIVE,
        "no window with 100 timed operations",
        STAGED,
    ),
    Case("lossy", statistics.hit_rate, lossy, FAIL, "90.91% against 100.00%", STAGED),
    Case(
        "greedy",
        statistics.memory,
        extra(busy_window(bytes_held={"control": 1000, "candidate": 1100})),
        FAIL,
        "1,100 against 1,000 bytes",
        STAGED,
    ),
    Case("unknown memory", statistics.memory, extra(busy_window(bytes_held={})), INCONCLUSIVE, "bytes held by", STAGED),
    Case("never alone", training.trains_as_well, lambda e: replace(e, trainings=()), INCONCLUSIVE, "no such", LAST),
    Case("slow alone", training.trains_as_well, trained(cpu_s=9.0), FAIL, "9.00 ms against 5.20 ms, +73.1%", LAST),
    Case("learns less", training.trains_as_well, trained(mean_return=9.0), FAIL, "9 against 22, -59.1%", LAST),
    Case("another course", training.trains_as_well, trained(digests={"actions": "x"}), FAIL, "digests differ", LAST),
    Case("trained as another", training.trains_as_well, trained(source="0c"), INCONCLUSIVE, "of source 0c", LAST),
    Case("overhead", statistics.overhead, extra(busy_window(harness_ns=7_000_000_000)), FAIL, "found 70%", STAGED),
]


def counters_of(demand: str) -> tuple[str, ...]:
    return coverage._COVERAGE[demand][1]


def coverage_cases() -> list[Case]:
    """One case for every counter that some shipped policy demands."""
    cases = []
    for field in fields(CoveragePolicy):
        if field.name not in coverage._COVERAGE:
            continue
        names = tuple(name for name in POLICIES if getattr(policy(name).coverage, field.name))
        without = {name: count for name, count in busy_window().coverage.items() if name not in counters_of(field.name)}
        if field.name == "clears":
            continue  # never alone: the kinds are demanded as well
        window = busy_window(coverage=without)
        called = coverage._COVERAGE[field.name][0]
        # Episodes are counted by the rates as well, over all runs: one idle run more changes nothing there.
        cases.append(Case(field.name, coverage.exercised, extra(window), INCONCLUSIVE, f"{called}: at least", names))
    few = busy_window(lookups={"init": {"both_hit_equal": 400, "both_miss": 9700}})
    cases.append(Case("hits", coverage.exercised, extra(few), INCONCLUSIVE, "both sides answered equally: at least"))
    few = busy_window(lookups={"init": {"both_hit_equal": 400}})
    return [*cases, Case("lookups", coverage.exercised, extra(few), INCONCLUSIVE, "lookups: at least")]


ALL = [*CASES, *coverage_cases()]
PAIRS = [pytest.param(name, case, id=f"{name}-{case.name}") for case in ALL for name in case.policies]


@pytest.mark.parametrize("name", POLICIES)
def test_sound_evidence_passes(name: str) -> None:
    judgement = judge(sound(name), policy(name))

    assert judgement.verdict is Verdict.PASS, judgement
    assert judgement.policy == name


@guards("validator/gate/rules/__init__.py", "    divergence.no_divergence,\n", "")
@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_one_rule_alone_decides(name: str, case: Case) -> None:
    evidence, demanded = case.change(sound(name)), policy(name)

    judgement = judge(evidence, demanded)

    decided = [demand for demand in judgement.demands if demand.verdict is not Verdict.PASS]
    assert decided == [one for one in case.rule(evidence, demanded) if one.verdict is not Verdict.PASS]
    assert judgement.verdict is case.verdict
    assert case.said in "\n".join(map(str, decided))
    assert all(demand.remedy for demand in decided), "each says what would supply it"


@pytest.mark.parametrize("name", POLICIES)
def test_no_rule_of_a_shipped_policy_is_without_a_case(name: str) -> None:
    demanding = {rule for rule in RULES if list(rule(sound(name), policy(name)))}
    tested = {case.rule for case in ALL if name in case.policies}

    assert {rule.__name__ for rule in demanding - tested} == set()

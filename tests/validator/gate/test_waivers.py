"""Waivers: what they must say, what they take away, and when they close the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports.record.words import Cause, Dimension, Fault, Verdict
from tests.guards import guards
from tests.validator.campaign import busy_run, busy_window, sound
from tests.validator.gate.runs import divergence, run_of, window
from tests.validator.gate.waivers import EATEN, LOST, WHOLE, waiver
from validator.errors import ConfigError
from validator.gate.judgement import Evidence, Judgement, judge
from validator.gate.shipped import find_file
from validator.gate.waivers import Scope, Waiver, load_waivers

NOW = 1_795_600_000.0  # November 2026


def judged(*waivers: Waiver, **divergences: int) -> Judgement:
    groups = {{"eaten": EATEN, "lost": LOST}[name]: count for name, count in divergences.items()}
    return judge(Evidence([run_of(window(divergences=groups))], waivers, now=NOW))


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def without(name: str) -> str:
    return "\n".join(line for line in WHOLE.splitlines() if not line.startswith(name))


def test_a_waived_divergence_does_not_fail_and_the_pass_says_so() -> None:
    judgement = judged(waiver(), eaten=3)

    assert judgement.verdict is Verdict.PASS
    assert judgement.reasons[0] == "3 divergences in 300 lookups are waived"
    (line,) = [one for one in judgement.demands if one.demanded.startswith("waiver W ")]
    assert (line.found, line.where) == ("3 divergences fit it", "owner me")
    assert line.demanded == "waiver W (capacity eaten, control at fault): until 2027-06-30, at most 100,000"


@guards("validator/gate/rules/waived.py", "(cause, fault) == (waiver.cause, waiver.side)", "True")
def test_what_is_not_waived_fails_beside_what_is() -> None:
    judgement = judged(waiver(), eaten=3, lost=2)

    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons == (
        "no divergence, found 2 beside 3 waived (control at fault in 3, candidate at fault in 2) in runs/one; "
        "see it in full: kv-lockstep report runs/one",
    )


def test_no_waiver_is_active_unless_named() -> None:
    assert judged(eaten=1).verdict is Verdict.FAIL


@guards(
    "validator/gate/rules/waived.py",
    "if waiver in found.expired or found.matched[waiver] > evidence.waivers[waiver].max_count:",
    "if waiver in found.expired:",
)
def test_an_exceeded_waiver_takes_nothing_away_and_closes_the_gate() -> None:
    judgement = judged(waiver(max_count=2), eaten=3)

    assert judgement.verdict is Verdict.FAIL
    assert "found 3 (control at fault in 3)" in judgement.reasons[0]
    assert "found exceeded: 3 divergences fit it in owner me; it holds for none of them" in judgement.reasons[1]


def test_waived_divergences_need_not_be_written_in_full() -> None:
    run = run_of(window(divergences={EATEN: 300}, dropped={"divergences only counted": 200}))

    assert judge(Evidence([run], [waiver()], now=NOW)).verdict is Verdict.PASS
    assert judge(Evidence([run], now=NOW)).verdict is Verdict.FAIL


def test_the_count_is_over_all_runs() -> None:
    runs = [busy_run(seed, "control", busy_window(divergences={EATEN: 2})) for seed in (0, 1)]

    assert judge(Evidence(runs, [waiver(max_count=4)], now=NOW)).verdict is Verdict.PASS
    assert judge(Evidence(runs, [waiver(max_count=3)], now=NOW)).verdict is Verdict.FAIL


@guards("validator/gate/rules/waived.py", "one.expires < today", "False")
def test_an_expired_waiver_takes_nothing_away_and_closes_the_gate() -> None:
    day = 86_400.0
    last = 1_814_313_600.0  # 2027-06-30 00:00 UTC
    evidence = Evidence([run_of(window(divergences={EATEN: 1}))], [waiver()])

    assert judge(replace(evidence, now=last + 0.9 * day)).verdict is Verdict.PASS
    late = judge(replace(evidence, now=last + day))
    assert late.verdict is Verdict.FAIL
    assert "it has expired; 1 divergences fit it" in late.reasons[1]


def test_an_unused_waiver_is_said_and_does_not_close_the_gate() -> None:
    judgement = judged(waiver())

    assert judgement.verdict is Verdict.PASS
    assert "unused: no divergence fits it, so it can be removed" in [one.found for one in judgement.demands]


@guards("validator/gate/rules/waived.py", "or dimension in scope.dimensions", "or True")
@guards("validator/gate/rules/waived.py", 'scope.stage in ("", stage_of_pair(pair))', "True")
@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        (Scope(), True),
        (Scope(control="LegacyKVCache", candidate="KVCacheManager", cache="collect", stage="shadow"), True),
        (Scope(dimensions=("live_keys", "presence")), True),
        (Scope(control="Other"), False),
        (Scope(candidate="Other"), False),
        (Scope(cache="eval"), False),
        (Scope(stage="canary"), False),
        (Scope(dimensions=("value",)), False),
    ],
)
def test_a_waiver_holds_only_in_its_scope(scope: Scope, fits: bool) -> None:
    assert (judged(waiver(scope=scope), eaten=1).verdict is Verdict.PASS) is fits


def test_cause_and_side_must_both_fit() -> None:
    assert judged(waiver(cause="duplicate-key slot leak"), eaten=1).verdict is Verdict.FAIL
    assert judged(waiver(side="host"), eaten=1).verdict is Verdict.FAIL


def test_a_lookup_that_differed_unexplained_can_not_be_waived() -> None:
    lookups = {"init": {"both_hit_equal": 9, "candidate_only": 4}}
    run = run_of(window(lookups=lookups, divergences={EATEN: 3}))

    assert judge(Evidence([run], [waiver()], now=NOW)).verdict is Verdict.FAIL


def test_a_divergence_whose_window_was_lost_can_be_waived_but_its_run_stays_incomplete() -> None:
    lost = divergence(cause=Cause.CAPACITY_EATEN, dimension=Dimension.PRESENCE, fault=Fault.CONTROL)
    run = run_of(window(), state="crashed", divergences=[lost])

    assert judge(Evidence([run], [waiver()], now=NOW)).verdict is Verdict.INCONCLUSIVE


@guards("validator/gate/waivers.py", "and not self.scope.candidate:", "and False:")
@pytest.mark.parametrize("side", ["candidate", "both", "unknown"])
def test_what_may_be_the_candidates_fault_needs_a_pattern_that_names_it(side: str) -> None:
    with pytest.raises(ValueError, match=r"scope\.candidate must name its class"):
        waiver(side=side)
    assert waiver(side=side, scope=Scope(candidate="KVCacheManager")).side == side


def test_a_pattern_for_the_control_never_covers_the_candidate() -> None:
    judgement = judged(waiver(cause="missed an entry it holds"), lost=1)

    assert judgement.verdict is Verdict.FAIL


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (one,) = load_waivers(written(tmp_path, WHOLE + 'scope = { dimensions = ["presence"] }'))

    assert (one.id, one.max_count, str(one.expires), one.scope.dimensions) == ("L3", 10, "2027-06-30", ("presence",))


@pytest.mark.parametrize("name", ["id", "cause", "side", "owner", "reason", "issue", "expires", "max_count"])
def test_everything_but_the_scope_is_required(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.toml: .*{name} is required"):
        load_waivers(written(tmp_path, without(name)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE.replace("2027-06-30", "2027-06-30T10:00:00Z"), "expires must be a date such as 2027-03-31"),
        (WHOLE.replace("2027-06-30", '"soon"'), "expires: expected date, got 'soon'"),
        (
            WHOLE.replace("capacity eaten", "capacity eatn"),
            "unknown cause 'capacity eatn'; did you mean 'capacity eaten'",
        ),
        (WHOLE.replace('"control"', '"contrl"'), "unknown side 'contrl'; did you mean 'control'?"),
        (WHOLE.replace('"control"', '"*"'), "unknown side '*'; known are both, candidate"),
        (WHOLE.replace("https://example.org/3", "3"), "issue must be a link, https://..., got '3'"),
        (WHOLE.replace("max_count = 10", "max_count = 0"), "max_count is required and at least 1, got 0"),
        (WHOLE.replace("owner", "ower"), "unknown setting 'ower'; did you mean 'owner'?"),
        (WHOLE + "scope = { stage = 'prod' }", "stage must be 'shadow' or 'canary', got 'prod'"),
        (WHOLE + "scope = { dimensions = ['presense'] }", "unknown dimensions 'presense'; did you mean 'presence'?"),
        (WHOLE + WHOLE, "waiver 'L3' is there more than once"),
        ("", "holds no waiver; expected at least one table [[waiver]]"),
        ("[[waivers]]", "unknown setting 'waivers'; did you mean 'waiver'?"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_waivers(written(tmp_path, text))

    assert message in str(refused.value)
    assert "mine.toml" in str(refused.value)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff")

    with pytest.raises(ConfigError, match="expected waivers as UTF-8 text, got other bytes at 0"):
        load_waivers(path)


def test_the_shipped_file_for_a_release_waives_what_its_host_does_and_nothing_of_a_cache() -> None:
    shipped = load_waivers(find_file("waivers", "lightzero-0.2.0", "file of waivers"))

    assert [(one.cause, one.side, one.scope.dimensions) for one in shipped] == [
        ("padding attended to", "host", ("recompute",))
    ]


def test_the_shipped_file_waives_the_legacy_rings_four_quirks_and_nothing_of_the_candidate() -> None:
    shipped = load_waivers(find_file("waivers", "legacy-ring", "file of waivers"))

    assert [one.id for one in shipped] == ["L1", "L2", "L3", "L4"]
    assert {one.side for one in shipped} == {"control"}
    quirks = {
        f"presence|{cause}|control": 5
        for cause in (
            "duplicate-key slot leak",
            "age refreshed by re-set",
            "capacity eaten",
            "reverse map survived clear",
        )
    }
    evidence = sound("smoke")
    first = busy_run(0, "control", busy_window(divergences=quirks))
    assert judge(replace(evidence, runs=(first,), waivers=shipped)).verdict is Verdict.PASS

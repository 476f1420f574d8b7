"""What a policy can ask for beside its own counts: whatever a run counts, by name, and a comparison in every pair."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.record.run import Run
from reports.record.words import COVERAGE, Verdict
from tests.guards import guards
from tests.validator.campaign import PAIR, busy_run, busy_window
from validator.errors import ConfigError
from validator.gate.judgement import judge
from validator.gate.policy import CoveragePolicy, GatePolicy
from validator.gate.shipped import find_file

ROOT = Path(__file__).parents[3]
COUNTED = re.compile(r"\bcoverage\[\"([^\"]+)\"\]")


def of_tests(*names: str) -> GatePolicy:
    policy = GatePolicy.load(find_file("gate", "test", "gate policy"))
    return replace(policy, coverage=policy.coverage.requiring(names))


def missing(run: Run, policy: GatePolicy) -> list[str]:
    """What is not shown, of what the run is asked for."""
    return [f"{one.demanded}: {one.found}" for one in judge([run], policy).demands if one.verdict is not Verdict.PASS]


def test_whatever_is_counted_under_a_fixed_name_can_be_demanded() -> None:
    counted = {name for path in (ROOT / "validator").rglob("*.py") for name in COUNTED.findall(path.read_text("utf-8"))}

    assert counted - set(COVERAGE) == set()  # what is missing belongs into reports/record/words.py
    assert len(counted) > 10


@guards("validator/gate/rules/coverage.py", "for name in least.others:", "for name in ():")
def test_what_is_required_must_be_counted_in_the_run() -> None:
    run = busy_run(1, "control", busy_window(coverage={"audits_full": 1, "clears_all": 3}))

    assert missing(run, of_tests()) == []
    assert missing(run, of_tests("audits full", "clears", "clears_all")) == []
    assert missing(run, of_tests("evictions", "entries from before")) == [
        "evictions: at least 1: 0",
        "entries from before: at least 1: 0",
    ]


@guards("validator/gate/policy.py", 'object.__setattr__(made, "asked", self.asked | found)', "pass")
def test_no_shape_of_cache_is_spared_what_is_required() -> None:
    run = busy_run(1, "control", busy_window(coverage={}), pair={"spared": ["evictions"]})
    policy = GatePolicy()

    assert "evictions: at least 1: 0" not in missing(run, policy)
    required = replace(policy, coverage=policy.coverage.requiring(["evictions"]))
    assert "evictions: at least 1: 0" in missing(run, required)


def test_a_greater_number_stands_and_nothing_else_changes() -> None:
    policy = CoveragePolicy(lookups=500, others=("audits_full",))

    assert policy.requiring(["lookups", "entries_audited"]) == replace(
        policy, others=("audits_full", "entries_audited")
    )


@guards("validator/gate/policy.py", "if name not in COVERAGE:", "if False:")
def test_what_nothing_counts_is_refused_with_a_list_of_what_is_counted(tmp_path: Path) -> None:
    known = r"known are .*, both hits, .*, evictions, "
    with pytest.raises(ValueError, match=f"nothing counts 'bothhits', 'crops'; {known}"):
        CoveragePolicy().requiring(["crops", "bothhits", "evictions"])
    path = tmp_path / "mine.toml"
    path.write_text('[coverage]\nothers = ["crops"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing counts 'crops'; known are activate_past_recording, "):
        GatePolicy.load(path)


def two_pairs(**other: Any) -> Run:
    """A run whose first pair did much; the second, whatever is given."""
    second = busy_window(**{"cache": "other", "lookups": {}, "ops": {}, **other})
    return busy_run(1, "control", busy_window(), second, caches=[PAIR, {**PAIR, "cache": "other"}])


@guards("validator/gate/rules/__init__.py", "    coverage.every_pair,\n", "")
def test_a_busy_pair_does_not_cover_for_one_in_which_nothing_was_compared() -> None:
    said = ["lookups that both sides answered equally in every pair: none of other"]

    assert missing(two_pairs(), of_tests()) == said
    assert missing(two_pairs(lookups={"init": {"both_miss": 9}}), of_tests()) == said
    assert missing(two_pairs(lookups={"init": {"both_hit_equal": 1}}), of_tests()) == []
    assert missing(two_pairs(), replace(of_tests(), coverage=CoveragePolicy(every_env=False))) == []


@guards("validator/gate/rules/coverage.py", "hit | (copies - used)", "hit | copies")
def test_only_a_copy_that_was_never_used_may_have_compared_nothing() -> None:
    copied = replace(two_pairs(), caches=[PAIR, {**PAIR, "cache": "other", "copy_of": PAIR["cache"]}])

    assert missing(copied, of_tests()) == []
    copied.windows[1] = replace(copied.windows[1], ops={"get.init": 3})
    assert missing(copied, of_tests()) == ["lookups that both sides answered equally in every pair: none of other"]

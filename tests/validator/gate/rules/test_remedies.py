"""Whoever made a run is told what they can do: no own host, and no script, is sent to ``kv-lockstep train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.record.run import Run
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.campaign import NOW, alone, busy_run, busy_window, policy
from validator.config import ValidationConfig
from validator.gate.judgement import Evidence, judge
from validator.gate.policy import GatePolicy, TrainingPolicy
from validator.gate.rules.remedies import HOSTS, WHAT, host_of, remedy
from validator.session import Lockstep

SAYS: dict[str, dict[str, Any]] = {
    "train": {"host": "unizero"},
    "run": {"host": "lightzero", "script": ["cartpole.py"]},
    "script": {"host": "lightzero"},
    "own": {"host": "own"},
    "test": {"host": "pytest"},
}
FOREIGN = {
    "train": (),
    "run": ("kv-lockstep train", "world_model_cfg", "total_env_steps", "Lockstep(", "manifest_extra"),
    "script": ("kv-lockstep train", "--set", "kv-lockstep run", "Lockstep(", "manifest_extra"),
    "own": ("kv-lockstep train", "--set", "kv-lockstep run", "SCRIPT", "cache_validation", "num_simulations"),
    "test": ("kv-lockstep train", "--set", "kv-lockstep run", "SCRIPT", "cache_validation", "with Lockstep("),
}
RULES = Path(__file__).parents[4] / "validator" / "gate" / "rules"


def strictest() -> GatePolicy:
    """Demand all that any rule can demand, and more of each than anything shows."""
    most = policy("remove-legacy")
    names = ("lookups", "both_hits", "overwrites", "evictions", "ring_wraps", "clears", "clears_all", "clears_init")
    more = ("clears_init_env", "clears_recur", "weight_updates", "episodes", "searches")
    coverage = replace(most.coverage, every_layer=True, **dict.fromkeys((*names, *more), 10**9))
    performance = replace(most.performance, latency=True, memory=True, hit_rate=True, overhead=1e-9)
    runs = replace(most.runs, shadow=9, canary=9, seeds=9)
    return replace(most, coverage=coverage, performance=performance, runs=runs, training=TrainingPolicy())


def poor(host: str) -> list[Run]:
    """Runs that lack something each, so that every rule has a remedy to give."""
    lacks: list[dict[str, Any]] = [
        {},
        {"state": "crashed", "problems": ["line 1: no JSON"]},
        {"manifest": {"selftest": None, "git": None, "created": 0, "seed": None, "num_layers": None}},
        {"manifest": {"validation": {"digest_share": 0.5, "rtol": 1.0, "atol": 1.0}}},
        {"pair": {"candidate": "Other", "control": "Other", "env_num": 9}},
        {"windows": [busy_window(dropped={"a": 1}, lookups={"init": {"error": 1}})]},
    ]
    runs = []
    for seed, changes in enumerate(lacks):
        about = {**SAYS[host], **changes.pop("manifest", {})}
        runs.append(busy_run(seed, manifest=about, **changes))
    return runs


@guards("validator/gate/rules/remedies.py", 'if host == "pytest":', 'if host == "own":')
@guards("validator/gate/rules/remedies.py", 'return "train" if host == "unizero" else "own"', 'return "train"')
@guards("validator/session.py", '"host": "own",', "")
@pytest.mark.parametrize("host", HOSTS)
def test_no_rule_gives_a_remedy_that_its_host_has_no_use_for(host: str, tmp_path: Path) -> None:
    judged = [judge(Evidence(runs, now=NOW), strictest()) for runs in (poor(host), *([run] for run in poor(host)))]
    remedies = {one.remedy for judgement in judged for one in judgement.demands if one.verdict is not Verdict.PASS}
    remedies |= {remedy(what, poor(host)[0], primary="new", seed=1, side="control", is_new=True) for what in WHAT}

    assert len(remedies) > 20
    assert [said for said in remedies for foreign in FOREIGN[host] if foreign in said] == []
    if host == "own":
        with Lockstep(tmp_path, ValidationConfig(selftest=False)) as lockstep:
            pass
        said = str(lockstep.verdict)
        assert [foreign for foreign in FOREIGN["own"] if foreign in said] == []
        assert host_of(Run(tmp_path, "complete", {"host": "my program"})) == "own"


def test_what_is_trained_alone_is_seen_again_by_its_own_command() -> None:
    parted = alone(digests={"actions": "other"})
    for host, command in (
        ("unizero", "kv-lockstep train with"),
        ("lightzero", "kv-lockstep run -- SCRIPT.py with the same script"),
    ):
        trainings = replace(parted, manifest={**parted.manifest, "host": host})
        judgement = judge(Evidence(poor("own"), trainings=[trainings], now=NOW), strictest())
        (said,) = [one.remedy for one in judgement.demands if one.demanded.startswith("the same trajectory")]
        assert command in said


def test_remedies_for_one_host_alone_stand_in_one_place() -> None:
    named = {file.name for file in RULES.glob("*.py") if "kv-lockstep train" in file.read_text(encoding="utf-8")}

    assert named == {"remedies.py", "soundness.py"}  # without any run, nobody's host is known

"""A policy can demand recomputations that agreed; an oracle that was off, or raised, agreed with nothing."""

from __future__ import annotations

import pytest

from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.gate.runs import COVERED, MANIFEST, run_of, window
from validator.gate.judgement import judge
from validator.gate.policy import CoveragePolicy, GatePolicy

POLICY = GatePolicy(coverage=CoveragePolicy(recomputations=100))
RAISED = "recomputations not judged: raised KeyError"
ON = {**MANIFEST, "validation": {"digest_share": 1.0, "rtol": None, "atol": None, "oracle": {"envs": 1}}}


@guards("validator/gate/rules/__init__.py", "    recomputed.recomputed,\n", "")
@guards("validator/gate/rules/recomputed.py", "if agreed >= least and not any(", "if agreed >= least or not any(")
@pytest.mark.parametrize(
    ("counted", "verdict", "said"),
    [
        ({}, Verdict.INCONCLUSIVE, "0 (the oracle was off)"),
        ({"envs followed": 1}, Verdict.INCONCLUSIVE, "0"),
        ({"envs followed": 1, "recomputations that agreed": 99}, Verdict.INCONCLUSIVE, "99"),
        ({"recomputations that agreed": 100}, Verdict.PASS, "as many"),
        ({"recomputations that agreed": 100, RAISED: 2}, Verdict.INCONCLUSIVE, "100 (not judged: 2 raised KeyError)"),
        (
            {"recomputations not judged: the model is in training mode": 7},
            Verdict.INCONCLUSIVE,
            "0 (not judged: 7 the model is in training mode)",
        ),
    ],
)
def test_only_recomputations_that_agreed_count(counted: dict[str, int], verdict: Verdict, said: str) -> None:
    run = run_of(window(coverage={**COVERED, **counted}))
    judgement = judge([run], POLICY)

    (demand,) = (each for each in judgement.demands if each.demanded.startswith("recomputations"))
    assert (judgement.verdict, demand.found) == (verdict, said)
    assert bool(demand.remedy) == (verdict is not Verdict.PASS)
    assert judge([run]).verdict is Verdict.PASS  # the default policy demands none


def test_an_oracle_that_was_on_and_saw_nothing_was_not_off() -> None:
    (demand,) = (d for d in judge([run_of(manifest=ON)], POLICY).demands if d.demanded.startswith("recomputations"))

    assert demand.found == "0"

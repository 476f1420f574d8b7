"""What the gate can demand: one function for each rule.

A rule turns evidence and a policy into demands. What is demanded of a run must hold in each run by itself, so that a
busy run never covers for one that saw nothing; only divergences are added up.
"""

from __future__ import annotations

from validator.rules.coverage import every_env, exercised
from validator.rules.demand import Rule
from validator.rules.divergence import no_divergence
from validator.rules.soundness import complete, errors_explained, nothing_dropped, readable, self_tested, some_runs
from validator.rules.training import trains_as_well

RULES: tuple[Rule, ...] = (
    some_runs,
    no_divergence,
    complete,
    readable,
    nothing_dropped,
    self_tested,
    errors_explained,
    exercised,
    every_env,
    trains_as_well,
)

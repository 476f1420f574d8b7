"""What the gate can demand: one function for each rule.

A rule turns evidence and a policy into demands. What is demanded of a run must hold in each run by itself, so that a
busy run never covers for one that saw nothing; only divergences, and what is estimated from all runs, are added up.
"""

from __future__ import annotations

from validator.gate.rules.campaign import (
    committed,
    exact,
    fresh,
    nothing_unread,
    of_one_mind,
    one_candidate,
    stages,
    two_caches,
)
from validator.gate.rules.coverage import every_env, every_layer, every_rank, exercised
from validator.gate.rules.demand import Rule
from validator.gate.rules.divergence import no_divergence
from validator.gate.rules.soundness import complete, errors_explained, nothing_dropped, readable, self_tested, some_runs
from validator.gate.rules.statistics import hit_rate, latency, memory, overhead, rate_bounds
from validator.gate.rules.streams import conforms
from validator.gate.rules.training import trains_as_well
from validator.gate.rules.waived import waivers_hold

RULES: tuple[Rule, ...] = (
    some_runs,
    nothing_unread,
    no_divergence,
    waivers_hold,
    of_one_mind,
    complete,
    readable,
    nothing_dropped,
    self_tested,
    errors_explained,
    one_candidate,
    two_caches,
    stages,
    fresh,
    committed,
    exact,
    exercised,
    every_env,
    every_layer,
    every_rank,
    rate_bounds,
    conforms,
    latency,
    hit_rate,
    memory,
    overhead,
    trains_as_well,
)

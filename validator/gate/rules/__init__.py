"""What the gate can demand: one function for each rule.

A rule turns evidence and a policy into demands. What is demanded of a run must hold in each run by itself, so that a
busy run never covers for one that saw nothing; only divergences, and what is estimated from all runs, are added up.
"""

from __future__ import annotations

from validator.gate.rules import (
    campaign,
    coverage,
    divergence,
    recomputed,
    soundness,
    statistics,
    streams,
    training,
    waived,
)
from validator.gate.rules.demand import Rule

RULES: tuple[Rule, ...] = (
    soundness.some_runs,
    campaign.nothing_unread,
    divergence.no_divergence,
    waived.waivers_hold,
    campaign.of_one_mind,
    soundness.complete,
    soundness.readable,
    soundness.nothing_dropped,
    soundness.self_tested,
    soundness.errors_explained,
    campaign.one_candidate,
    campaign.two_caches,
    campaign.stages,
    campaign.fresh,
    campaign.committed,
    campaign.exact,
    coverage.exercised,
    coverage.every_env,
    coverage.every_layer,
    coverage.every_pair,
    coverage.every_rank,
    recomputed.recomputed,
    statistics.rate_bounds,
    streams.conforms,
    statistics.latency,
    statistics.hit_rate,
    statistics.memory,
    statistics.overhead,
    training.trains_as_well,
)

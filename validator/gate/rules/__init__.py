"""What the gate can demand: one function for each rule.

A rule turns evidence and a policy into demands. What is demanded of a run must hold in each run by itself, so that a
busy run never covers for one that saw nothing; only divergences, and what is estimated from all runs, are added up.
"""

from __future__ import annotations

from validator.gate.rules import (
    campaign,
    coverage,
    divergence,
    drills,
    jobs,
    ranks,
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
    soundness.nothing_planted,
    campaign.nothing_unread,
    jobs.readable,
    jobs.every_job,
    jobs.as_asked,
    divergence.no_divergence,
    jobs.superseded,
    waived.waivers_hold,
    campaign.of_one_mind,
    ranks.attempts_not_counted,
    soundness.complete,
    soundness.readable,
    ranks.alike,
    ranks.in_step,
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
    drills.drilled,
    statistics.latency,
    statistics.hit_rate,
    statistics.memory,
    statistics.overhead,
    training.trains_as_well,
)

"""The settings of a validation, all with defaults; what ``cache_validation`` in a world model config may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shadow.settings import from_mapping


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """Settings of one validation.

    Attributes:
        out: Directory under which run directories are made.
        run_id: Name of the run directory, the same on every rank of a job; empty for one made of time, host and
            process, or for ranks of one job of what they have in common.
        control: Trusted implementation: ``legacy``, ``new`` or ``package.module:Class``.
        candidate: The new one, named the same way.
        rtol: Relative tolerance, for stores that are lossy by design; None demands equal bits.
        atol: Absolute tolerance; given together with ``rtol`` or not at all.
        window_s: Longest time between two times that counters go to disk, seconds.
        window_ops: Most operations between two such times.
        history: Operations on a key that a divergence quotes.
        max_divergences: Divergences written in full; later ones are only counted, and the report says so.
        evidence_mb: Space for evidence tensors per rank, megabytes.
        evidence_each_mb: Space for the evidence of one divergence, megabytes.
        audit_share: Share of live entries whose contents are audited on each search, beside the full audits at
            clears, weight updates and close; 0 for none, 1 for all.
        overhead_budget: Share of the wall time that the harness may take before it audits less: only every n-th
            recurrent clear, up to one in 16, and as much less between. Audits at weight updates, episode ends and
            close are never left out, nor are lookups, unless ``sample_lookups``. 0 for no limit.
        sample_lookups: Whether lookups may be left uncompared too, all but one in up to 16, where rarer audits are not
            enough to keep to the budget. What was left out is counted as dropped: such a run never passes.
        digest_share: Share of both-sided equal hits whose contents are also held against what was stored.
        deferred: When entries are compared without waiting for the result: ``auto`` for those on a CUDA device,
            ``never``, or ``always``, which tests use.
        stall_warning_s: From when on a call of either side counts as hanging, seconds: a line on standard error and an
            event name side and operation; nothing is ended. 0 for never.
        on_divergence: ``record`` it, or record it and ``log`` a warning as well.
        record: What is recorded of each operation, so that it can be played again: ``digests`` of what is stored, in 32
            bytes an operation; ``all``, what is stored as well, each entry once; ``failing``, of the last 1,024 sets
            before a divergence; or ``off``, nothing.
        record_mb: Space for what is recorded, per rank, megabytes; beyond, the oldest of it gives way.
        selftest: Whether the harness first proves on planted faults that it would notice (some seconds, once a
            process). Without it no run passes the default gate.
        seed: Seed of the harness's private generator (order of the two calls, audit rotation).
    """

    out: str = "runs"
    run_id: str = ""
    control: str = "legacy"
    candidate: str = "new"
    rtol: float | None = None
    atol: float | None = None
    window_s: float = 5.0
    window_ops: int = 20_000
    history: int = 8
    max_divergences: int = 10_000
    evidence_mb: float = 64.0
    evidence_each_mb: float = 8.0
    audit_share: float = 0.05
    overhead_budget: float = 0.03
    sample_lookups: bool = False
    digest_share: float = 1.0
    deferred: Literal["auto", "never", "always"] = "auto"
    stall_warning_s: float = 60.0
    on_divergence: Literal["record", "log"] = "record"
    record: Literal["digests", "failing", "all", "off"] = "digests"
    record_mb: float = 1024.0
    selftest: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rtol is None) != (self.atol is None):
            raise ValueError("rtol and atol must be given together or not at all")
        for name in ("rtol", "atol", "window_s", "evidence_mb", "evidence_each_mb", "record_mb", "stall_warning_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        for name in ("window_ops", "history", "max_divergences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("audit_share", "digest_share", "overhead_budget"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.run_id and ("/" in self.run_id or "\\" in self.run_id or self.run_id in (".", "..")):
            raise ValueError(f"run_id must be a plain directory name, got {self.run_id!r}")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "cache_validation") -> ValidationConfig:
        """Build settings from a mapping; ``SettingsError`` names an unknown key and the nearest known one."""
        return from_mapping(cls, mapping, where)

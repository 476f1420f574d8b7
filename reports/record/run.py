"""A run as it was recorded: what the gate judges and the reports show.

Totals are always folded from the windows, for a finished run as for a killed one, so both are read the same way; a
summary that disagrees with its own windows gives itself away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reports.record.histogram import percentile
from reports.record.records import Divergence, Outcome, Window

State = Literal["complete", "in progress", "crashed", "unreadable"]


@dataclass(slots=True)
class Totals:
    """Windows added up.

    Attributes:
        ops: Operations by ``kind.pool``.
        lookups: Lookups by pool, then by outcome.
        divergences: Divergences by ``dimension|cause|fault``.
        coverage: What was exercised, by name.
        envs: Lookups by env id as text.
        latency_ns: Histograms by ``side.kind.pool``.
        bytes_held: Bytes by side, the last seen of each pair of each rank, added up.
        harness_ns: Time beyond the primary's own, nanoseconds.
        dropped: What was not looked at or not written, by reason.
        t_s: End of the last window.
    """

    ops: dict[str, int] = field(default_factory=dict)
    lookups: dict[str, dict[str, int]] = field(default_factory=dict)
    divergences: dict[str, int] = field(default_factory=dict)
    coverage: dict[str, int] = field(default_factory=dict)
    envs: dict[str, int] = field(default_factory=dict)
    latency_ns: dict[str, dict[str, int]] = field(default_factory=dict)
    bytes_held: dict[str, int] = field(default_factory=dict)
    harness_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    t_s: float = 0.0
    _held: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def add(self, window: Window) -> None:
        """Add one window."""
        add_counts(self.ops, window.ops)
        add_counts(self.divergences, window.divergences)
        add_counts(self.coverage, window.coverage)
        add_counts(self.envs, window.envs)
        add_counts(self.dropped, window.dropped)
        for into, tables in ((self.lookups, window.lookups), (self.latency_ns, window.latency_ns)):
            for name, counts in tables.items():
                add_counts(into.setdefault(name, {}), counts)
        self.harness_ns += window.harness_ns
        self.t_s = max(self.t_s, window.t_s)
        if window.bytes_held:
            # What is held now takes the place of what the same pair of the same rank held before.
            self._held[window.rank, window.cache] = window.bytes_held
            self.bytes_held = {}
            for sides in self._held.values():
                add_counts(self.bytes_held, sides)

    def outcomes(self) -> dict[str, int]:
        """Return lookups by outcome over all pools, every outcome present."""
        total = {outcome.value: 0 for outcome in Outcome}
        for counts in self.lookups.values():
            add_counts(total, counts)
        return total

    @property
    def n_lookups(self) -> int:
        """Lookups."""
        return sum(sum(counts.values()) for counts in self.lookups.values())

    @property
    def n_divergences(self) -> int:
        """Divergences, repeats included."""
        return sum(self.divergences.values())

    def divergences_by(self, position: int) -> dict[str, int]:
        """Return divergence counts by dimension (0), cause (1) or fault (2)."""
        found: dict[str, int] = {}
        for group, count in self.divergences.items():
            add_counts(found, {group.split("|")[position]: count})
        return found

    def hit_rate(self, pool: str | None = None) -> dict[str, float | None]:
        """Return the hit rate of each side from the outcomes alone, over one pool or all; None without lookups."""
        counts = self.outcomes() if pool is None else self.lookups.get(pool, {})
        answered = sum(counts.values()) - counts.get(Outcome.ERROR.value, 0)
        both = counts.get(Outcome.BOTH_HIT_EQUAL.value, 0) + counts.get(Outcome.BOTH_HIT_DIFFER.value, 0)
        rates: dict[str, float | None] = {}
        for side, only in (("control", Outcome.CONTROL_ONLY), ("candidate", Outcome.CANDIDATE_ONLY)):
            rates[side] = (both + counts.get(only.value, 0)) / answered if answered else None
        return rates

    def latency(self, side: str, operation: str, share: float) -> float | None:
        """Return a percentile of one side's time for one operation, nanoseconds; None without any."""
        return percentile(self.latency_ns.get(f"{side}.{operation}", {}), share)


class Timed(NamedTuple):
    """What both sides took in one window that has latencies.

    Attributes:
        control_ns: Time in the control's operations, nanoseconds.
        candidate_ns: Time in the candidate's.
        n: Operations that were timed, of the side of which fewer were.
    """

    control_ns: float
    candidate_ns: float
    n: int


@dataclass(slots=True)
class Run:
    """One run directory, read.

    Attributes:
        path: The directory.
        state: ``complete`` (orderly close of every rank), ``in progress``, ``crashed`` or ``unreadable``.
        manifest: ``run.json``, empty if there is none.
        summary: ``summary.json``, None if there is none.
        caches: The ``cache`` lines: shadowed pairs.
        windows: All windows, or where a run has very many, runs of neighbours of one pair added up: ``seq`` is then
            the first one's, and so are not all consecutive.
        divergences: All divergences written in full.
        events: The ``event`` lines, the first thousands of each name.
        n_events: How many events there are, by name.
        timed: What both sides took, window by window of those that have latencies.
        ranks: What each rank whose file is there says of itself; of rank 0 it is the manifest.
        digests: The digest of each rank's file of lines, empty where it never closed.
        problems: What could not be read, one sentence each; a run with problems never passes.
        totals: The windows added up. A killed process loses its last window, though not the divergences in it: where
            more were written in full than the windows count, these are the totals.
    """

    path: Path
    state: State
    manifest: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] | None = None
    caches: list[dict[str, Any]] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    n_events: dict[str, int] = field(default_factory=dict)
    timed: list[Timed] = field(default_factory=list)
    ranks: dict[int, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """What ``kv-lockstep conformance --out`` left: two caches held against their models on adversarial streams.

    Attributes:
        path: Its file.
        created: When it was made, seconds since 1970.
        control: Full class name of the trusted cache.
        candidate: Full class name of the cache on trial.
        source: Digest of the source that the candidate was built from, empty if unknown.
        seed: Seed of the streams.
        operations: Operations played.
        conforms: Whether both did what they declare.
        charged: What was charged that no declared policy implies, by side at fault.
        problem: Why it is no evidence, or empty.
    """

    path: Path
    created: float = 0.0
    control: str = ""
    candidate: str = ""
    source: str = ""
    seed: int = 0
    operations: int = 0
    conforms: bool = False
    charged: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""


def created(manifest: Mapping[str, Any]) -> float | None:
    """Return when a run began, seconds since 1970; None if its manifest does not say."""
    said = manifest.get("created")
    try:
        if isinstance(said, str):
            moment = datetime.fromisoformat(said.replace("Z", "+00:00"))
            return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(said, (int, float)) and math.isfinite(said):
            return float(said)
    except (ValueError, OverflowError):
        pass
    return None


def fold(windows: Iterable[Window]) -> Totals:
    """Add windows up."""
    total = Totals()
    for window in windows:
        total.add(window)
    return total


def summarise(totals: Totals, **about: Any) -> dict[str, Any]:
    """Lay totals out as ``summary.json``.

    Args:
        totals: The folded windows.
        about: ``schema, run_id, state, first_divergence, ...``: everything that is not a total.

    Returns:
        What ``json.dumps`` takes; see design.md section 4 for the fields that are promised.
    """
    wall_ns = int(totals.t_s * 1e9)
    latency = {
        name: {f"p{round(share * 100)}": percentile(counts, share) for share in (0.5, 0.9, 0.99)}
        | {"count": sum(counts.values())}
        for name, counts in totals.latency_ns.items()
    }
    return {
        **about,
        "ops": totals.ops,
        "lookups": totals.outcomes(),
        "lookups_by_pool": totals.lookups,
        "hit_rate": totals.hit_rate(),
        "divergences": {
            "total": totals.n_divergences,
            "by_dimension": totals.divergences_by(0),
            "by_cause": totals.divergences_by(1),
            "by_fault": totals.divergences_by(2),
        },
        "coverage": {**totals.coverage, "envs": totals.envs},
        "latency_ns": latency,
        "bytes_held": totals.bytes_held,
        "overhead": {
            "harness_ns": totals.harness_ns,
            "wall_ns": wall_ns,
            "share_of_wall": totals.harness_ns / wall_ns if wall_ns else None,
        },
        "dropped": totals.dropped,
    }


def add_counts(into: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add counts by name."""
    have = into.get
    for name, count in counts.items():
        into[name] = have(name, 0) + count

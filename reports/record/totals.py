"""What do windows add up to? For a finished run as for a killed one, so both are read the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from reports.record.histogram import percentile, total
from reports.record.records import COUNTS, LAST, NESTED, Window
from reports.record.words import DIFFERING, Outcome


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
        for name in COUNTS:
            if counts := getattr(window, name):
                add_counts(getattr(self, name), counts)
        for name in NESTED:
            tables = getattr(self, name)
            for part, counts in getattr(window, name).items():
                add_counts(tables.setdefault(part, {}), counts)
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
    def n_differing(self) -> int:
        """Lookups in which the two sides differed."""
        counts = self.outcomes()
        return sum(counts[outcome.value] for outcome in DIFFERING)

    @property
    def operations(self) -> list[str]:
        """The kinds of operation that have latencies, ``kind.pool``, sorted."""
        return sorted({name.partition(".")[2] for name in self.latency_ns})

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

    @classmethod
    def of(cls, latency_ns: Mapping[str, Mapping[str, int]]) -> Timed:
        """Add up what both sides took by the histograms of a window."""
        sides = [[h for name, h in latency_ns.items() if name.startswith(f"{s}.")] for s in ("control", "candidate")]
        (control_ns, n_control), (candidate_ns, n_candidate) = map(total, sides)
        return cls(control_ns, candidate_ns, min(n_control, n_candidate))


def fold(windows: Iterable[Window]) -> Totals:
    """Add windows up."""
    totals = Totals()
    for window in windows:
        totals.add(window)
    return totals


def joined(windows: Sequence[Window]) -> Window:
    """Add up windows of one pair of one rank, at least one, which follow each other."""
    if len(windows) == 1:
        return windows[0]
    totals = fold(windows)
    summed = {name: getattr(totals, name) for name in (*COUNTS, *NESTED, "harness_ns", "t_s")}
    said = {name: [getattr(window, name) for window in windows] for name in LAST}
    last = {name: next((one for one in reversed(ones) if one not in ({}, -1)), ones[0]) for name, ones in said.items()}
    return replace(windows[0], **summed, **last)


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
        "timed": Timed.of(totals.latency_ns)._asdict(),
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

"""What a rank says when it closes of all that it wrote: whatever one record says, another one bears out or contradicts.

Taken by who writes the lines, and again by who reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.record.totals import Totals
from reports.record.words import Cause

_MOST_KINDS = 2000  # beyond, those of a host that makes up ever new names are counted together
COUNTED = ("ops", "lookups_by_pool", "divergences", "coverage", "dropped", "overhead", "timed")  # of ``summarise``


@dataclass(slots=True)
class Inventory:
    """Of the lines of one rank.

    Attributes:
        ran: What ran: the manifest, or the ``rank`` line of a rank beyond the first.
        caches: The ``cache`` lines.
        lines: How many lines there are of each kind; events by name, divergences by their group.
        held: The most bytes that either side held at the end of a window, and the sum over windows, by shadowed pair.
    """

    ran: Mapping[str, Any] = field(default_factory=dict)
    caches: list[Mapping[str, Any]] = field(default_factory=list)
    lines: Counter[str] = field(default_factory=Counter)
    held: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in a line that can be read; a close says all this, and is no part of it."""
        kind = line["type"]
        if kind == "close":
            return
        named = {"event": ("event",), "divergence": ("dimension", "cause", "fault")}.get(kind, ())
        label = " ".join((kind, *(str(line[name]) for name in named)))
        self.lines[label if label in self.lines or len(self.lines) < _MOST_KINDS else kind] += 1
        if kind == "cache":
            self.caches.append(line)
        elif kind == "rank":
            self.ran = line
        elif kind == "window":
            sides = self.held.setdefault(line["cache"], {})
            for side, held in line.get("bytes_held", {}).items():
                most, total = sides.get(side, (0, 0))
                sides[side] = [max(held, most), total + held]

    def told(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of it, with the state and the totals of a summary of this rank, as it stands in a close."""
        counted = {name: summary[name] for name in COUNTED if name in summary}
        known = {"ran": self.ran, "caches": self.caches, "lines": self.lines, "held": self.held}
        return {**known, "state": summary.get("state"), "counted": counted}


def at_odds(totals: Totals) -> Iterator[str]:
    """Name counts that the operations don't bear out, which are counted by themselves."""
    ops, coverage = totals.ops, totals.coverage
    if any(totals.dropped.values()):
        return  # not every operation was looked at, so the run can't pass anyway
    sets = sum(count for name, count in ops.items() if name.startswith("set."))
    unfit = totals.divergences_by(1).get(Cause.BAD_ENV.value, 0)  # operations that are counted as nothing else
    by_layers = [count for name, count in coverage.items() if name.startswith("sets_of_")]
    by_pool = {pool: (sum(counts.values()), ops.get(f"get.{pool}", 0)) for pool, counts in totals.lookups.items()}
    held = [(f"lookups of {pool}", count, n_ops, 0) for pool, (count, n_ops) in by_pool.items()]
    held += [("sets by layers", sum(by_layers), sets, unfit)] if by_layers else []
    held += [(name, coverage.get(name, 0), sets, sets) for name in ("overwrites", "evictions", "ring_wraps")]
    clears = [name for name in coverage if name.startswith("clears_")]
    held += [(name, coverage[name], n, n) for name in clears for n in [ops.get(name.replace("clears_", "clear."), 0)]]
    asked_by_env = ops.get("get.init", 0) + ops.get("get.hierarchical", 0)
    held += [("lookups by env", sum(totals.envs.values()), asked_by_env, asked_by_env)]
    for what, count, n_ops, fewer in held:
        if n_ops and not n_ops - fewer <= count <= n_ops:
            yield f"{count:,} {what.replace('_', ' ')} are counted in {n_ops:,} such operations"

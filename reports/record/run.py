"""A run as it was recorded: what the gate judges and the reports show.

Totals are always folded from the windows, for a finished run as for a killed one, so both are read the same way; a
summary that disagrees with its own windows gives itself away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from reports.record.records import Divergence, Window
from reports.record.totals import Timed, Totals

State = Literal["complete", "in progress", "crashed", "unreadable"]


@dataclass(slots=True)
class Run:
    """One run directory, read.

    Attributes:
        path: The directory.
        state: ``complete`` (orderly close of every rank), ``in progress``, ``crashed`` or ``unreadable``.
        manifest: ``run.json``, empty if there is none.
        summary: ``summary.json``, None if there is none.
        caches: The ``cache`` lines: shadowed pairs.
        windows: All windows, those that were still open among them; where a pair has very many, neighbours are added
            up, and ``seq`` is the first one's.
        divergences: All divergences written in full.
        events: The ``event`` lines, the first thousands of each name.
        n_events: How many events there are, by name.
        timed: What both sides took, window by window of those that have latencies.
        most_held: The most bytes that each side held at the end of a window, by rank and shadowed pair.
        ranks: What each rank whose file is there says of itself; of rank 0 it is the manifest.
        fates: Of each rank that there should be, how far it came, such as ``closed`` or ``missing``.
        digests: The digest of each rank's file of lines, empty where it never closed.
        course: What was asked and stored, as text to compare; empty if that was not recorded as a whole.
        ended: How the host ended, where there is something to say: what follows "the host ended".
        lost: What is not on disk and why, such as ``73 lines lost: No space left on device``; empty for nothing.
        problems: What could not be read, one sentence each; a run with problems never passes.
        totals: The windows added up. A killed process loses its last counts, though not the divergences among them:
            where more were written in full than the windows count, these are the totals.
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
    most_held: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    ranks: dict[int, dict[str, Any]] = field(default_factory=dict)
    fates: dict[int, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    course: str = ""
    ended: str = ""
    lost: str = ""
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

"""Drills as they were recorded: what ``kv-lockstep drill`` writes and the gate judges.

On disk, one sealed JSON file ``drill.json`` in a directory of its own beside the runs: ``schema, kind`` ("drill"),
``drill_id, created, state, host, command, git, versions, candidates`` (``kind, source`` of each), ``exercised, never``,
then ``faults`` (each a ``Drilled``). The runs of each planted fault lie below it, two folders deep, where nobody takes
them for runs of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

DRILL_FILE: Final = "drill.json"
DRILL_KIND: Final = "drill"


class DrillOutcome(str, Enum):
    """What came of one planted fault."""

    FOUND = "found"  # the run failed, with a cause that fits, charged to the candidate
    MISNAMED = "misnamed"  # noticed, but not so
    MISSED = "missed"
    NOT_EXERCISED = "not exercised"  # it could change nothing there
    NOT_PLANTED = "not planted"  # no candidate can have it
    NO_RESULT = "no result"


WRONG: Final = (DrillOutcome.MISNAMED, DrillOutcome.MISSED)


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of one planted fault on a host.

    Attributes:
        name: What was planted.
        family: Its family.
        outcome: What came of it.
        wanted: Causes that fit.
        named: What was charged that is not charged without the fault, most frequent first.
        operation: Ordinal of the operation that showed it first, -1 for an audit; None if none did.
        operations: Cache operations of its run.
        acts: How often the fault did something; None if the run does not say.
        why: Why it showed nothing, or empty.
        seconds: How long its run took.
        folder: Where its run is, in the drill's directory; empty if there was none.
    """

    name: str
    family: str
    outcome: DrillOutcome
    wanted: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    operation: int | None = None
    operations: int = 0
    acts: int | None = None
    why: str = ""
    seconds: float = 0.0
    folder: str = ""


@dataclass(slots=True)
class DrillRecord:
    """One drill.

    Attributes:
        path: Its directory.
        state: ``running``, ``complete``, ``interrupted`` or ``unreadable``.
        manifest: What else ``drill.json`` says.
        faults: What came of each planted fault.
        problems: Why it is no evidence, one sentence each.
    """

    path: Path
    state: str = "running"
    manifest: dict[str, Any] = field(default_factory=dict)
    faults: list[Drilled] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def of(self, *outcomes: DrillOutcome) -> list[Drilled]:
        """Return the faults with one of these outcomes."""
        return [one for one in self.faults if one.outcome in outcomes]

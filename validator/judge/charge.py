"""What was found, where, and who is charged with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from reports.record.records import LeafDifference
from reports.record.words import Cause, Dimension, Fault
from shadow.operation import Observation, Pool
from validator.judge.side import Side
from validator.judge.words import Kind, say

_NO_FACTS: Mapping[str, Any] = MappingProxyType({})


class Finding(NamedTuple):
    """What is wrong, of one side or of the host.

    Attributes:
        kind: What it is, one of ``validator.judge.words``.
        facts: What its clause names, as it is.
        note: What is to be said beside it.
    """

    kind: Kind
    facts: Mapping[str, Any] = _NO_FACTS
    note: str = ""


class Charge(NamedTuple):
    """One thing that must not have happened, and who did it.

    Attributes:
        finding: What.
        fault: Who.
        who: Subject of its sentence; empty where the finding is a whole one.
        leaves: Tensors that differ.
        by_policy: Whether both sides do what they declare, and differ because of that.
    """

    finding: Finding
    fault: Fault
    who: str = ""
    leaves: tuple[LeafDifference, ...] = ()
    by_policy: bool = False

    @property
    def dimension(self) -> Dimension:
        """In what respect."""
        return self.finding.kind.dimension

    @property
    def cause(self) -> Cause:
        """Why."""
        return self.finding.kind.cause

    @property
    def explanation(self) -> str:
        """What happened, in one sentence."""
        return say(*self.finding[:2], self.who, self.finding.note)

    @property
    def group(self) -> str:
        """Label under which it is counted: ``dimension|cause|fault``."""
        return f"{self.dimension.value}|{self.cause.value}|{self.fault.value}"


class Place(NamedTuple):
    """Where a charge was raised.

    Attributes:
        op_index: Ordinal of the operation, -1 if it was none in particular.
        operation: ``kind.pool`` or ``audit``.
        pool: Pool.
        env_id: Environment, or None.
        key: Cache key, or None.
        outcome: Number of the lookup outcome, or None.
    """

    op_index: int
    operation: str
    pool: Pool
    env_id: int | None = None
    key: int | None = None
    outcome: int | None = None

    @classmethod
    def of(cls, seen: Observation, outcome: int | None = None) -> Place:
        """Return the place of an observation."""
        return cls(seen.op_index, seen.operation.name, seen.operation.pool, seen.env_id, seen.key, outcome)


def against(side: Side, finding: Finding, leaves: tuple[LeafDifference, ...] = ()) -> Charge:
    """Charge a side with a finding."""
    return Charge(finding, side.fault, f"The {side.label}", leaves)


def of_nobody(kind: Kind, facts: Mapping[str, Any] = _NO_FACTS, fault: Fault = Fault.UNKNOWN) -> Charge:
    """Charge no side, or the host; the finding is a whole sentence."""
    return Charge(Finding(kind, facts), fault)

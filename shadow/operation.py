"""What crosses the cache boundary: operations, and what both sides did with each.

This is the one narrow stream of the project. Hosts produce operations, the shadow turns each into an observation, and
everything after it (comparison, judgement, reports, later replay) consumes observations and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from shadow.memory.regions import Regions

make: Any = tuple.__new__  # makes a NamedTuple of a tuple of all its fields, at half the price of its constructor

Kind = Literal["get", "has", "set", "delete", "take", "clear", "append", "rearrange"]
Pool = str  # name of a pool, or of what a lookup or a clear covers; which there are, the shape of the cache says
Side = Literal["control", "candidate"]


class Given(tuple[Any, ...]):
    """What a method is given that takes neither key nor entry, in order: whole numbers, texts, tuples of numbers."""

    __slots__ = ()


class Operation(NamedTuple):
    """One kind of call; the door of each shape of cache lists its own.

    Attributes:
        method: Name of the method that is called on both sides.
        kind: What it does; ``has`` answers whether there is an entry, ``take`` answers an entry and removes it.
        pool: Where.
        name: ``kind.pool``, the label in counters and reports; one that takes is counted as a lookup.
        absent: What is raised where there is no entry, which is a miss and no error; the host receives it all the same.
    """

    method: str
    kind: Kind
    pool: Pool
    name: str
    absent: tuple[type[BaseException], ...] = ()


class Observation(NamedTuple):
    """What both sides did with one operation. Immutable; made once per operation.

    A named tuple and not a dataclass: it is made on the hot path, and this costs a third of a frozen dataclass.

    Attributes:
        op_index: Ordinal of the operation on this cache, from 0.
        operation: What was called.
        env_id: Environment, or None where the operation has none.
        key: 64-bit cache key, or None for a clear.
        control: What the control returned (an entry, None for a miss, a slot number for a set).
        candidate: The same of the candidate.
        control_error: What the control raised instead, or None.
        candidate_error: The same of the candidate.
        control_ns: Time the control took, nanoseconds.
        candidate_ns: The same of the candidate.
    """

    op_index: int
    operation: Operation
    env_id: int | None
    key: int | None
    control: Any
    candidate: Any
    control_error: BaseException | None
    candidate_error: BaseException | None
    control_ns: int
    candidate_ns: int


class Observer(Protocol):
    """Where a shadow sends what it sees. The validator implements it; the shadow knows no more of the validator.

    Attributes:
        harness_ns: Time that operations, and what the host tells of, took beyond the primary's own, nanoseconds.
        state_looks: Operations around which process-wide state was looked at; the shadow adds to it.
        watching: Whether it wants to see lookups before they are done; other operations it always sees.
        lock: Held during every operation, and by whoever else reads or changes what an operation does.
    """

    harness_ns: int
    state_looks: int
    watching: Any
    lock: Any

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, regions: Regions
    ) -> Any:
        """See an operation before either side does.

        Args:
            operation: What is about to be called.
            env_id: Environment, or None.
            key: Cache key, or None.
            entry: What the host stores, as the primary will get it; None where nothing is stored.
            staged: The private copy that the secondary will get; None where nothing is stored.
            regions: Where both regions, each if it is dense.

        Returns:
            A token, which ``observed`` is given back.
        """

    def observed(self, observation: Observation, token: Any) -> None:
        """See what both sides did; the token is what ``before`` returned of this operation, None if it failed."""

    def harness_failed(self, step: str, error: Exception) -> None:
        """Learn that the harness itself failed, in which of its steps and how; the host never does."""

    def advised(self, operation: Operation, env_id: int | None) -> None:
        """Learn that a set passes more than key and entry, such as a priority, by which the sides may go."""

    def passed_over(self, why: str) -> None:
        """Learn that something is stored that can't be compared, and why not."""

    def unobserved(self, method: str) -> None:
        """Learn that the host called a method of the primary that is no operation; what it holds may be changed."""

    def torn(self, cut: BaseException) -> None:
        """Learn that an interrupt ended an operation half-way, perhaps on one side only."""

    def used_in_fork(self) -> None:
        """Learn, in a forked child, that an operation was made there, which nobody watched."""

    def meddled(self, changed: list[str], by_primary: bool, left: list[str]) -> None:
        """Learn that a side changed process-wide state, by name.

        Args:
            changed: What it changed.
            by_primary: Whether that was the primary, whose changes stay, as they would without validation.
            left: What could not be put back.
        """

    def misbehaved(self, method: str, what: BaseException | str) -> None:
        """Learn what the secondary raised, or what odd thing it answered, in a method that is no operation."""

    def copied(self, control: Any, candidate: Any) -> Observer:
        """Return the observer for a deep copy of the shadow (a target network, say)."""

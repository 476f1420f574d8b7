"""What every door is: one cache to the host, two underneath, each operation on both."""

from __future__ import annotations

import copy
import threading
from typing import Any, ClassVar

from shadow.operation import Observer, Operation
from shadow.wrapper.both import LOOK_FIRST, Both
from shadow.wrapper.forks import tell_in_children
from shadow.wrapper.likeness import Likeness
from shadow.wrapper.unpicklable import Unpicklable


class Door(Unpicklable, Likeness):
    """Sends every operation to both sides and answers with the primary's own object.

    The host can't tell it from the primary alone: it receives the very object the primary returned and the exception
    the primary raised. The secondary works on private copies of what the host stores; what it raises is recorded and
    goes no further, and neither does a failure of the observer. Which side is called first is drawn for each operation
    from a private generator, so that neither always finds the processor's caches warm.

    Args:
        control: The trusted cache.
        candidate: The new one.
        observer: Told of every operation.
        primary: ``control`` or ``candidate``: whose answers the host receives.
        seed: Seed of the private generator.
        look_first: Operations of each kind around which all state of the process is looked at.
        reuses: Whether the secondary is given the same private copy again and again; False if it keeps what it is
            given, as it declares.

    Raises:
        ValueError: If ``primary`` is neither, or both sides are one object.
    """

    _operations: ClassVar[tuple[Operation, ...]]  # of each door
    _door: ClassVar[type[Door]]  # the door itself, of which an instance's class is a subclass

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "_operations" in vars(cls):
            cls._door = cls

    def __init__(
        self,
        control: Any,
        candidate: Any,
        observer: Observer,
        primary: str = "control",
        seed: int = 0,
        look_first: int = LOOK_FIRST,
        reuses: bool = True,
    ) -> None:
        if primary not in ("control", "candidate"):
            raise ValueError(f"primary must be 'control' or 'candidate', got {primary!r}")
        if control is candidate:
            raise ValueError("control and candidate are the same object; it would only be compared with itself")
        self._control = control
        self._candidate = candidate
        self._observer = observer
        self._control_is_primary = primary == "control"
        self._primary = control if self._control_is_primary else candidate
        self._secondary = candidate if self._control_is_primary else control
        self._seed = seed
        self._lock = observer.lock
        # What is hot is in a plain object: looking up attributes of one that passes them on is slow.
        self._look_first = look_first
        self._reuses = reuses
        self._both = Both(
            self._primary,
            self._secondary,
            observer,
            self._control_is_primary,
            self._operations,
            seed,
            look_first,
            reuses,
        )
        self._run = self._both.run
        tell_in_children(self)
        self._made = True  # from here on what the host sets is the primary's

    @property
    def observer(self) -> Observer:
        """Who is told of every operation."""
        told: Observer = self._observer
        return told

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with self._lock:
            own = copy.deepcopy(self._primary, memo)
            if own is self._primary:  # one for all: then the host has this shadow in its copy too
                return self
            other, problem = self._both.aside(copy, "deepcopy", (self._secondary, dict(memo)))
            what = "itself" if other is self._secondary else "nothing" if other is None else ""
            if problem is not None or what:
                self._observer.misbehaved("__deepcopy__", problem or what)
                return own
            sides = (own, other) if self._control_is_primary else (other, own)
            try:
                observer = self._observer.copied(*sides)
                primary = "control" if self._control_is_primary else "candidate"
                clone = self._door(*sides, observer, primary, self._seed, self._look_first, self._reuses)
            except Exception as error:
                self._observer.harness_failed("copied", error)
                return own
            if self._run == self._both.run_alone:
                clone.in_forked_child()
            return clone

    def in_forked_child(self) -> None:
        """Become the primary alone: nobody watches in a forked child, and the first operation there says so."""
        self._lock = self._observer.lock = threading.RLock()
        self._run = self._both.run_alone

    def __repr__(self) -> str:
        control, candidate, primary = (type(e).__name__ for e in (self._control, self._candidate, self._primary))
        return f"{self._door.__name__}(control={control}, candidate={candidate}, primary={primary})"

"""The case of one shadowed pair, whatever its shape: both sides, and what they are charged with.

Everything that looks at the pair stands on this, and this on none of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from reports.record.records import Divergence
from reports.record.words import ONLY_COUNTED
from shadow.operation import Operation
from shadow.switch import HostPromises
from validator.config import ValidationConfig
from validator.entries.closeness import Closeness
from validator.entries.compare import Tolerance
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.counters import OUTCOMES, Counters
from validator.judge.ledger import Ledger
from validator.judge.side import Side
from validator.judge.words import key_text, told
from validator.models.places import Places


class Sink(Protocol):
    """Where what was found goes on record; the session's recorder implements it.

    Attributes:
        env_step: Environment steps so far, -1 if the host did not say.
        train_iter: Training iteration, -1 if the host did not say.
    """

    env_step: int
    train_iter: int

    def diverged(self, divergence: Divergence, answers: tuple[Any, Any]) -> bool:
        """Record one divergence, with both answers as evidence; return False if it could only be counted."""

    def event(self, name: str, detail: str = "") -> None:
        """Note what happened."""

    def harness_failed(self, step: str, error: Exception) -> None:
        """Note that the harness itself failed, and at what."""


class Pairing(NamedTuple):
    """Two caches that are to be compared.

    Attributes:
        name: What the report calls them.
        control: Trusted cache.
        candidate: New cache.
        primary: ``control`` or ``candidate``: whose answers the host receives.
        config: Settings.
        promises: What the host promises about its own clears; None for everything.
    """

    name: str
    control: Any
    candidate: Any
    primary: str
    config: ValidationConfig
    promises: HostPromises | None = None


S = TypeVar("S", bound=Side)


class Case(Generic[S]):
    """What is known of one pair; whoever makes one says who stands against whom before anything is charged.

    Args:
        pairing: The two caches.
        sink: Where what is found goes.
        places: The pools of their shape.
        operations: Its operations.

    Attributes:
        control: The trusted side.
        candidate: The new side.
        sides: Both, in this order.
        primary: Whose answers the host receives.
        secondary: The other one.
        env_num: Number of environments, None where nobody says it.
        assumed: What had to be assumed of them, one sentence each.
        tolerance: When unequal bits still count as equal; None for never.
        closeness: How far apart they were then.
        weight_version: Weight updates so far.
        searches: Tree searches begun so far.
        episodes: Episodes ended so far, by env.
        now: Ordinal of the operation that is under way, or comes next.

    """

    env_num: int | None = None

    def __init__(
        self,
        pairing: Pairing,
        sink: Sink,
        places: Places,
        operations: Iterable[Operation],
    ) -> None:
        config = pairing.config
        self._early: list[tuple[str, Finding, BaseException | None]] | None = []  # until there is anything to charge
        self.name = pairing.name
        self.config = config
        self.sink = sink
        self.places = places
        self.promises = pairing.promises or HostPromises()
        self.assumed: list[str] = []
        self.tolerance = None if config.rtol is None or config.atol is None else Tolerance(config.rtol, config.atol)
        self.closeness = Closeness(self.tolerance)
        self.counters = Counters(operations)
        self.ledger = Ledger(self.counters, config.history, places)
        self.now = 0
        self.weight_version = 0
        self.searches = 0
        self.episodes: dict[int, int] = defaultdict(int)

    def between(self, control: S, candidate: S, primary: str) -> None:
        """Say who stands against whom; ``primary`` names one of them."""
        self.control, self.candidate = self.sides = control, candidate
        self.primary = control if primary == "control" else candidate
        self.secondary = self.other(self.primary)

    def other(self, side: S) -> S:
        """Return the other side."""
        return self.candidate if side is self.control else self.control

    def charge(
        self,
        charge: Charge,
        place: Place,
        answers: tuple[Any, Any] = (None, None),
        errors: tuple[BaseException | None, BaseException | None] = (None, None),
    ) -> None:
        """Count a divergence, and record it in full unless this very fault is on record already."""
        is_news = self.ledger.is_news(charge, place)
        self.follow(charge, place)
        if not is_news:
            return
        env_id, key = place.env_id, place.key
        divergence = Divergence(
            id=-1,  # the recorder's to give
            cache=self.name,
            op_index=place.op_index,
            operation=place.operation,
            pool=place.pool,
            env_id=env_id,
            key=None if key is None else key_text(key),
            outcome=None if place.outcome is None else OUTCOMES[place.outcome],
            dimension=charge.dimension,
            cause=charge.cause,
            fault=charge.fault,
            explanation=charge.explanation,
            leaves=charge.leaves,
            history=self.ledger.history(env_id, key),
            control_error=_error_text(errors[0]),
            candidate_error=_error_text(errors[1]),
            train_iter=self.sink.train_iter,
            env_step=self.sink.env_step,
            episode=-1 if env_id is None else self.episodes.get(env_id, 0),
            weight_version=self.weight_version,
        )
        if not self.sink.diverged(divergence, answers):
            self.counters.dropped[ONLY_COUNTED] += 1

    def follow(self, charge: Charge, place: Place) -> None:
        """Note what follows from a charge beyond the key that it was raised at."""

    def misbehaved(self, name: str, method: str, what: BaseException | str) -> None:
        """Charge a side with what it raised, or the odd thing that it answered, in a method that is no operation."""
        if isinstance(what, str):
            self._charge_side(name, Finding(words.ODD_ANSWER, {"what": what, "method": method}))
        else:
            self._charge_side(name, Finding(words.RAISED_IN, {"error": type(what).__name__, "method": method}), what)

    def meddled(self, name: str, changed: list[str], note: str) -> None:
        """Charge a side with having changed process-wide state."""
        self._charge_side(name, Finding(words.PROCESS_CHANGED, {"what": ", ".join(changed)}, note))

    def charge_early(self) -> None:
        """Charge what was met when both sides were met first, before anything could go on record."""
        early, self._early = self._early, None
        for each in early or ():
            self._charge_side(*each)

    def _charge_side(self, name: str, finding: Finding, error: BaseException | None = None) -> None:
        if self._early is not None:
            self._early.append((name, finding, error))
            return
        side, errors = (self.control, (error, None)) if name == "control" else (self.candidate, (None, error))
        side.wary = side.wary or finding.kind is words.PROCESS_CHANGED
        self.charge(against(side, finding), Place(-1, "audit", "all"), errors=errors)

    def harness_failed(self, step: str, error: Exception) -> None:
        """Count a failure of the harness itself; such a run can't pass."""
        self.counters.dropped["harness faults"] += 1
        self.sink.harness_failed(step, error)


def _error_text(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {told(error)}"[:4000]

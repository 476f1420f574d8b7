"""The case of one shadowed pair: both sides, what is known of them, and what they are charged with.

Everything that looks at the pair stands on this, and this on none of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from reports.record.records import Divergence
from reports.record.words import ONLY_COUNTED, Cause, Dimension
from shadow.entries import cloned
from shadow.lent import readable
from shadow.operation import Pool
from shadow.outside import from_outside
from shadow.switch import HostPromises
from validator.config import ValidationConfig
from validator.entries.compare import Tolerance
from validator.entries.readable import entry_leaves
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against
from validator.judge.counters import OUTCOMES, Counters
from validator.judge.ledger import Ledger
from validator.judge.promises import policies
from validator.judge.referee import Referee
from validator.judge.side import Digests, SideView
from validator.judge.words import key_text, told
from validator.models.stored import Stored

_OTHER_KEYS = (Dimension.PRESENCE, Dimension.LIVE_KEYS, Dimension.ERROR)  # after which the sides hold different ones


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


class Case:
    """What is known of one pair.

    Args:
        name: What the report calls it.
        control: Trusted cache.
        candidate: New cache.
        primary: Whose answers the host receives.
        config: Settings.
        sink: Where what is found goes.
        digest: Digests the leaves of an entry, wherever they lie.
        promises: What the host promises about its own clears; None for everything.

    Attributes:
        assumed: What had to be assumed of the sides, one sentence each.
        weight_version: Weight updates so far.
        searches: Tree searches begun so far.
        episodes: Episodes ended so far, by env.
        one_store: Sides and pools that are known to be kept in one store with another pool, and the charge for it.
        now: Ordinal of the operation that is under way, or comes next.
        in_place: Whether dense entries of host memory are looked at where they lie.
        agreed: Whether a pool of a side that declares something was ever judged by agreement.
        models_replaced: Called where the models of pools may have become others; of ``Sets``.

    """

    def __init__(
        self,
        name: str,
        control: Any,
        candidate: Any,
        primary: str,
        config: ValidationConfig,
        sink: Sink,
        digest: Digests,
        promises: HostPromises | None = None,
    ) -> None:
        self._early: list[tuple[str, Finding, BaseException | None]] | None = []  # until there is anything to charge
        control_policy, candidate_policy, env_num, self.assumed = policies(control, candidate, self)
        self.name = name
        self.config = config
        self.sink = sink
        self.promises = promises or HostPromises()
        self.env_num = env_num
        self.control = SideView("control", control, control_policy, env_num, digest, self)
        self.candidate = SideView("candidate", candidate, candidate_policy, env_num, digest, self)
        self.sides = self.control, self.candidate
        self.primary = self.control if primary == "control" else self.candidate
        self.secondary = self.other(self.primary)
        tolerance = None if config.rtol is None or config.atol is None else Tolerance(config.rtol, config.atol)
        self.counters = Counters()
        self.ledger = Ledger(self.counters, config.history)
        self.referee = Referee(self.control, self.candidate, tolerance, self.ledger)
        self.in_place = config.deferred != "always"
        self.agreed = False
        self.models_replaced: Callable[[], None] = lambda: None
        self.one_store: dict[tuple[str, Pool, int | None], Charge] = {}
        self.now = 0
        self.weight_version = 0
        self.searches = 0
        self.episodes: dict[int, int] = defaultdict(int)

    def other(self, side: SideView) -> SideView:
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
        self._part(charge, place)
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

    def evicted(self, side: SideView) -> None:
        """Count an entry that gave way."""
        self.counters.coverage[side.evictions] += 1
        if side is self.candidate:
            self.counters.coverage["evictions"] += 1

    def agree(self, pool: Pool, env_id: int | None) -> None:
        """Judge a pool of both sides by agreement until it is cleared: it may hold what no set explains."""
        for side in self.sides:
            side.model.agree(pool, env_id, keep=True)
        self.agreed = True
        self.models_replaced()

    def lose_track(self, side: SideView) -> None:
        """Take it that nobody knows what a side holds, of any pool, until it is set again or cleared."""
        for pool, env_id, _ in side.model.pools():
            side.model.agree(pool, env_id, keep=False)
        self.agreed = True
        self.models_replaced()

    def repair(
        self, side: SideView, charge: Charge, pool: Pool, env_id: int | None, key: int, expected: Stored | None
    ) -> None:
        """Bring both sides into agreement again after a charge against one, or note that they are apart.

        A secondary that answers wrong values under a live key is given the right ones of the primary. Everything else
        (the primary itself, keys that should be gone and can't be deleted through the interface, rings) stays as it is
        and is known to be apart.

        Args:
            side: The side at fault.
            charge: The charge.
            pool: Pool where it happened; never ``hierarchical``.
            env_id: Environment, or None.
            key: Key.
            expected: What the side should hold there, or None.
        """
        if charge.cause is Cause.ONE_STORE:
            return
        if charge.dimension in _OTHER_KEYS:
            self.ledger.set_keys_apart(pool, env_id, charge)
        if expected is None or side is self.primary or not self._repaired(side, expected):
            self.ledger.set_apart(side.name, pool, env_id, key, charge)

    def _part(self, charge: Charge, place: Place) -> None:
        """Note what follows from a charge beyond the key that it was raised at."""
        side = next((side for side in self.sides if side.fault is charge.fault), None)
        facts = charge.finding.facts
        if side is None:
            return
        if charge.finding.kind is words.ONE_STORE:
            for pool, env_id in (facts["pool"], facts["other_pool"]):
                self.ledger.keys_part(side.name, pool, env_id, None, charge)
        elif charge.finding.kind is words.CLEARED_TOO_MUCH:
            pool, env_id = facts["pool"]
            model = side.model.pool(pool, env_id)
            for stored in [each for each in model.live() if each.op_index < facts["op"] and each.key != place.key]:
                if side.read(pool, env_id, stored.key) is None:
                    model.rebase(stored.key, None)  # it went with that clear: no defect of its own

    def _repaired(self, side: SideView, expected: Stored) -> bool:
        """Give a side the entry that the other one holds, and tell whether it then holds what it should."""
        pool, env_id, key = expected.pool, expected.env_id, expected.key
        if side.model.policy.kind in ("legacy_ring", "legacy_dict"):  # there a set shifts ages
            return False
        right = self.other(side).read(pool, env_id, key)
        found = entry_leaves(right)
        if found is None or side.digest(found) != expected.digest:
            return False
        try:
            held_before = side.read(pool, env_id, key) is not None
            copy = cloned(readable(right))
            getattr(side.cache, f"set_{pool}_cache")(*((env_id,) if pool == "init" else ()), key, copy)
            if not held_before:
                model = side.model.pool(pool, env_id)
                model.rebase(key, None)  # it comes back as the youngest
                model.set(key, expected)
            return side.intact(expected) is not None
        except BaseException as raised:  # whatever a broken side raises: it stays apart, and is known to
            if from_outside(raised):
                raise
            return False

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

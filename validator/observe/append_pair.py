"""Observes one pair of append caches: counts every operation, and hands it to whoever looks at its kind."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from shadow.memory.regions import Regions
from shadow.operation import Observation, Operation
from shadow.wrapper.doors.append import OPERATIONS, Door, Held
from validator.judge.case import Case, Pairing
from validator.judge.charge import Place
from validator.models.appended import AppendedModel, both_digests
from validator.models.places import Places
from validator.observe.appends import Appends, Pending
from validator.observe.contents import Contents
from validator.observe.layers import LayersSide
from validator.observe.pair import CHECK_CLOCK_EVERY, Pair, Session
from validator.observe.rearrangements import Rearrangements
from validator.observe.standing import Standing
from validator.observe.states import States
from validator.replay.appending import WITH_MORE, appended, plain

PLACES = Places(single=("layers",))
_SPARED = ("overwrites", "evictions", "clears", "weight_updates", "every_env")  # what no append cache has
_LOOKED_AT = (
    "of an append what is new is compared, and a share of all that is held, taken in turns; all of it at the first "
    "append after anything else was done, and at the end"
)
_NO_STATES = "appends of what is no keys and values"


class AppendPair(Pair):
    """Observer of one pair of append caches.

    Args:
        pairing: The two caches.
        session: Where they belong.
        windows: The window of each layer, None for one that keeps everything; None where nobody says them.
        strict: Whether a primary that holds what the secondary can't be given is refused; else it is not comparable.
    """

    case: Case[LayersSide]
    door: Door | None = None

    def __init__(
        self,
        pairing: Pairing,
        session: Session,
        windows: tuple[int | None, ...] | None = None,
        strict: bool = True,
    ) -> None:
        case: Case[LayersSide] = Case(pairing, session, PLACES, OPERATIONS.values())
        caches, primary = {"control": pairing.control, "candidate": pairing.candidate}, pairing.primary
        kinds = {side: type(cache).__name__ for side, cache in caches.items()}
        caches[primary] = self.held = Held(caches[primary])
        sides = [LayersSide(side, cache, kinds[side], case) for side, cache in caches.items()]
        case.between(sides[0], sides[1], primary)
        super().__init__(case, session)
        self.model = AppendedModel()
        self.standing = Standing(case, self.model, windows)
        self.contents = Contents(self.standing)
        self.appends = Appends(self.standing, self.contents)
        self.states = States(self.standing)
        self.rearrangements = Rearrangements(self.standing, self.contents, self.appends, self.states)
        self.windows = windows
        self._ended = False
        self._strict = strict
        self._more = False
        self._before: list[int] = []  # tokens that each layer of the primary had seen when it was met

    # -- the observer's side ------------------------------------------------------------------------------------------

    def before(
        self, operation: Operation, env_id: int | None, key: int | None, entry: Any, staged: Any, regions: Regions
    ) -> Any:
        """Digest what is about to be appended; keep what a rearrangement is told."""
        if self.case.now == 0:
            self.case.charge_early()
        self._more = len(entry) + len(getattr(entry, "named", ())) > 3  # arguments than an update needs
        if operation.kind == "append" and operation.method == "update":
            states, own = _states(entry), _states(staged)
            if states is None or own is None or type(key) is not int:
                return None
            pending = self.appends.begin(key, states, own)
            if self.keep is not None and (digest := appended(pending)) is not None:
                self.keep(digest, own)
            return pending
        if operation.kind == "rearrange":
            self.contents.all_as_left()
        if operation.kind == "rearrange" or type(key) is int:
            self.states.begin(key)
        return staged

    def observed(self, seen: Observation, token: Any) -> None:
        """Count and judge one operation; ``token`` is what ``before`` returned."""
        op_index, operation, _, key, _, _, _, _, control_ns, candidate_ns = seen
        self.case.now = op_index + 1
        if self.note is not None:
            stored = appended(token) if operation.kind == "append" else None
            given = key if operation.kind == "append" else plain(token, getattr(self.held.own, operation.method))
            self.note((op_index, operation, WITH_MORE if self._more else None, given, stored))
        self._times[operation.name] += (control_ns, candidate_ns)
        if operation.kind == "rearrange":
            self.rearrangements.rearranged(seen, token)
            if self.oracle is not None:
                self.oracle.looked_up(seen)
        elif operation.method != "update" and type(key) is int:
            self.states.stated(seen, key, token)
        elif isinstance(token, Pending):
            assert key is not None
            self.appends.appended(seen, key, token)
        else:
            self.counters.dropped[_NO_STATES] += 1
        if operation.kind == "append" and type(key) is int:
            self.contents.stamp(key)
        if not (op_index + 1) % CHECK_CLOCK_EVERY:
            self.look_at_the_clock()

    def unobserved(self, method: str) -> None:
        """Never happens: the host holds the primary itself, and what it writes there is found by its version."""

    def copied(self, control: Any, candidate: Any) -> AppendPair:
        """Register the observer of a deep copy, which begins with what the original holds."""
        fork = self._session.fork(self, control, candidate)
        assert isinstance(fork, AppendPair)
        fork.model.layers.update(copy.deepcopy(self.model.layers))
        fork.standing.begin_as(self.standing)
        fork.contents.begin_as(self.contents)
        fork.states.begin_as(self.states)
        fork.appends.all_due()
        for own, theirs in zip(self.case.sides, fork.case.sides, strict=True):
            theirs.begin_as(own)
        self.counters.coverage["deep copies"] += 1
        return fork

    def audit(self) -> None:
        """Look at everything that both sides hold, unless an interrupt left them half-way."""
        self.case.charge_early()
        if not (self._torn or self._ended):
            place = Place(self.case.now, "audit", "layers")
            self.contents.audit(place)
            self.states.audit(place)

    def look_before(self) -> None:
        """Refuse a secondary that holds something, and a primary whose secondary can't be given the same.

        Raises:
            ValueError: In one sentence.
        """
        primary, secondary = self.case.primary, self.case.secondary
        if any(secondary.lengths()) or secondary.stateful():
            raise ValueError(
                f"the {secondary.label} holds something already: give a new one, which is filled from the other side"
            )
        self._before = primary.lengths()
        unreadable = primary.stateful() + [
            layer for layer, seen in enumerate(self._before) if seen and primary.all_held(layer, seen) is None
        ]
        if unreadable and self._strict:
            raise ValueError(
                f"the {primary.label} holds something already, and layer {unreadable[0]} no longer holds all of it or "
                "keeps a state, so the other side can't be given the same: shadow it before its first update, or after "
                "a reset"
            )

    def take_over(self) -> None:
        """Give the secondary what the primary holds, which is taken for what was appended."""
        primary, secondary = self.case.primary, self.case.secondary
        for layer, seen in enumerate(self._before):
            held = primary.all_held(layer, seen) if seen else None
            if held is not None:
                keys, values = (tensor.detach().clone() for tensor in held)
                secondary.fill(layer, keys, values)
                self.model.table(layer).append(both_digests(*held))
            elif seen:
                self.standing.lose(layer)
        for layer in primary.stateful():
            self.standing.lose(layer)
        if any(self._before):
            self.lived("held_before")
            told = f"{self.name}: what the {primary.label} held before is taken for right; the other side was given it"
            self.case.sink.event("held_before", told)
            self.counters.coverage["layers taken over"] += sum(map(bool, self._before))
            self.appends.all_due()

    def built_of(self) -> dict[str, Any]:
        """Return the window of each layer, if anybody says it by now, and how many tokens there is room for."""
        control = self.case.control
        layers = range(max(len(getattr(side.cache, "layers", None) or ()) for side in self.case.sides))
        rooms = [getattr(side.layer(layer), "max_cache_len", None) for side in self.case.sides for layer in layers]
        windows = self.windows or [control.window(layer) for layer in layers]
        return {"windows": list(windows), "room": max([room for room in rooms if type(room) is int], default=0)}

    def watches(self, cache: Any) -> bool:
        """Tell whether this is the observer of a watched cache."""
        return self.held.alive() is cache

    def watched_by(self, door: Door) -> None:
        """Learn which door watches the primary."""
        self.door = door

    @property
    def ended(self) -> bool:
        """Whether the host let go of the primary."""
        return self._ended

    def end(self) -> None:
        """Look at everything once more and let both sides go: the host lets go of the primary."""
        with self.lock:
            if self._ended:
                return
            try:
                self.audit()
                self._session.window(self, force=True)
            except Exception as error:  # where it is called from nobody could be told
                self.harness_failed("end", error)
            self._let_go()

    def close(self) -> None:
        """Watch nothing any more: the session ends."""
        with self.lock:
            self._let_go()

    def _let_go(self) -> None:
        super().close()
        self._ended = True
        if self.door is not None:
            self.door.let_go()
            self.door = None
        self.states.let_go()
        for side in self.case.sides:
            side.cache = None

    def about(self) -> dict[str, Any]:
        """Return what it is spared, and what had to be assumed."""
        case = self.case
        case.assumed.append(_LOOKED_AT)
        if self.windows is None:
            case.assumed.append("the window of a layer is the one that the control declares: no configuration says it")
        return {
            "shape": "append",
            "spared": list(_SPARED),
            "policy": {},
            "env_num": None,
            "assumed": case.assumed,
            "promises": {},
        }


def _states(args: Any) -> tuple[Tensor, Tensor] | None:
    """Return the keys and the values of an append, or None if it has none."""
    named = getattr(args, "named", {})
    keys = args[0] if len(args) > 0 else named.get("key_states")
    values = args[1] if len(args) > 1 else named.get("value_states")
    if not (isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.ndim == values.ndim == 4):
        return None
    (rows, _, new, _), (others, _, beside, _) = keys.shape, values.shape
    return (keys, values) if rows == others and new == beside else None

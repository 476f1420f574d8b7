"""Judges layers that keep a state which is replaced instead of grown: those of linear attention and convolutions.

A model may write such a state in place, past its cache: transformers' do so at every single token. What the host wrote
into the primary's is carried over to the secondary, or the next answers of sound sides would differ.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from shadow.operation import Observation
from validator.judge import words
from validator.judge.charge import Charge, Finding, Place, against, of_nobody
from validator.judge.counters import DIFFER, EQUAL, ERROR
from validator.observe.layers import Where
from validator.observe.standing import Standing

_CARRIED: Final = "states that the host wrote in place, carried over"
_NOT_CARRIED: Final = "states that the host wrote in place, of which the other side has none"
_JOINED: Final = "conv_states"  # what is given goes behind them
_UNKNOWN: Final = "states of layers of which nobody knows what they hold"


class _Met(NamedTuple):
    """A state of the primary after an operation.

    Attributes:
        tensor: The tensor itself.
        version: Its version; None where nobody counts.
        contents: A copy, where nobody counts.
    """

    tensor: Tensor
    version: int | None
    contents: Tensor | None

    @classmethod
    def of(cls, tensor: Tensor) -> _Met:
        """Take what a state holds now for what nobody wrote into."""
        return cls(tensor, None, tensor.clone()) if tensor.is_inference() else cls(tensor, tensor._version, None)

    def untouched(self, tensor: Tensor) -> bool:
        """Tell whether nobody wrote since."""
        if tensor is not self.tensor:
            return False
        return same(tensor, self.contents) if self.version is None else tensor._version == self.version


class States:
    """Judges the states of one pair.

    Args:
        standing: Where both sides stand.

    Attributes:
        layers: Those that were seen to keep states.
    """

    def __init__(self, standing: Standing) -> None:
        self.layers: set[int] = set()
        self._standing = standing
        self._case = standing.case
        self._met: dict[Where, _Met] = {}
        self._before: dict[Where, Tensor] = {}  # copies of what the primary kept before the operation under way
        self._known: dict[int, Charge] = {}  # for which the states of a layer differ

    def begin(self, layer: int | None) -> None:
        """See an operation on a layer before either side does it; on all for None."""
        if layer is not None:
            self.layers.add(layer)
        self._before = {}
        for each in self.layers if layer is None else (layer,):
            self._follow(each)
            for where, state in self._case.primary.states(each).items():
                if layer is None or where[1] == _JOINED:
                    self._before[where] = state.clone()

    def stated(self, seen: Observation, layer: int, staged: Any) -> None:
        """Judge what both sides answered that a state is now."""
        case, method = self._case, seen.operation.method
        lookups, errors = case.counters.lookups["layers"], (seen.control_error, seen.candidate_error)
        if layer in self._standing.lost:
            case.counters.dropped[_UNKNOWN] += 1
        elif errors != (None, None):
            lookups[ERROR] += 1
            self._standing.raised(seen, layer, errors, method)
        elif same(seen.control, seen.candidate):
            lookups[EQUAL] += 1
        else:
            lookups[DIFFER] += 1
            given = next((value for value in staged or () if isinstance(value, Tensor)), None)
            held = list(self._before.values())
            right = [_as_given(method, given, held, answer) for answer in (seen.control, seen.candidate)]
            if layer in self._known:
                case.ledger.count(self._known[layer])
            elif right.count(True) == 1:
                side = case.sides[right.index(False)]
                recurrent = method == "update_recurrent_state"
                wrong = Finding(words.STATE_NOT_KEPT if recurrent else words.STATE_NOT_JOINED, {"layer": layer})
                self._charge(against(side, wrong), layer, Place.of(seen, DIFFER))
            else:
                facts = {"method": method, "layer": layer}
                self._charge(of_nobody(words.STATES_DIFFER, facts), layer, Place.of(seen, DIFFER))
        self._compare(layer, Place.of(seen))

    def rearranged(self, method: str, value: Any, place: Place) -> None:
        """Hold what each side keeps against what an operation on all layers makes of what the primary kept before."""
        if method == "reset":
            self._known.clear()
        for (layer, name, index), state in self._before.items():
            expected = _rearranged(method, state, value)
            if expected is None or layer in self._standing.lost or layer in self._known:
                continue
            for side in self._case.sides:
                found = side.states(layer).get((layer, name, index))
                if found is None or same(found, expected) or (method == "reset" and not side.has_state(layer)):
                    continue
                facts = {"layer": layer, "verb": method}
                kept = method == "reset"
                wrong = Finding(words.STATE_KEPT_ACROSS_RESET if kept else words.STATE_NOT_REARRANGED, facts)
                self._charge(against(side, wrong), layer, place)
        for layer in self.layers:
            self._compare(layer, place)

    def audit(self, place: Place) -> None:
        """Compare what both sides keep."""
        for layer in self.layers:
            self._follow(layer)
            self._compare(layer, place)

    def begin_as(self, other: States) -> None:
        """Know what is known of the pair that this one's is a copy of."""
        self.layers, self._known = set(other.layers), dict(other._known)
        for layer in self.layers:
            for where, state in other._case.primary.states(layer).items():
                met = other._met.get(where)
                if met is not None and not met.untouched(state):
                    self._met[where] = met  # the copy of the secondary was not given yet what the host wrote
            self._follow(layer)
            self._meet(layer)

    def let_go(self) -> None:
        """Hold no tensor of the primary: its host alone keeps it alive."""
        self._met.clear()
        self._before.clear()

    def _follow(self, layer: int) -> None:
        """Give the secondary what the host wrote into a state of the primary since the last operation."""
        counters = self._case.counters
        for where, state in self._case.primary.states(layer).items():
            met = self._met.get(where)
            if met is None or met.untouched(state) or layer in self._standing.lost:
                continue
            theirs = self._case.secondary.states(layer).get(where)
            if theirs is None or theirs.shape != state.shape or theirs.dtype is not state.dtype:
                counters.dropped[_NOT_CARRIED] += 1
                self._standing.lose(layer)
                continue
            with torch.inference_mode(theirs.is_inference()), torch.no_grad():
                theirs.copy_(state)
            counters.coverage[_CARRIED] += 1

    def _compare(self, layer: int, place: Place) -> None:
        """Compare what both sides keep of a layer, unless they are known to differ, and meet it."""
        control, candidate = (side.states(layer) for side in self._case.sides)
        pairs = [(control[where], candidate[where]) for where in control.keys() & candidate.keys()]
        if pairs and layer not in self._standing.lost and layer not in self._known:
            self._case.counters.coverage["states read"] += 1
            if not all(same(one, other) for one, other in pairs):
                self._charge(of_nobody(words.STATES_KEPT_DIFFER, {"layer": layer}), layer, place)
        self._meet(layer)

    def _meet(self, layer: int) -> None:
        """Take what the primary keeps now for what nobody wrote into."""
        self._met.update({where: _Met.of(state) for where, state in self._case.primary.states(layer).items()})

    def _charge(self, charge: Charge, layer: int, place: Place) -> None:
        self._case.charge(charge, place)
        self._known[layer] = charge


def same(one: Any, other: Any) -> bool:
    """Tell whether two answers are the same: equal tensors of one dtype, or the same object."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return one is other
    return one.dtype is other.dtype and one.shape == other.shape and torch.equal(one, other)


def _as_given(method: str, given: Any, held: list[Tensor], answer: Any) -> bool:
    """Tell whether an answer is what was given; of a convolution, behind what was held or behind zeros."""
    if method != "update_conv_state":
        return method == "update_recurrent_state" and same(given, answer)
    if not (isinstance(given, Tensor) and isinstance(answer, Tensor)) or answer.shape[:-1] != given.shape[:-1]:
        return False
    earlier = answer.shape[-1] - given.shape[-1]
    if earlier < 0 or not same(answer[..., earlier:], given):
        return False
    return not answer[..., :earlier].any() or any(same(answer[..., :earlier], each[..., -earlier:]) for each in held)


def _rearranged(method: str, state: Tensor, value: Any) -> Tensor | None:
    """Return what an operation makes of a state, rows first; None where that depends on more than the state."""
    if method == "reset":
        return torch.zeros_like(state)
    if method == "batch_repeat_interleave":
        return state.repeat_interleave(value, 0)
    if method in ("reorder_cache", "batch_select_indices"):
        return state[value.to(state.device) if isinstance(value, Tensor) else value]
    return None

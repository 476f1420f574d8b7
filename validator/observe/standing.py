"""Where both sides of a pair of append caches stand: which layers are apart or lost, and who is charged with what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from reports.record.records import LeafDifference
from reports.record.words import Fault
from shadow.memory.buffers import Leaf
from shadow.operation import Observation
from validator.entries.compare import differences
from validator.judge import words
from validator.judge.case import Case
from validator.judge.charge import Charge, Finding, Place, against, of_nobody
from validator.judge.counters import ERROR
from validator.models.appended import AppendedModel, both_digests
from validator.observe.layers import LayersSide

States = tuple[Tensor, Tensor]  # keys and values, each (rows, heads, positions, head_dim)
Region = tuple[States, int]  # some columns of both, and the absolute position of the first


class Standing:
    """What is known of both sides.

    Args:
        case: Both sides.
        model: What was appended.
        windows: The window of each layer where the model's own configuration says it; None where nobody does.

    Attributes:
        case: As given.
        model: As given.
        lost: Layers of which nobody knows what they should hold, until a reset.
        known: The charge for which a layer of either side is apart.
    """

    def __init__(self, case: Case[LayersSide], model: AppendedModel, windows: tuple[int | None, ...] | None) -> None:
        self.case = case
        self.model = model
        self.lost: set[int] = set()
        self.known: dict[int, Charge] = {}
        self._windows = windows
        self._declared: dict[int, int | None] = {}

    def window(self, layer: int) -> int | None:
        """Return the window of a layer: the model's own where it is known, else what the control declares at first."""
        if self._windows is not None:
            return self._windows[layer] if layer < len(self._windows) else None
        if layer in self._declared:
            return self._declared[layer]
        control = self.case.control.window(layer)
        window = self.case.candidate.window(layer) if control is None else control
        if layer in self.model.layers:  # by then it is there, in both
            self._declared[layer] = window
        return window

    def is_right(self, layer: int, region: Region) -> bool:
        """Tell whether columns hold what was appended there."""
        tensors, begin = region
        n = tensors[0].shape[2]
        expected = self.model.table(layer).expected(begin, begin + n)
        found = both_digests(*tensors)
        return found.shape == expected.shape and bool((found == expected).all())

    def within(self, layer: int | None, regions: list[Region]) -> bool:
        """Tell whether columns of both are equal within the tolerance, and keep how far apart unless layer is None."""
        (one, begin), (other, there) = regions
        at = max(begin, there)
        sides = [_as_leaves(pair, at - first) for pair, first in ((one, begin), (other, there))]
        tolerance = self.case.tolerance
        if layer is None:
            return tolerance is not None and not differences(sides[0], sides[1], tolerance)
        return self.case.closeness.covers(sides[0], sides[1], layer, at)

    def charge(
        self, findings: list[tuple[LayersSide, Finding]], layer: int, place: Place, regions: list[Any] | None = None
    ) -> None:
        """Charge each side with what it does; both alike with the same is one charge."""
        case = self.case
        tensors = [
            None if region is None or isinstance(region, Finding) else region[0] for region in regions or (None, None)
        ]
        answers = tuple(None if pair is None else _as_entry(pair) for pair in tensors)
        one, other = tensors
        leaves = () if one is None or other is None else tuple(_leaves(layer, one, other))
        if len(findings) == 2 and findings[0][1][:2] == findings[1][1][:2]:
            both = Charge(findings[0][1], Fault.BOTH, "Each side", leaves)
            made = [both]
        else:
            made = [against(side, finding, leaves) for side, finding in findings]
        for charge in made:
            case.charge(charge, place, answers=(answers[0], answers[1]))
            self.known.setdefault(layer, charge)
        for side, _ in findings:
            side.apart.add(layer)

    def raised(self, seen: Observation, layer: int | None, errors: tuple[Any, Any], method: str) -> None:
        """Charge whoever raised; where both did, the host asked for what can't be done."""
        case = self.case
        if None not in errors:
            facts: dict[str, Any] = {"error": type(errors[0]).__name__, "method": method}
            case.charge(of_nobody(words.BOTH_RAISED, facts, Fault.HOST), Place.of(seen, ERROR), errors=errors)
            for each in self.model.layers if layer is None else (layer,):
                self.lose(each)
            return
        side = case.control if errors[0] is not None else case.candidate
        kind = words.RAISED_ON_REARRANGE if layer is None else words.RAISED_ON_APPEND
        facts = {"error": type(errors[0] or errors[1]).__name__, "method": method, "layer": layer}
        charge = against(side, Finding(kind, facts))
        case.charge(charge, Place.of(seen, ERROR), errors=errors)
        for each in self.model.layers if layer is None else (layer,):
            side.apart.add(each)
            self.known.setdefault(each, charge)

    def cannot_follow(self, layer: int, errors: tuple[Any, Any], rows: int) -> None:
        """Lose track of a layer if a side that raised has room for another number of rows, which it declares."""
        for side, error in zip(self.case.sides, errors, strict=True):
            one = side.layer(layer) if error is not None else None
            room = {getattr(one, name, None) for name in ("max_batch_size", "batch_size")} - {
                None
            }  # before 5.16, since
            if room and {*room, *getattr(getattr(one, "keys", None), "shape", ())[:1]} != {rows}:
                self.case.counters.coverage["not comparable: rows"] += 1
                self.lose(layer)

    def lose(self, layer: int) -> None:
        """Take it that nobody knows what a layer should hold, until a reset."""
        self.lost.add(layer)

    def reset(self) -> None:
        """Begin anew: both sides hold nothing, so whoever was apart isn't any more."""
        self.lost.clear()
        self.known.clear()
        self._declared.clear()
        for side in self.case.sides:
            side.apart.clear()

    def begin_as(self, other: Standing) -> None:
        """Know what is known of the pair that this one's is a copy of."""
        self.lost, self.known = set(other.lost), dict(other.known)


def needed(window: int | None, seen: int) -> int:
    """Return the first position that is attended to from behind so many, in a layer of such a window."""
    return 0 if window is None else max(0, seen - window + 1)


def _leaves(layer: int, control: States, candidate: States) -> Iterator[LeafDifference]:
    for difference in differences(_as_leaves(control), _as_leaves(candidate)):
        yield replace(difference, layer=layer)


def _as_leaves(pair: States, begin: int = 0) -> list[Leaf]:
    return [Leaf(tensor[:, :, begin:], tensor.shape[2] - begin) for tensor in pair]


def _as_entry(pair: States) -> Any:
    """Return keys and values as an entry of one layer, for the evidence."""
    keys, values = (SimpleNamespace(_cache=tensor, _size=tensor.shape[2]) for tensor in pair)
    return SimpleNamespace(_keys_values=[SimpleNamespace(_k_cache=keys, _v_cache=values)])

"""Looks at what both sides answer of an append, and at what their layers hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reports.record.records import LeafDifference
from reports.record.words import Fault
from shadow.memory.buffers import Leaf
from shadow.operation import Observation
from validator.entries.compare import differences
from validator.judge import words
from validator.judge.case import Case
from validator.judge.charge import Charge, Finding, Place, against, of_nobody
from validator.judge.columns import found_in, misplaced
from validator.judge.counters import DIFFER, EQUAL, ERROR
from validator.models.appended import AppendedModel, Table, both_digests, digests
from validator.observe.layers import LayersSide, stamp

_SHARE = 8  # of the rows and positions held, how many are looked at again at each append
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Pair = tuple[Tensor, Tensor]


class Pending(NamedTuple):
    """One append before either side did it.

    Attributes:
        table: What was appended to its layer.
        seen: Positions by then.
        states: Keys and values as the primary gets them.
        staged: The secondary's own.
        digests: Of what is appended.
        versions: Of the four tensors.
        announced: Columns and offset that each side announced, control first.
    """

    table: Table
    seen: int
    states: Pair
    staged: Pair
    digests: Any
    versions: tuple[Any, ...]
    announced: tuple[tuple[int, int] | None, ...]


class Appends:
    """Judges appends of one pair.

    Args:
        case: Both sides.
        model: What was appended.
        windows: The window of each layer where the model's own configuration says it; None for none.
    """

    def __init__(self, case: Case[LayersSide], model: AppendedModel, windows: tuple[int | None, ...] | None) -> None:
        self._case = case
        self._model = model
        self._windows = windows
        self._due: set[int] = set()  # layers of which everything is looked at at the next append
        self._turn: dict[int, int] = {}  # per layer the position at which the rotating share goes on
        self._stamps: dict[int, tuple[Any, ...]] = {}
        self._checked: set[int] = set()  # layers whose tensors were read once
        self._lost: set[int] = set()  # layers of which nobody knows what they should hold
        self._known: dict[int, Charge] = {}

    # -- an append ----------------------------------------------------------------------------------------------------

    def begin(self, layer: int, states: Pair, staged: Pair) -> Pending:
        """Digest what is about to be appended, and ask both sides what they are going to answer."""
        case, table = self._case, self._model.table(layer)
        keys, values = states
        self._host_wrote(layer)
        announced = tuple(
            None if layer in side.apart else side.announced(layer, table.length, keys.shape[2], keys.device)
            for side in case.sides
        )
        versions = tuple(map(stamp, (*states, *staged)))
        return Pending(table, table.length, states, staged, both_digests(*staged), versions, announced)

    def appended(self, seen: Observation, layer: int, pending: Pending) -> None:
        """Judge what both sides answered."""
        case, table = self._case, pending.table
        lookups = case.counters.lookups["layers"]
        answers, errors = (seen.control, seen.candidate), (seen.control_error, seen.candidate_error)
        if errors != (None, None):
            lookups[ERROR] += 1
            self.raised(seen, layer, errors, "update")
            if None not in errors:
                return
        if layer in self._lost:
            case.counters.dropped["appends to layers of which nobody knows what they hold"] += 1
            return
        if table.length and pending.digests.shape[1] != table.rows:
            self.lose(layer)  # both sides took rows that don't fit those they hold
            return
        table.append(pending.digests)
        self._edited(seen, layer, pending)
        if errors != (None, None):
            return
        due = layer in self._due
        apart = layer in case.control.apart or layer in case.candidate.apart
        if not apart and self._as_appended(layer, pending, answers, due):
            lookups[EQUAL] += 1
            case.ledger.recent.append((seen.op_index, seen.operation.name, None, layer, "both_hit_equal"))
            self._due.discard(layer)
        else:
            self._examine(seen, layer, pending, answers)
        if layer not in self._checked:
            self._checked.add(layer)
            self._find_tensors(layer)
        self._stamps[layer] = case.primary.stamps(layer)

    def _as_appended(self, layer: int, pending: Pending, answers: tuple[Any, Any], everything: bool) -> bool:
        """Tell whether both sides answer what was appended: what is new, and a share of the rest or all of it."""
        table, before = pending.table, pending.seen
        end, need = table.length, self.needed(layer, before)
        if everything:
            begin, until = need, before
        else:
            share = max(1, _SHARE // table.rows)
            begin = max(need, self._turn.get(layer, 0))
            if begin >= before:
                begin = need
            until = min(begin + share, before)
            self._turn[layer] = until
        for part in (0, 1):
            picked = []
            for announced, answer in zip(pending.announced, answers, strict=True):
                if announced is None or type(answer) not in (tuple, list) or len(answer) != 2:
                    return False
                length, offset = announced
                tensor = answer[part]
                if not isinstance(tensor, Tensor) or tensor.ndim != 4 or tensor.shape[2] != length:
                    return False
                if offset > need or offset + length < end:
                    return False
                new = tensor[:, :, before - offset : end - offset]
                if until > begin:
                    new = torch.cat((tensor[:, :, begin - offset : until - offset], new), 2)
                picked.append(new.detach())
            one, other = picked
            if one.dtype is not pending.staged[part].dtype or not _same_bits(one, other):
                return False
            found, held = digests(one), until - begin
            if (found[:, :held] != table.expected(begin, until)[part]).any():
                return False
            if (found[:, held:] != table.expected(before, end)[part]).any():
                return False
        return True

    def _examine(self, seen: Observation, layer: int, pending: Pending, answers: tuple[Any, Any]) -> None:
        """Find out which side answers something else than was appended, and charge it."""
        case, table = self._case, pending.table
        before, end = pending.seen, table.length
        need = self.needed(layer, before)
        regions = [
            self._region(layer, side, announced, answer, need, end, pending)
            for side, announced, answer in zip(case.sides, pending.announced, answers, strict=True)
        ]
        rights = [region if isinstance(region, tuple) and self._is_right(layer, region) else None for region in regions]
        outcome = DIFFER
        findings: list[tuple[LayersSide, Finding]] = []
        for side, region, other in zip(case.sides, regions, reversed(rights), strict=True):
            if layer in side.apart:
                continue
            if isinstance(region, Finding):
                findings.append((side, region))
                continue
            tensors, begin = region
            right = self._reference(tensors, begin, other, pending)
            wrong = misplaced(self._model, layer, begin, found_in(tensors, 0, tensors[0].shape[2]), tensors, right)
            if wrong is not None:
                findings.append((side, wrong))
        if self._close_enough(regions, findings):
            case.counters.lookups["layers"][EQUAL] += 1
            case.counters.coverage["equal only within tolerance"] += 1
            return
        known = self._known.get(layer)
        agree = not findings and known is None
        case.counters.lookups["layers"][EQUAL if agree else outcome] += 1
        if not findings and known is not None:
            case.ledger.count(known)
        self._charge(findings, layer, Place.of(seen, outcome), regions)

    def _region(
        self, layer: int, side: LayersSide, announced: Any, answer: Any, need: int, end: int, pending: Pending
    ) -> tuple[Pair, int] | Finding:
        """Return the columns of an answer that must be right, and where they begin; or what is wrong with its shape."""
        staged = pending.staged
        if type(answer) not in (tuple, list) or len(answer) != 2 or not all(isinstance(t, Tensor) for t in answer):
            return Finding(words.NOT_TENSORS, {"what": type(answer).__name__, "shape": tuple(staged[0].shape)})
        for part, tensor, given in zip(("keys", "values"), answer, staged, strict=True):
            if tensor.ndim != 4 or tensor.shape[:2] != given.shape[:2] or tensor.shape[3] != given.shape[3]:
                facts = {"part": part, "old": tuple(tensor.shape), "new": tuple(given.shape)}
                return Finding(words.OTHER_SHAPE_OF_ALL, facts)
            if tensor.dtype is not given.dtype:
                return Finding(words.OTHER_DTYPE_OF_ALL, {"part": part, "old": tensor.dtype, "new": given.dtype})
        length, offset = announced or (answer[0].shape[2], max(0, end - answer[0].shape[2]))
        columns = answer[0].shape[2]
        if columns != length or answer[1].shape[2] != length:
            facts = {"columns": columns, "announced": length, "layer": layer, "n": abs(length - columns)}
            last = (answer[0], answer[1]), end - columns
            windowed = side.window(layer) is not None and end - columns >= 0
            if windowed and columns == answer[1].shape[2] and self._is_right(layer, last):
                return Finding(words.WINDOW_HELD_OFF, facts)
            return Finding(words.NOT_AS_ANNOUNCED, facts)
        if offset > need or offset + length < end:
            windowed = self.window(layer) is not None or side.window(layer) is not None
            facts = {"layer": layer, "needed": need, "begin": offset, "seen": end, "end": offset + length}
            if windowed and offset > need:
                return Finding(words.WINDOW_OFF, {**facts, "n": offset - need})
            return Finding(words.TRUNCATED, facts)
        begin = max(need, offset)
        first, second = (tensor.detach()[:, :, begin - offset : end - offset] for tensor in answer)
        return (first, second), begin

    def _is_right(self, layer: int, region: tuple[Pair, int]) -> bool:
        tensors, begin = region
        n = tensors[0].shape[2]
        expected = self._model.table(layer).expected(begin, begin + n)
        found = found_in(tensors, 0, n)
        return found.shape == expected.shape and bool((found == expected).all())

    def _reference(
        self, tensors: Pair, begin: int, other: tuple[Pair, int] | None, pending: Pending
    ) -> Pair | None:
        """Return the right values for the columns of a region, as far as somebody has them."""
        if other is not None:
            theirs, there = other
            if there <= begin:
                return theirs[0][:, :, begin - there :], theirs[1][:, :, begin - there :]
        return None

    def _close_enough(self, regions: list[Any], findings: list[tuple[LayersSide, Finding]]) -> bool:
        tolerance = self._case.tolerance
        if tolerance is None or not findings or any(isinstance(region, Finding) for region in regions):
            return False
        (one, begin), (other, there) = regions
        at = max(begin, there)
        pairs = [(a[:, :, at - begin :], b[:, :, at - there :]) for a, b in zip(one, other, strict=True)]
        leaves = [[Leaf(tensor, tensor.shape[2]) for tensor in side] for side in zip(*pairs, strict=True)]
        return not differences(leaves[0], leaves[1], tolerance)

    def _charge(
        self, findings: list[tuple[LayersSide, Finding]], layer: int, place: Place, regions: list[Any] | None = None
    ) -> None:
        """Charge each side with what it does; both alike with the same is one charge."""
        case = self._case
        tensors = [region[0] if isinstance(region, tuple) else None for region in regions or (None, None)]
        answers = tuple(None if pair is None else _as_entry(pair) for pair in tensors)
        leaves = tuple(_leaves(layer, *tensors)) if None not in tensors else ()
        if len(findings) == 2 and findings[0][1][:2] == findings[1][1][:2]:
            both = Charge(findings[0][1], Fault.BOTH, "Both sides", leaves)
            made = [both]
        else:
            made = [against(side, finding, leaves) for side, finding in findings]
        for charge in made:
            case.charge(charge, place, answers=(answers[0], answers[1]))
            self._known.setdefault(layer, charge)
        for side, _ in findings:
            side.apart.add(layer)

    def _edited(self, seen: Observation, layer: int, pending: Pending) -> None:
        """Charge a side that wrote into what it was given."""
        case = self._case
        tensors = (*pending.states, *pending.staged)
        for index, (tensor, version) in enumerate(zip(tensors, pending.versions, strict=True)):
            if stamp(tensor) == version and version is not None:
                continue
            part = index % 2
            if (digests(tensor) == pending.digests[part]).all():
                continue
            side = case.primary if index < 2 else case.secondary
            finding = Finding(words.APPENDED_EDITED, {"part": ("keys", "values")[part], "layer": layer})
            case.charge(against(side, finding), Place.of(seen))

    def raised(self, seen: Observation, layer: int | None, errors: tuple[Any, Any], method: str) -> None:
        """Charge whoever raised; where both did, the host asked for what can't be done."""
        case = self._case
        if None not in errors:
            facts = {"error": type(errors[0]).__name__, "method": method}
            case.charge(of_nobody(words.BOTH_RAISED, facts, Fault.HOST), Place.of(seen, ERROR), errors=errors)
            for each in self._model.layers if layer is None else (layer,):
                self.lose(each)
            return
        side = case.control if errors[0] is not None else case.candidate
        kind = words.RAISED_ON_REARRANGE if layer is None else words.RAISED_ON_APPEND
        facts = {"error": type(errors[0] or errors[1]).__name__, "method": method, "layer": layer}
        charge = against(side, Finding(kind, facts))
        case.charge(charge, Place.of(seen, ERROR), errors=errors)
        for each in self._model.layers if layer is None else (layer,):
            side.apart.add(each)
            self._known.setdefault(each, charge)

    # -- what the layers hold -----------------------------------------------------------------------------------------

    def needed(self, layer: int, seen: int) -> int:
        """Return the first position that is attended to from behind so many."""
        window = self.window(layer)
        return 0 if window is None else max(0, seen - window + 1)

    def window(self, layer: int) -> int | None:
        """Return the window of a layer: the model's own where it is known, else what the control declares."""
        if self._windows is not None:
            return self._windows[layer] if layer < len(self._windows) else None
        control = self._case.control.window(layer)
        return self._case.candidate.window(layer) if control is None else control

    def all_due(self) -> None:
        """Look at everything at the next append to each layer: something else was done than appending."""
        self._due.update(self._model.layers)

    def restamp(self) -> None:
        """Take what the layers hold now for what nobody wrote into."""
        for layer in self._stamps:
            self._stamps[layer] = self._case.primary.stamps(layer)

    def lose(self, layer: int) -> None:
        """Take it that nobody knows what a layer should hold, until a reset."""
        self._lost.add(layer)

    def reset(self) -> None:
        """Begin anew: both sides hold nothing, so whoever was apart isn't any more."""
        self._lost.clear()
        self._known.clear()
        self._turn.clear()
        for side in self._case.sides:
            side.apart.clear()

    def audit(self, place: Place, verb: str = "") -> None:
        """Hold the length and the contents of every layer of both sides against what was appended."""
        for layer, table in self._model.layers.items():
            if layer in self._lost:
                continue
            self._host_wrote(layer)
            findings = [
                (side, finding)
                for side in self._case.sides
                if layer not in side.apart and (finding := self._audited(side, layer, table, verb)) is not None
            ]
            if findings:
                self._charge(findings, layer, place)
            self._stamps[layer] = self._case.primary.stamps(layer)

    def _audited(self, side: LayersSide, layer: int, table: Table, verb: str) -> Finding | None:
        said, seen = side.length(layer), table.length
        if said is not None and said != seen:
            facts = {"layer": layer, "said": said, "seen": seen}
            kinds = {"crop": words.NOT_CROPPED_LENGTH, "reset": words.NOT_RESET_LENGTH}
            return Finding(kinds.get(verb, words.LENGTH_TOLD) if said > seen else words.LENGTH_TOLD, facts)
        if not side.readable(layer) or not seen:
            return None
        held = side.held(layer, seen)
        if held is None:
            return None
        keys, values, begin = held
        self._case.counters.coverage["layers read"] += 1
        need, rows = self.needed(layer, seen), table.rows
        if begin > need:
            windowed = self.window(layer) is not None or side.window(layer) is not None
            facts = {"layer": layer, "needed": need, "begin": begin, "seen": seen, "end": seen, "n": begin - need}
            return Finding(words.WINDOW_OFF if windowed else words.TRUNCATED, facts)
        first = max(need, begin)
        tensors = keys.detach()[:, :, first - begin : seen - begin], values.detach()[:, :, first - begin : seen - begin]
        if keys.shape[0] != rows or values.shape[2] < seen - begin:
            facts = {"part": "keys", "old": tuple(keys.shape), "new": (rows, *keys.shape[1:])}
            return Finding(words.OTHER_SHAPE_OF_ALL, facts)
        return misplaced(self._model, layer, first, found_in(tensors, 0, seen - first), tensors, None)

    def _find_tensors(self, layer: int) -> None:
        """Find out, after the first append, whether the tensors of a layer lie where they are looked for."""
        for side in self._case.sides:
            if layer in side.apart:
                continue
            table = self._model.table(layer)
            held = side.held(layer, table.length)
            as_appended = False
            if held is not None:
                keys, values, begin = held
                n = table.length - begin
                region = (keys.detach()[:, :, :n], values.detach()[:, :, :n]), begin
                same = keys.shape[2] >= n and values.shape[2] >= n and keys.shape[0] == table.rows
                as_appended = n > 0 and same and self._is_right(layer, region)
            side.was_read(layer, as_appended)
            counted = "layers read" if as_appended else f"layers of the {side.name} that can't be read"
            self._case.counters.coverage[counted] += 1

    def _host_wrote(self, layer: int) -> None:
        """Charge the host with having written into the primary's tensors between two operations."""
        case = self._case
        known = self._stamps.get(layer)
        if known is None or layer in self._lost:
            return
        now = case.primary.stamps(layer)
        if now == known or not any(
            a is not None and b is not None and a[0] == b[0] and a[1] != b[1] for a, b in zip(known, now, strict=True)
        ):
            return
        facts = {"layer": layer, "side": case.primary.name}
        case.charge(of_nobody(words.HOST_WROTE_HELD, facts, Fault.HOST), Place(case.now, "audit", "layers", key=layer))
        self.lose(layer)

    def begin_as(self, other: Appends) -> None:
        """Know what is known of the pair that this one's is a copy of."""
        self._lost, self._known, self._checked = set(other._lost), dict(other._known), set(other._checked)
        self._due = set(self._model.layers)




def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype is not other.dtype or one.device != other.device:
        return False
    if one.is_complex():
        one, other = torch.view_as_real(one), torch.view_as_real(other)
    integer = _INTEGERS[one.element_size()]
    return torch.equal(one.view(integer), other.view(integer))


def _leaves(layer: int, control: Pair, candidate: Pair) -> Iterator[LeafDifference]:
    sides = [[Leaf(tensor, tensor.shape[2]) for tensor in pair] for pair in (control, candidate)]
    for difference in differences(sides[0], sides[1]):
        yield replace(difference, layer=layer)


def _as_entry(pair: Pair) -> Any:
    """Return keys and values as an entry of one layer, for the evidence."""
    keys, values = (SimpleNamespace(_cache=tensor, _size=tensor.shape[2]) for tensor in pair)
    return SimpleNamespace(_keys_values=[SimpleNamespace(_k_cache=keys, _v_cache=values)])

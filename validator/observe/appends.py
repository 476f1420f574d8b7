"""Looks at what both sides answer of an append: what is new, and a share of all that they hold, taken in turns."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from shadow.memory.dense import columns_of
from shadow.operation import Observation, make
from validator.judge import words
from validator.judge.charge import Finding, Place, against
from validator.judge.columns import misplaced
from validator.judge.counters import DIFFER, EQUAL, ERROR
from validator.models.appended import Table, both_digests, digests
from validator.observe.contents import Contents
from validator.observe.layers import LayersSide, versions
from validator.observe.standing import Region, Standing, States, needed

_SHARE = 8  # of the rows and positions held, how many are looked at again at each append
_BOTH, _ONE = slice(0, 2), (slice(0, 1), slice(1, 2))  # keys and values, and each alone


class Pending(NamedTuple):
    """One append before either side did it.

    Attributes:
        table: What was appended to its layer.
        seen: Positions by then.
        states: Keys and values as the primary gets them.
        staged: The secondary's own.
        given: The bytes of keys and of values, as ``columns_of`` returns them.
        digests: Of the same, ``(2, rows, positions)``.
        versions: Of the four tensors; those that were just made for the secondary have none behind them.
        announced: Columns and offset that each side announced, control first.
    """

    table: Table
    seen: int
    states: States
    staged: States
    given: tuple[bytes, ...]
    digests: Any
    versions: list[int | None]
    announced: tuple[tuple[int, int] | None, ...]


class Appends:
    """Judges appends of one pair.

    Args:
        standing: Where both sides stand.
        contents: Reads what their layers hold.
    """

    def __init__(self, standing: Standing, contents: Contents) -> None:
        self._standing = standing
        self._contents = contents
        self._case = standing.case
        self._model = standing.model
        self._due: set[int] = set()  # layers of which everything is looked at at the next append
        self._turn: dict[int, int] = {}  # per layer the position at which the rotating share goes on

    def begin(self, layer: int, states: States, staged: States) -> Pending:
        """Digest what is about to be appended, and ask both sides what they are going to answer."""
        table = self._model.table(layer)
        seen, (rows, _, new, _), device = table.length, states[0].shape, states[0].device
        self._contents.host_wrote(layer)
        one, other = self._case.sides
        announced = one.announced(layer, seen, new, device), other.announced(layer, seen, new, device)
        given, counted = columns_of(staged, 0, new), [*versions(states), 0, 0]
        found = (table, seen, states, staged, given, digests(given, rows, new), counted, announced)
        pending: Pending = make(Pending, found)
        return pending

    def appended(self, seen: Observation, layer: int, pending: Pending) -> None:
        """Judge what both sides answered."""
        case, table = self._case, pending.table
        lookups = case.counters.lookups["layers"]
        answers, errors = (seen.control, seen.candidate), (seen.control_error, seen.candidate_error)
        if errors != (None, None):
            self._standing.cannot_follow(layer, errors, pending.digests.shape[1])
        if layer in self._standing.lost:
            case.counters.dropped["appends to layers of which nobody knows what they hold"] += 1
            return
        if errors != (None, None):
            lookups[ERROR] += 1
            self._standing.raised(seen, layer, errors, "update")
            if None not in errors:
                return
        if table.length and pending.digests.shape[1] != table.rows:
            self._standing.lose(layer)  # both sides took rows that don't fit those they hold
            return
        table.append(pending.digests)
        window = self._standing.window(layer)
        if window is not None and pending.seen < window <= table.length:
            case.counters.coverage["window wraps"] += 1
        if table.length - pending.seen > 1:
            case.counters.coverage["prefills"] += 1
        self._edited(seen, layer, pending)
        if errors != (None, None):
            return
        need = needed(window, pending.seen)
        apart = layer in case.control.apart or layer in case.candidate.apart
        if not apart and self._as_appended(layer, pending, answers, need):
            lookups[EQUAL] += 1
            case.ledger.recent.append((seen.op_index, seen.operation.name, None, layer, "both_hit_equal"))
            self._due.discard(layer)
        else:
            self._examine(seen, layer, pending, answers, need)
        self._contents.appended(layer, (pending.states, pending.staged), seen)

    def _as_appended(self, layer: int, pending: Pending, answers: tuple[Any, Any], need: int) -> bool:
        """Tell whether both sides answer what was appended: what is new, and a share of the rest or all of it."""
        table, before, staged, turn = pending.table, pending.seen, pending.staged, self._turn.get(layer, 0)
        end, rows, which, begin = table.length, table.rows, turn & 3, max(turn >> 2, need)
        everything = layer in self._due or self._case.config.audit_share >= 1
        if everything:
            begin, until, parts = need, before, _BOTH
        else:  # the share: some positions of one part of one side
            until, parts = min(begin + max(1, _SHARE // rows), before), _ONE[which & 1]
        for number, (announced, answer) in enumerate(zip(pending.announced, answers, strict=True)):
            if announced is None or type(answer) not in (tuple, list) or len(answer) != 2:
                return False
            length, offset = announced
            if offset > need or offset + length < end:
                return False
            for tensor, given in zip(answer, staged, strict=True):
                _, heads, _, width = given.shape
                if not isinstance(tensor, Tensor) or tensor.dtype is not given.dtype:
                    return False
                if tensor.shape != (rows, heads, length, width):
                    return False
            if columns_of((*answer,), before - offset, end - offset) != pending.given:
                return False
            if begin < until and (everything or which >> 1 == number):
                held = columns_of((*answer[parts],), begin - offset, until - offset)
                if not table.holds(parts, begin, digests(held, rows, until - begin)):
                    return False
        if not everything:
            self._turn[layer] = until << 2 | which if until < before else (which + 1) & 3
        return True

    def _examine(self, seen: Observation, layer: int, pending: Pending, answers: tuple[Any, Any], need: int) -> None:
        """Find out which side answers something else than was appended, and charge it."""
        case, table = self._case, pending.table
        before, end = pending.seen, table.length
        regions = [
            self._region(layer, side, announced, answer, need, end, pending)
            for side, announced, answer in zip(case.sides, pending.announced, answers, strict=True)
        ]
        rights = [
            None if isinstance(region, Finding) or not self._standing.is_right(layer, region) else region
            for region in regions
        ]
        findings: list[tuple[LayersSide, Finding]] = []
        for side, region, other in zip(case.sides, regions, reversed(rights), strict=True):
            if layer in side.apart:
                continue
            if isinstance(region, Finding):
                findings.append((side, region))
                continue
            tensors, begin = region
            right = other or (pending.staged, before)
            wrong = misplaced(self._model, layer, begin, both_digests(*tensors), tensors, right)
            if wrong is not None:
                findings.append((side, wrong))
        if findings and self._close_enough(layer, regions, rights, findings, pending):
            case.counters.lookups["layers"][EQUAL] += 1
            case.counters.coverage["equal only within tolerance"] += 1
            return
        known = self._standing.known.get(layer)
        agree = not findings and known is None
        case.counters.lookups["layers"][EQUAL if agree else DIFFER] += 1
        if not findings and known is not None:
            case.ledger.count(known)
        self._standing.charge(findings, layer, Place.of(seen, DIFFER), regions)

    def _region(
        self, layer: int, side: LayersSide, announced: Any, answer: Any, need: int, end: int, pending: Pending
    ) -> Region | Finding:
        """Return the columns of an answer that must be right, and where they begin; or what is wrong with its shape."""
        staged = pending.staged
        if type(answer) not in (tuple, list) or len(answer) != 2 or not all(isinstance(t, Tensor) for t in answer):
            return Finding(words.NOT_TENSORS, {"what": type(answer).__name__, "shape": tuple(staged[0].shape)})
        for part, tensor, given in zip(("keys", "values"), answer, staged, strict=True):
            if tensor.ndim != 4 or tensor.shape[:2] != given.shape[:2] or tensor.shape[3] != given.shape[3]:
                facts: dict[str, Any] = {"part": part, "old": tuple(tensor.shape), "new": tuple(given.shape)}
                return Finding(words.OTHER_SHAPE_OF_ALL, facts)
            if tensor.dtype is not given.dtype:
                return Finding(words.OTHER_DTYPE_OF_ALL, {"part": part, "old": tensor.dtype, "new": given.dtype})
        length, offset = announced or (answer[0].shape[2], max(0, end - answer[0].shape[2]))
        columns = answer[0].shape[2]
        if columns != length or answer[1].shape[2] != length:
            facts = {"columns": columns, "announced": length, "layer": layer}
            last = (answer[0], answer[1]), end - columns
            windowed = side.window(layer) is not None and end - columns >= 0
            if windowed and columns == answer[1].shape[2] and self._standing.is_right(layer, last):
                return Finding(words.WINDOW_HELD_OFF, {**facts, "n": abs(length - columns)})
            return Finding(words.NOT_AS_ANNOUNCED, facts)
        if offset > need or offset + length < end:
            windowed = self._standing.window(layer) is not None or side.window(layer) is not None
            facts = {"layer": layer, "needed": need, "begin": offset, "seen": end}
            if windowed and offset > need:
                return Finding(words.WINDOW_OFF, {**facts, "n": offset - need})
            return Finding(words.TRUNCATED, {**facts, "end": offset + length})
        begin = max(need, offset)
        first, second = (tensor.detach()[:, :, begin - offset : end - offset] for tensor in answer)
        return (first, second), begin

    def _close_enough(
        self,
        layer: int,
        regions: list[Any],
        rights: list[Region | None],
        findings: list[tuple[LayersSide, Finding]],
        pending: Pending,
    ) -> bool:
        """Tell whether what is wrong is within the tolerance: of the other side, and of what was given just now.

        Two sides that are wrong alike are no nearer to what was appended, so the other side alone excuses nothing.
        """
        if self._case.tolerance is None or any(isinstance(region, Finding) for region in regions):
            return False
        given, at = pending.staged, pending.seen
        if len(findings) == 1 and not any(rights):
            return False
        if len(findings) > 1 and not all(
            finding.kind in (words.ROUNDED_THERE, words.NEVER_APPENDED)
            and self._standing.within(None, [(given, at), region])
            for (_, finding), region in zip(findings, regions, strict=True)
        ):
            return False
        return self._standing.within(layer, regions)

    def _edited(self, seen: Observation, layer: int, pending: Pending) -> None:
        """Charge a side that wrote into what it was given."""
        case, tensors = self._case, (*pending.states, *pending.staged)
        counted = versions(tensors)
        if counted == pending.versions and None not in counted:
            return
        for index, tensor in enumerate(tensors):
            part = index % 2
            if columns_of((tensor,), 0, tensor.shape[2])[0] != pending.given[part]:
                side = case.primary if index < 2 else case.secondary
                finding = Finding(words.APPENDED_EDITED, {"part": ("keys", "values")[part], "layer": layer})
                case.charge(against(side, finding), Place.of(seen))

    def all_due(self) -> None:
        """Look at everything at the next append to each layer: something else was done than appending."""
        self._due.update(self._model.layers)
        self._turn.clear()

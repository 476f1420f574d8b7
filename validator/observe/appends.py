"""Looks at what both sides answer of an append: what is new, and a share of all that they hold, taken in turns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from shadow.operation import Observation
from validator.judge import words
from validator.judge.charge import Finding, Place, against
from validator.judge.columns import misplaced
from validator.judge.counters import DIFFER, EQUAL, ERROR
from validator.models.appended import Table, bits, both_digests, digests
from validator.observe.contents import Contents
from validator.observe.layers import LayersSide, stamp
from validator.observe.standing import Region, Standing, States

_SHARE = 16  # of the rows and positions held, how many are looked at again at each append


class Pending(NamedTuple):
    """One append before either side did it.

    Attributes:
        table: What was appended to its layer.
        seen: Positions by then.
        states: Keys and values as the primary gets them.
        staged: The secondary's own.
        bits: Of what is appended, keys and values.
        digests: Of the same, ``(2, rows, positions)``.
        versions: Of the four tensors.
        announced: Columns and offset that each side announced, control first.
    """

    table: Table
    seen: int
    states: States
    staged: States
    bits: tuple[Any, Any]
    digests: Any
    versions: tuple[Any, ...]
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
        case, table = self._case, self._model.table(layer)
        keys, _ = states
        self._contents.host_wrote(layer)
        announced = tuple(
            None if layer in side.apart else side.announced(layer, table.length, keys.shape[2], keys.device)
            for side in case.sides
        )
        versions = tuple(map(stamp, (*states, *staged)))
        given = bits(staged[0]), bits(staged[1])
        hashed = np.empty((2, *given[0].shape[::2]), np.uint64)
        hashed[0], hashed[1] = map(digests, given)
        return Pending(table, table.length, states, staged, given, hashed, versions, announced)

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
        apart = layer in case.control.apart or layer in case.candidate.apart
        if not apart and self._as_appended(layer, pending, answers, self._looks_at_all(layer, pending)):
            lookups[EQUAL] += 1
            case.ledger.recent.append((seen.op_index, seen.operation.name, None, layer, "both_hit_equal"))
            self._due.discard(layer)
        else:
            self._examine(seen, layer, pending, answers)
        self._contents.appended(layer, (pending.states, pending.staged), Place.of(seen))

    def _looks_at_all(self, layer: int, pending: Pending) -> bool:
        """Tell whether all that is held is looked at this time, and not only a share of it."""
        return bool(pending.seen) and (layer in self._due or self._case.config.audit_share >= 1)

    def _as_appended(self, layer: int, pending: Pending, answers: tuple[Any, Any], everything: bool) -> bool:
        """Tell whether both sides answer what was appended: what is new, and a share of the rest or all of it."""
        table, before, turn = pending.table, pending.seen, self._turn.get(layer, 0)
        end, need = table.length, self._standing.needed(layer, before)
        which, begin = turn & 3, max(turn >> 2, need)  # the share: some positions of one part of one side
        until = before if everything else min(begin + max(1, _SHARE // table.rows), before)
        for number, (announced, answer) in enumerate(zip(pending.announced, answers, strict=True)):
            if announced is None or type(answer) not in (tuple, list) or len(answer) != 2:
                return False
            length, offset = announced
            if offset > need or offset + length < end:
                return False
            for part, tensor, given in zip((0, 1), answer, pending.bits, strict=True):
                if not isinstance(tensor, Tensor) or tensor.ndim != 4 or tensor.shape[2] != length:
                    return False
                if tensor.dtype is not pending.staged[part].dtype:
                    return False
                found = bits(tensor) if tensor.device.type == "cpu" else bits(tensor, 0, end - offset)
                new = found[:, :, before - offset : end - offset]
                if new.shape != given.shape or not (new == given).all():
                    return False
                if everything:
                    held = found[:, :, need - offset : before - offset]
                    if not table.holds(part, need, digests(held)):
                        return False
                elif which == 2 * number + part and begin < until:
                    held = found[:, :, begin - offset : until - offset]
                    if not table.holds(part, begin, digests(held)):
                        return False
        if not everything:
            self._turn[layer] = until << 2 | which if until < before else (which + 1) & 3
        return True

    def _examine(self, seen: Observation, layer: int, pending: Pending, answers: tuple[Any, Any]) -> None:
        """Find out which side answers something else than was appended, and charge it."""
        case, table = self._case, pending.table
        before, end = pending.seen, table.length
        need = self._standing.needed(layer, before)
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
        case = self._case
        tensors = (*pending.states, *pending.staged)
        for index, (tensor, version) in enumerate(zip(tensors, pending.versions, strict=True)):
            if stamp(tensor) == version and version is not None:
                continue
            part = index % 2
            if (digests(bits(tensor)) == pending.digests[part]).all():
                continue
            side = case.primary if index < 2 else case.secondary
            finding = Finding(words.APPENDED_EDITED, {"part": ("keys", "values")[part], "layer": layer})
            case.charge(against(side, finding), Place.of(seen))

    def all_due(self) -> None:
        """Look at everything at the next append to each layer: something else was done than appending."""
        self._due.update(self._model.layers)
        self._turn.clear()

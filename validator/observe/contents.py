"""Looks at what the layers of both sides hold, where they keep it: after a verb that rearranges, and at the end."""

from __future__ import annotations

from typing import Any

from reports.record.words import Fault
from shadow.operation import Observation
from validator.judge import words
from validator.judge.charge import Finding, Place, of_nobody
from validator.judge.columns import misplaced
from validator.models.appended import Table, both_digests
from validator.observe.layers import LayersSide, Stamp
from validator.observe.standing import Standing, States, needed


class Contents:
    """Reads the layers of one pair.

    Args:
        standing: Where both sides stand.
    """

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._case = standing.case
        self._model = standing.model
        self._stamps: dict[int, list[Stamp]] = {}
        self._looked_for: set[int] = set()  # layers whose tensors were looked for

    def appended(self, layer: int, given: tuple[States, States], seen: Observation) -> None:
        """Find the tensors of a layer, the first time, and look whose memory they are.

        Args:
            layer: The layer that was appended to.
            given: What the primary and the secondary were given to append.
            seen: The append.
        """
        if layer not in self._looked_for:
            self._looked_for.add(layer)
            self._find_tensors(layer)
            for side, states in zip((self._case.primary, self._case.secondary), given, strict=True):
                self._keeps_its_input(side, layer, states, Place.of(seen))

    def stamp(self, layer: int) -> None:
        """Take what a layer of the primary holds now for what nobody wrote into."""
        self._stamps[layer] = self._case.primary.stamps(layer)

    def restamp(self) -> None:
        """Take what all layers hold now for what nobody wrote into."""
        for layer in self._stamps:
            self._stamps[layer] = self._case.primary.stamps(layer)

    def audit(self, place: Place, verb: str = "") -> None:
        """Hold the length and the contents of every layer of both sides against what was appended."""
        for layer, table in self._model.layers.items():
            self.host_wrote(layer)
            if layer in self._standing.lost:
                continue
            findings = [
                (side, finding)
                for side in self._case.sides
                if layer not in side.apart and (finding := self._audited(side, layer, table, verb)) is not None
            ]
            if findings and not self._close_enough(layer, table, findings):
                self._standing.charge(findings, layer, place)
            self._stamps[layer] = self._case.primary.stamps(layer)

    def _audited(self, side: LayersSide, layer: int, table: Table, verb: str) -> Finding | None:
        said, seen = side.length(layer), table.length
        if said is not None and said != seen:
            facts: dict[str, Any] = {"layer": layer, "said": said, "seen": seen}
            kinds = {"crop": words.NOT_CROPPED_LENGTH, "reset": words.NOT_RESET_LENGTH}
            return Finding(kinds.get(verb, words.LENGTH_TOLD) if said > seen else words.LENGTH_TOLD, facts)
        if not side.readable(layer) or not seen:
            return None
        held = side.held(layer, seen)
        if held is None:
            return None
        keys, values, begin = held
        self._case.counters.coverage["layers read"] += 1
        window, rows = self._standing.window(layer), table.rows
        need = needed(window, seen)
        if begin > need:
            windowed = window is not None or side.window(layer) is not None
            facts = {"layer": layer, "needed": need, "begin": begin, "seen": seen}
            if windowed:
                return Finding(words.WINDOW_OFF, {**facts, "n": begin - need})
            return Finding(words.TRUNCATED, {**facts, "end": seen})
        first = max(need, begin)
        tensors = keys.detach()[:, :, first - begin : seen - begin], values.detach()[:, :, first - begin : seen - begin]
        if keys.shape[0] != rows or values.shape[2] < seen - begin:
            facts = {"part": "keys", "old": tuple(keys.shape), "new": (rows, *keys.shape[1:])}
            return Finding(words.OTHER_SHAPE_OF_ALL, facts)
        return misplaced(self._model, layer, first, both_digests(*tensors), tensors, None)

    def _close_enough(self, layer: int, table: Table, findings: list[tuple[LayersSide, Finding]]) -> bool:
        """Tell whether what one side holds is within the tolerance of the other's, which is what was appended."""
        (side, finding), *others = findings
        if self._case.tolerance is None or others or finding.kind not in (words.ROUNDED_THERE, words.NEVER_APPENDED):
            return False
        seen, regions = table.length, []
        for each in self._case.sides:
            held = each.held(layer, seen) if each.readable(layer) and layer not in each.apart else None
            if held is None:
                return False
            keys, values, begin = held
            regions.append(((keys.detach()[:, :, : seen - begin], values.detach()[:, :, : seen - begin]), begin))
        right = regions[side is self._case.control]
        if not (self._standing.is_right(layer, right) and self._standing.within(layer, regions)):
            return False
        self._case.counters.coverage["layers held equal only within tolerance"] += 1
        return True

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
                as_appended = n > 0 and same and self._standing.is_right(layer, region)
            side.was_read(layer, as_appended)
            counted = "layers read" if as_appended else f"layers of the {side.name} that can't be read"
            self._case.counters.coverage[counted] += 1

    def _keeps_its_input(self, side: LayersSide, layer: int, states: States, place: Place) -> None:
        """Charge a side whose layer lies in the memory of what it was given, which is the host's to write into."""
        held = side.held(layer, self._model.table(layer).length)
        if held is None or layer in side.apart:
            return
        for part, own, theirs in zip(("keys", "values"), held[:2], states, strict=True):
            if own.numel() and own.untyped_storage().data_ptr() == theirs.untyped_storage().data_ptr():
                finding = Finding(words.APPENDED_KEPT, {"part": part, "layer": layer})
                self._standing.charge([(side, finding)], layer, place)
                return

    def host_wrote(self, layer: int) -> None:
        """Charge the host with having changed what the primary holds between two operations.

        Tensors in the place of others are no change as long as they hold what was appended, as of a layer that is moved
        to another device and back.
        """
        case = self._case
        known = self._stamps.get(layer)
        if known is None or layer in self._standing.lost:
            return
        now = case.primary.stamps(layer)
        if now == known:
            return
        if not any(a and b and a[0] == b[0] and a[1] != b[1] for a, b in zip(known, now, strict=True)):
            table = self._model.layers.get(layer)
            if table is None or layer in case.primary.apart or not self._audited(case.primary, layer, table, ""):
                return
        facts: dict[str, Any] = {"layer": layer, "side": case.primary.name}
        case.charge(of_nobody(words.HOST_WROTE_HELD, facts, Fault.HOST), Place(case.now, "audit", "layers", key=layer))
        self._standing.lose(layer)

    def all_as_left(self) -> None:
        """Do so for all layers."""
        for layer in self._model.layers:
            self.host_wrote(layer)

    def begin_as(self, other: Contents) -> None:
        """Know what is known of the pair that this one's is a copy of."""
        self._looked_for = set(other._looked_for)

"""How much memory each side really holds, and whether that is more than the entries that it may hold take.

What a cache says of itself is a figure beside it; a process's memory is nobody's in particular.
"""

from __future__ import annotations

from time import perf_counter

from validator.entries.reachable import reachable
from validator.judge import words
from validator.judge.charge import Finding, Place, against
from validator.judge.keyed import KeyedCase

_TIMES = 2  # as much as its entries take, a side may hold
_RUNNING = 3  # looks one after the other, after which it is charged
_SHARE = 0.005  # of the time that passes, which counting may take where that is limited
_ALWAYS = 32  # looks where it is not, as in a replay; after them, an operation for every two objects that were met


class Memory:
    """Counts at audits what can be reached from both sides of one pair.

    Attributes:
        held: Bytes of tensors by side, as counted last.
    """

    def __init__(self, case: KeyedCase) -> None:
        self._case = case
        self.held: dict[str, int] = {}
        self._peak: dict[str, int] = {}
        self._running = {side.name: 0 for side in case.sides}
        self._looks = self._next = 0
        self._next_s = 0.0

    def look(self) -> None:
        """Count, unless that took too long of late."""
        began = perf_counter()
        if began < self._next_s or self._case.now < self._next:
            return
        n_objects = 0
        for side in self._case.sides:
            name, room, peak = side.name, 0, 0
            held, n_met = reachable(side.cache)
            n_objects += n_met
            for _, _, model in side.model.pools():
                model.measure()
                room += model.capacity * model.largest
                peak += model.most * model.largest
            # A pool may lie ready for all that it may hold; one that grows while no more is in it than before, may not.
            grew = held > self.held.get(name, held) and peak == self._peak.get(name)
            too_much = held > _TIMES * room or (grew and held > _TIMES * peak)
            too_much = too_much and not side.keeps_the_hosts  # of which the host may hold more than the entries
            self._running[name] = self._running[name] + 1 if too_much and room else 0
            self.held[name], self._peak[name] = held, peak
            if self._running[name] == _RUNNING:
                finding = Finding(words.HOLDS_TOO_MUCH, {"held": f"{held:,}", "most": f"{peak:,}"})
                self._case.charge(against(side, finding), Place(-1, "audit", "all"))
        self._looks += 1
        if self._case.config.overhead_budget:
            now = perf_counter()
            self._next_s = now + (now - began) / _SHARE
        elif self._looks >= _ALWAYS:
            self._next = self._case.now + n_objects // 2

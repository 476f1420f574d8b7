"""What is on record for one pair: so that one fault is one divergence with a count, and not a thousand."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from reports.record.words import Cause, Fault, Outcome
from shadow.operation import Pool
from validator.judge import words
from validator.judge.charge import Charge, Place
from validator.judge.counters import Counters
from validator.judge.words import key_text
from validator.models.places import Places, covers

_ANSWERED = (Outcome.BOTH_HIT_EQUAL.value, "both_hit")
_WHO_GAVE_WAY = (  # follow, once a side holds other keys than it should
    *(words.KEPT_ANOTHER, words.DROPPED_TOO_EARLY, words.EVICTED_A_YOUNGER, words.LOST, words.LOST_LATER),
    *(words.BEYOND_CAPACITY, words.NOT_EVICTED, words.PHANTOM),
)
_MOST = 8192  # places and marks remembered; beyond, a repeat may be written once more


class Ledger:
    """Remembers what was charged where, and where the sides are known to be apart.

    Two kinds of being apart are told from each other. A side is *apart* at a place where it was found to hold
    something else than its model says: what it answers there is no news until the key is set again or the pool
    cleared. The *keys* of a pool are apart once a fault made the sides hold different ones: that both then do what
    they declare, and differ, is a consequence.

    Args:
        counters: Where divergences are counted.
        quoted: Operations that a history quotes.
        places: The pools of the pair's shape.
    """

    def __init__(self, counters: Counters, quoted: int, places: Places) -> None:
        self._counters = counters
        self._places = places
        self._quoted = quoted
        # (op_index, operation, env_id, key, result) of the last operations, for the histories
        self.recent: deque[tuple[int, str, int | None, int | None, str]] = deque(maxlen=512)
        self._marks: OrderedDict[int | None, set[tuple[Any, ...]]] = OrderedDict()  # of each key, what is on record
        self._apart: OrderedDict[tuple[str, Pool, int | None, int | None], Charge] = OrderedDict()
        self._keys_apart: dict[tuple[Pool, int | None], Charge] = {}

    def history(self, env_id: int | None, key: int | None) -> tuple[str, ...]:
        """Tell the last operations that matter for a key, oldest first: its own, and clears that could touch it."""
        found: list[str] = []
        for op_index, name, env, each, result in reversed(self.recent):
            if key is None or each == key or (each is None and (env is None or env == env_id)):
                where = "" if env is None else f"[{env}]"
                what = "" if each is None else f" {key_text(each)}"
                found.append(f"#{op_index} {name}{where}{what}" + (f" -> {result}" if result else ""))
            if len(found) == self._quoted:
                break
        return tuple(reversed(found))

    def last_answered(self, pool: Pool, env_id: int | None, key: int) -> int:
        """Return the last operation at which both sides answered a key alike, as far back as is remembered, else -1."""
        for op_index, name, env, each, result in reversed(self.recent):
            asked = name.partition(".")[2]
            if each == key and result in _ANSWERED and pool in self._places.pools_of(asked) and env in (env_id, None):
                return op_index
        return -1

    def last_set(self) -> int:
        """Return the last set of any key, as far back as is remembered, else -1."""
        return next((op_index for op_index, name, *_ in reversed(self.recent) if name.startswith("set.")), -1)

    def count(self, charge: Charge) -> None:
        """Count a charge without writing it."""
        self._counters.divergences[charge.group] += 1

    def is_news(self, charge: Charge, place: Place) -> bool:
        """Count a charge, and tell whether this very fault is not on record yet."""
        self.count(charge)
        key = None if charge.cause in (Cause.RAISED, Cause.ONE_STORE) else place.key
        mark, marks = (place.pool, place.env_id, charge.cause, charge.fault), self._marks.setdefault(key, set())
        if mark in marks:
            return False
        if len(marks) < _MOST:
            marks.add(mark)
        if len(self._marks) > _MOST:
            self._marks.popitem(last=False)
        return True

    def repeats(self, charge: Charge, place: Place) -> bool:
        """Count a charge under the one it follows from, if there is one on record."""
        if charge.cause is Cause.RAISED or not (self._apart or self._keys_apart):
            return False
        sides = (charge.fault.value,) if charge.fault in (Fault.CONTROL, Fault.CANDIDATE) else ("control", "candidate")
        for pool, env_id in self._places.asked(place.pool, place.env_id):
            known = self._keys_apart.get((pool, env_id))
            if known is not None and not (charge.by_policy or _follows(charge, known)):
                known = None
            for side in sides:
                known = known or self.apart(side, pool, env_id, place.key)
            if known is not None:
                self.count(known)
                return True
        return False

    def set_apart(self, side: str, pool: Pool, env_id: int | None, key: int | None, charge: Charge) -> None:
        """Note that a side holds something else than its model under a key; None for anywhere in the pool."""
        self._apart[(side, pool, env_id, key)] = charge
        if len(self._apart) > _MOST:
            self._apart.popitem(last=False)

    def set_keys_apart(self, pool: Pool, env_id: int | None, charge: Charge) -> None:
        """Note that the sides hold different keys of a pool because of a fault."""
        self._keys_apart.setdefault((pool, env_id), charge)

    def keys_part(self, side: str, pool: Pool, env_id: int | None, key: int | None, charge: Charge) -> None:
        """Note that a side holds something else than its model, and that the sides hold different keys by that."""
        self.set_apart(side, pool, env_id, key, charge)
        self.set_keys_apart(pool, env_id, charge)

    def apart(self, side: str, pool: Pool, env_id: int | None, key: int | None) -> Charge | None:
        """Return the charge for which a side is known to be apart there, if it is."""
        if not self._apart:
            return None
        return self._apart.get((side, pool, env_id, key)) or self._apart.get((side, pool, env_id, None))

    def begin_as(self, other: Ledger) -> None:
        """Know apart what is apart of the pair that this one's is a copy of."""
        self._apart.update(other._apart)
        self._keys_apart.update(other._keys_apart)

    def was_set(self, pool: Pool, env_id: int | None, key: int) -> None:
        """Forget about a key that was set again on both sides."""
        if self._apart:
            for side in ("control", "candidate"):
                self._apart.pop((side, pool, env_id, key), None)
        marks = self._marks.get(key)
        if marks:
            marks -= {mark for mark in marks if pool in self._places.pools_of(mark[0])}

    def was_cleared(self, pool: Pool, env_id: int | None) -> None:
        """Forget about a pool that both sides have cleared; of no env means of all."""
        for place in [p for p in self._apart if covers(pool, env_id, p[1], p[2])]:
            del self._apart[place]
        for pool_apart in [f for f in self._keys_apart if covers(pool, env_id, f[0], f[1])]:
            del self._keys_apart[pool_apart]


def _follows(charge: Charge, known: Charge) -> bool:
    """Tell whether a side that is charged with other keys in a pool already does only what follows from them."""
    return charge.finding.kind in _WHO_GAVE_WAY and charge.fault is known.fault and charge.cause is not known.cause

"""Judges what a host stores by what it recomputes of it without a cache, within a share of the wall time."""

from __future__ import annotations

import random
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter_ns
from typing import Any

from torch import nn

from reports.record.records import LeafDifference
from reports.record.words import NOT_RECOMPUTED, NOT_RECOMPUTED_RAISED, Fault
from shadow.operation import Observation, Operation
from shadow.recompute import Chosen, Place, Recomputed, Recomputer, Tensors, regions, undisturbed
from validator.config import OracleConfig
from validator.entries.compare import Tolerance
from validator.judge import charge as charges
from validator.judge.charge import Charge, Finding
from validator.observe.pair import Pair
from validator.oracle import words
from validator.oracle.comparison import FLOOR, close, distance, entry, explained, shown, whereabouts

_REMEMBERED = 64  # entries whose expectation is held against what lookups answer
_EVIDENCE = "the evidence shows what was found as the control's, and the recomputation as the candidate's"


class Oracle:
    """Implements ``shadow.recompute.Oracle`` for one pair.

    Args:
        pair: Whose host is judged.
        config: Settings.
        seed: Seed of what is followed.
    """

    def __init__(self, pair: Pair, recomputer: Recomputer, config: OracleConfig, seed: int) -> None:
        self._pair = pair
        self._case = pair.case
        self._recomputer = recomputer
        self._config = config
        self._random = random.Random(seed)
        self._tolerance = Tolerance(config.rtol, config.atol)
        self._asked = 0
        self._exact = True
        self._floor = 0.0
        self._began_ns = perf_counter_ns()
        self._spent_ns = 0
        self._depth = 0
        self._in_operation = False
        self._raised: set[str] = set()
        self._measured: dict[str, tuple[float, int]] = {}
        self._expected: OrderedDict[tuple[Any, ...], Recomputed] = OrderedDict()
        recomputer.attach(self)
        pair.oracle = self

    # -- what the pair tells -------------------------------------------------------------------------------------------

    def storing(self, operation: Operation, env_id: int | None, key: int | None, given: Any) -> None:
        """See a set before either side does it."""
        place = Place(self._case.now, operation.name, operation.pool, env_id, key)
        self._expected.pop(place[2:5], None)
        self._in_operation = True
        with self.contained("see what is stored"):
            self._recomputer.stored(place, given)
        self._in_operation = False

    def looked_up(self, seen: Observation) -> None:
        """See a lookup, and hold what each side answered against what was recomputed of it when it was stored."""
        op_index, operation, env_id, key, control, candidate, _, _, _, _ = seen
        place = Place(op_index, operation.name, operation.pool, env_id, key)
        self._in_operation = True
        with self.contained("see a lookup"):
            primary = control if self._case.primary is self._case.control else candidate
            self._recomputer.looked_up(place, primary)
            if control is not None and candidate is not None and self._expected:
                self._answered(place, control, candidate)
        self._in_operation = False

    @property
    def ended(self) -> bool:
        """Whether nothing can happen any more: the host let go of its cache."""
        return self._pair.ended

    def close(self) -> None:
        """Take the hooks off, and say what was measured."""
        with self.contained("let go of the host"):
            self._recomputer.detach()
        self._pair.oracle = None
        for what, (greatest, count) in self._measured.items():
            self._case.sink.event(
                "oracle_measured", f"{self._case.name}: {what} {greatest:.1e}, the greatest of {count:,}"
            )
        spent = self._spent_ns / max(1, perf_counter_ns() - self._began_ns)
        exact = f"two recomputations of the same differed by {self._floor:.3f} of the tolerance at most"
        self._case.sink.event("oracle", f"{self._case.name}: {spent:.2%} of the wall time; {exact}")

    def in_forked_child(self) -> None:
        """Let go of the host, in a forked child where nobody watches."""
        with suppress(Exception):
            self._recomputer.detach()
        self._pair.oracle = None

    # -- what a recomputer calls ---------------------------------------------------------------------------------------

    def choose(self, what: Chosen, count: int) -> frozenset[int]:
        """See ``shadow.recompute.Oracle``."""
        wanted = self._config.sequences if what == "sequences" else self._config.envs
        chosen = frozenset(self._random.sample(range(count), min(wanted, count)))
        if chosen:
            self._case.counters.coverage[f"{what} followed"] += len(chosen)
        return chosen

    def search_is_followed(self) -> bool:
        """See ``shadow.recompute.Oracle``."""
        followed = bool(self._config.searches) and self._random.randrange(self._config.searches) == 0
        if followed:
            self._case.counters.coverage["searches followed"] += 1
        return followed

    def affords(self) -> bool:
        """See ``shadow.recompute.Oracle``."""
        budget = self._config.budget
        if not budget or self._spent_ns <= budget * (perf_counter_ns() - self._began_ns):
            return True
        self.not_judged("no time left in the budget")
        return False

    @contextmanager
    def contained(self, step: str, module: nn.Module | None = None) -> Iterator[None]:
        """See ``shadow.recompute.Oracle``."""
        began = perf_counter_ns()
        self._depth += 1
        try:
            with self._pair.lock:
                if module is None:
                    yield
                else:
                    with undisturbed(module):
                        yield
        except Exception as error:
            self._note(step, error)
        finally:
            self._depth -= 1
            if not self._depth:
                took = perf_counter_ns() - began
                self._spent_ns += took
                if not self._in_operation:  # else the pair counts it
                    self._pair.harness_ns += took

    def judge(self, place: Place, held: dict[str, Tensors], expected: Recomputed) -> bool | None:
        """See ``shadow.recompute.Oracle``."""
        self._asked += 1
        if not self._asked & (self._asked - 1):  # at 1, 2, 4, 8, ...: seldom, and not only at the beginning
            self._calibrate(expected)
        wrong = [who for who, found in held.items() if not close(found, expected.tensors, self._tolerance)]
        # Nobody is charged by a recomputation that is not exact just there.
        if not self._exact or (wrong and not self._calibrate(expected)):
            self.not_judged("two recomputations of the same differ by more than a third of the tolerance")
            return None
        coverage = self._case.counters.coverage
        coverage["recomputations"] += 1
        coverage["values recomputed"] += sum(tensor.numel() for tensor in expected.tensors)
        if wrong:
            self._charge(place, held, wrong, expected)
            return False
        coverage["recomputations that agreed"] += 1
        if "host" in held and place.key is not None:
            self._expected[place[2:5]] = Recomputed(expected.tensors, lambda _: (), first=expected.first)
            if len(self._expected) > _REMEMBERED:
                self._expected.popitem(last=False)
        return True

    def not_judged(self, why: str, count: int = 1) -> None:
        """See ``shadow.recompute.Oracle``."""
        self._case.counters.coverage[f"{NOT_RECOMPUTED}{why}"] += count

    def measured(self, what: str, value: float) -> None:
        """See ``shadow.recompute.Oracle``."""
        greatest, count = self._measured.get(what, (0.0, 0))
        self._measured[what] = max(greatest, value), count + 1

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _calibrate(self, expected: Recomputed) -> bool:
        """See how much recomputations of the same differ: once more alone, and in a batch of eight."""
        for batch in (1, 8):
            again = [tensor[:1] for tensor in expected.again(batch)]
            floor = distance(again, expected.tensors, self._tolerance)
            self._exact = floor <= FLOOR
            self._floor = self._floor if floor <= self._floor else floor
            if not self._exact:
                break
        return self._exact

    def _answered(self, place: Place, control: Any, candidate: Any) -> None:
        """Charge a side whose answer alone is not what was recomputed."""
        spots = self._case.places.asked(place.pool, place.env_id)
        known = [self._expected[spot] for pool, env in spots if (spot := (pool, env, place.key)) in self._expected]
        for expected in known:
            answers: dict[str, Tensors] = {"control": regions(control), "candidate": regions(candidate)}
            wrong = [who for who, found in answers.items() if not close(found, expected.tensors, self._tolerance)]
            if len(wrong) == 1:
                self._charge(place, answers, wrong, expected)

    def _charge(self, place: Place, held: dict[str, Tensors], wrong: list[str], expected: Recomputed) -> None:
        case, found, right = self._case, held[wrong[0]], expected.tensors
        leaves: tuple[LeafDifference, ...] = shown(found, right, self._tolerance)
        what, detail = explained(found, expected, self._tolerance)
        distances = [leaf.max_abs_diff for leaf in leaves if leaf.max_abs_diff is not None]
        is_side = "host" not in held and len(wrong) < len(held)
        fault, who = Fault.HOST, "The host"
        if is_side:
            side = case.control if wrong[0] == "control" else case.candidate
            fault, who = side.fault, f"The {side.label}"
        where = whereabouts(found, right, leaves, expected.first, self._tolerance)
        is_score = place.pool == "scores"
        facts = {
            "did": "holds" if is_side else "chose a token after" if is_score else "stored",
            "detail": f" ({detail})" if detail else "",
            "where": f"scores behind position {expected.first}" if is_score else where,
            "most": f", by up to {max(distances):.1e}" if distances else "",
            "found": found[0].shape[2],
            "expected": right[0].shape[2],
        }
        kind = words.UNEXPLAINED if what is None else words.KINDS[what]
        row = "" if place.row is None else f"row {place.row} of the batch; "
        charge = Charge(Finding(kind, facts, f"{row}{_EVIDENCE}"), fault, who, leaves)
        at = charges.Place(place.op_index, place.operation, place.pool, place.env_id, place.key)
        case.charge(charge, at, (entry(found), entry(right)))

    def _note(self, step: str, error: Exception) -> None:
        kind = type(error).__name__
        self._case.counters.coverage[f"{NOT_RECOMPUTED_RAISED}{kind}"] += 1
        if kind not in self._raised:
            self._raised.add(kind)
            detail = "".join(traceback.format_exception(error)[-6:])
            self._case.sink.event("oracle_raised", f"{self._case.name}, at the step {step!r}: {detail}")

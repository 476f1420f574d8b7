"""What is wrong with a nest that a side answers is named as it is of keys and values: which leaf, whose, since when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reports.record.words import Cause, Fault
from shadow.entries import cloned, leaves
from tests.guards import guards
from tests.shadow.nests import Pair, Quantised, assert_equal_nests, floats
from tests.validator.trials import DictCache, Open, charged, only, trial


def nest(number: float) -> Any:
    return (
        Pair(floats(number, 4, 6), floats(number + 0.25, 4, 6)),
        {"q": Quantised(floats(number, 4, 8).to(torch.int8), floats(number + 0.5, 4, 1, dtype=torch.float64)), "n": 7},
    )


class NestCache(DictCache):
    """A sound cache of any nests."""

    def _store(self, kv_cache: Any) -> Any:
        return cloned(kv_cache)

    def _answer(self, held: Any) -> Any:
        return cloned(held)


class Wrong(NestCache):
    """Answers what a function makes of what it holds."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.change = change

    def _answer(self, held: Any) -> Any:
        return self.change(cloned(held))


def leaf(own: Any, index: int) -> Any:
    return leaves(own)[index].tensor


def in_place(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def change(own: Any) -> Any:
        act(own)
        return own

    return change


def other_dtype(own: Any) -> Any:
    return (own[0]._replace(v=own[0].v.double()), own[1])


def other_value(own: Any) -> Any:
    own[1]["n"] = 8
    return own


def without_scale(own: Any) -> Any:
    own[1]["q"] = own[1]["q"].codes
    return own


WRONG: dict[str, tuple[Callable[[Any], Any], Cause, str]] = {
    "k and v swapped": (
        lambda own: (Pair(own[0].v, own[0].k), own[1]),
        Cause.LAYER_MIXED,
        "has keys, values, layers or tensors in one another's place",
    ),
    "a list": (lambda own: list(own), Cause.SHAPE_OFF, "answers list at its root where tuple was stored"),
    "another value": (other_value, Cause.SHAPE_OFF, "answers int 8 at 1.n where int 7 was stored"),
    "no scale": (without_scale, Cause.SHAPE_OFF, "answers a tensor at 1.q where tests.shadow.nests.Quantised was stor"),
    "another dtype": (other_dtype, Cause.DTYPE_DRIFT, "changed the dtype of 0.v from float32 to float64"),
    "another shape": (
        lambda own: (own[0]._replace(v=own[0].v[:2]), own[1]),
        Cause.SHAPE_OFF,
        "changed the shape of 0.v from (4, 6) to (2, 6)",
    ),
    "one leaf zero": (
        in_place(lambda own: leaf(own, 3).zero_()),
        Cause.PARTIAL_COPY,
        "did not copy 4 of 16 rows: they are zero",
    ),
    "rows at the end": (
        in_place(lambda own: leaf(own, 0)[2:].mul_(-1.5)),
        Cause.PARTIAL_COPY,
        "did not copy the last 2 rows of dimension 0 of 1 of 4 tensors",
    ),
    "rows zero": (
        in_place(lambda own: leaf(own, 0)[1:3].zero_()),
        Cause.PARTIAL_COPY,
        "did not copy 2 of 16 rows: they are zero",
    ),
    "rounded": (
        in_place(lambda own: leaf(own, 0).copy_(leaf(own, 0).to(torch.float16))),
        Cause.ROUNDING,
        "rounded the values",
    ),
    "rows in another order": (
        in_place(lambda own: leaf(own, 0).copy_(leaf(own, 0).flip(0))),
        Cause.TOKENS_PERMUTED,
        "holds the right values in another order",
    ),
    "noise": (in_place(lambda own: leaf(own, 3)[1].add_(0.01)), Cause.CORRUPTED, "in 1 of 4 tensors"),
}


@guards("validator/judge/values.py", "if all(tails):", "if False:")
@pytest.mark.parametrize("at_fault", [Fault.CONTROL, Fault.CANDIDATE], ids=lambda fault: fault.value)
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_nest_is_named_with_its_leaf(name: str, at_fault: Fault) -> None:
    change, cause, said = WRONG[name]
    sides = (Wrong(change), NestCache())
    run = trial(*(sides if at_fault is Fault.CONTROL else sides[::-1]))
    run.cache.set_init_cache(0, 1, nest(1 / 3))
    run.cache.get_init_cache(0, 1)
    charge = only(run)
    assert (charge.cause, charge.fault) == (cause, at_fault)
    assert said in charge.explanation


class AnswersAnother(NestCache):
    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        return super()._get(place, 2 if 2 in self._pool(*place) else key)


class IgnoresResets(NestCache):
    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        return 0 if key in self._pool(*place) else super()._set(place, key, kv_cache)


class HalfOfBefore(NestCache):
    """At a second set of a key it copies the first two tensors only."""

    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        held = self._pool(*place).get(key)
        if held is None:
            return super()._set(place, key, kv_cache)
        for own, new in list(zip(leaves(held), leaves(kv_cache), strict=True))[:2]:
            own.tensor.copy_(new.tensor)
        return 0


class Stores(Open):
    """Stores the very object."""

    def _answer(self, held: Any) -> Any:
        return cloned(held)

    def _store(self, kv_cache: Any) -> Any:
        return kv_cache


@pytest.mark.parametrize(
    ("candidate", "causes", "said"),
    [
        (AnswersAnother(), {Cause.OTHER_KEY}, "answers the entry of key 0000000000000002"),
        (IgnoresResets(), {Cause.RESET_IGNORED}, "answers what operation 0 stored"),
        (HalfOfBefore(), {Cause.PARTIAL_COPY}, "copied 2 of 4 tensors; the others are those that operation 0 stored"),
        (Stores(), {Cause.ALIASED_ON_SET}, "stored a reference to its input"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whose_nest_it_is_and_since_when_is_named(candidate: DictCache, causes: set[Cause], said: str) -> None:
    run = trial(NestCache(), candidate)
    for number, key in enumerate((1, 2, 1)):
        run.cache.set_init_cache(0, key, nest(number))
    for key in (1, 2):
        assert_equal_nests(run.cache.get_init_cache(0, key), nest({1: 2, 2: 1}[key]))
    run.pair.audit()
    assert {cause for cause, _ in charged(run)} == causes
    assert {fault for _, fault in charged(run)} == {Fault.CANDIDATE}
    assert said in run.divergences[0].explanation


@guards("validator/judge/keyed.py", "cloned(readable(right)))", "right)")
def test_a_wrong_nest_is_mended_with_what_the_primary_holds() -> None:
    given = []

    class Told(NestCache):
        def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any:
            given.append(kv_cache)
            return super().set_init_cache(env_id, cache_key, kv_cache)

    class Shown(NestCache):
        def peek(self, pool: Any, env_id: int | None, cache_key: int) -> Any:
            return self._pool(pool, env_id).get(cache_key)

    control, candidate = Shown(), Told()
    run = trial(control, candidate)
    run.cache.set_init_cache(0, 1, nest(1))
    leaf(candidate._pool("init", 0)[1], 0).add_(1)
    for _ in range(3):
        run.cache.get_init_cache(0, 1)
    only(run)
    assert leaf(given[-1], 0).data_ptr() != leaf(control._pool("init", 0)[1], 0).data_ptr()
    assert_equal_nests(candidate.get_init_cache(0, 1), nest(1))


@pytest.mark.parametrize("deferred", ["auto", "always", "never"])
def test_sound_caches_of_nests_are_silent(deferred: str) -> None:
    run = trial(NestCache(), NestCache(), deferred=deferred)
    for number in range(40):
        run.cache.set_init_cache(number % 2, number % 7, nest(number))
        run.cache.set_recur_cache(number % 5, {"k": floats(number, 2, 2, 3, 4)})
        run.cache.hierarchical_get(number % 2, number % 7)
        run.cache.get_recur_cache(number % 6)
    run.cache.clear_all()
    run.pair.audit()
    assert charged(run) == []
    assert run.pair.case.counters.dropped == {}

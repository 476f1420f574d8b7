"""Mappings against their models: sound ones are silent, wrong ones are named, and what nobody can know is said."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cachetools
import pytest

from reports.record.words import Cause, Fault
from shadow import CachePolicy
from tests.guards import guards
from tests.shadow.nests import floats
from tests.validator.trials import charged, only, trial
from validator.config import ValidationConfig
from validator.proof.trial import Trial
from validator.session import Lockstep


def entry(number: float) -> Any:
    return (floats(number, 2, 3), {"v": floats(number + 0.5, 3)})


def used(run: Trial, operations: int = 240, keys: int = 12, seed: int = 0, popitem: bool = True) -> Trial:
    """Use every verb of a mapping, at random; keys of several kinds."""
    draw, cache = random.Random(seed), run.cache
    acts: list[Callable[[Any, int], Any]] = [
        *[lambda key, n: cache.__setitem__(key, entry(n))] * 6,
        *[lambda key, _: cache[key]] * 5,
        *[lambda key, _: cache.get(key)] * 3,
        *[lambda key, _: key in cache] * 2,
        lambda key, _: cache.pop(key),
        lambda key, _: cache.pop(key, None),
        lambda key, _: cache.__delitem__(key),
        lambda key, n: cache.setdefault(key, entry(n)),
        lambda key, n: cache.update({key: entry(n)}),
        lambda _, __: list(cache.items()),
        lambda _, n: n % 7 or run.pair.audit(),
        lambda _, n: n % 7 or cache.clear(),
        lambda _, __: cache.popitem() if popitem else None,
    ]
    for number in range(operations):
        key = draw.randrange(keys)
        with suppress(KeyError):
            draw.choice(acts)((None, key, ("text", key))[key % 3] or key, number)
    run.finish()
    return run


class Sound(cachetools.LRUCache):
    """One of a class that nobody knows, which says what it does."""

    def policy(self) -> CachePolicy:
        return CachePolicy("lru", capacity=int(self.maxsize))


class Copying(dict[Any, Any]):
    """Stores and answers copies, as it declares."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, (value[0].clone(), {"v": value[1]["v"].clone()}))

    def __getitem__(self, key: Any) -> Any:
        held = super().__getitem__(key)
        return held[0].clone(), {"v": held[1]["v"].clone()}

    def get(self, key: Any, default: Any = None) -> Any:
        with suppress(KeyError):
            return self[key]
        return default

    def policy(self) -> CachePolicy:
        return CachePolicy("fifo", stores="copy", live_results=False)


SOUND: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "LRUCache": lambda: cachetools.LRUCache(5),
    "FIFOCache": lambda: cachetools.FIFOCache(5),
    "LFUCache": lambda: cachetools.LFUCache(5),
    "measured": lambda: cachetools.LRUCache(100, getsizeof=lambda value: value[0].numel()),
    "declared": lambda: Sound(5),
    "copying": Copying,
}


@guards("validator/judge/examination.py", " or side.by_reference)", ")")
@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("name", SOUND)
def test_sound_mappings_are_silent(name: str, primary: str) -> None:
    run = used(trial(SOUND[name](), SOUND[name](), primary))
    assert charged(run) == []
    assert run.pair.counters.dropped == {}
    assert run.pair.counters.lookups["entries"][0] > 20


def test_a_mapping_that_copies_agrees_with_one_that_does_not() -> None:
    for sides in (({}, Copying()), (Copying(), {})):
        for primary in ("control", "candidate"):
            assert charged(used(trial(*sides, primary), popitem=False)) == []
            for side in sides:
                side.clear()


class NeverTouched(Sound):
    def __getitem__(self, key: Any) -> Any:
        return cachetools.Cache.__getitem__(self, key)


class PopsNothing(Sound):
    def pop(self, key: Any, *default: Any) -> Any:
        return self[key] if key in self else cachetools.LRUCache.pop(self, key, *default)


class DeletesNothing(Sound):
    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)


class ClearsNothing(Sound):
    def clear(self) -> None:
        return


class HasEverything(Sound):
    def __contains__(self, key: Any) -> bool:
        return True

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if cachetools.Cache.__contains__(self, key) else default

    def pop(self, key: Any, *default: Any) -> Any:
        value = self[key]
        cachetools.LRUCache.__delitem__(self, key)
        return value


class IgnoresResets(Sound):
    def __setitem__(self, key: Any, value: Any, *more: Any) -> None:
        if key not in self:
            super().__setitem__(key, value)


class Forgetful(Sound):
    def __setitem__(self, key: Any, value: Any, *more: Any) -> None:
        if key != 7:
            super().__setitem__(key, value)


class ListsAsTuple(Sound):
    def __setitem__(self, key: Any, value: Any, *more: Any) -> None:
        super().__setitem__(key, list(value))


class Declares(Copying):
    """Says that it copies, and does not."""

    def __setitem__(self, key: Any, value: Any) -> None:
        dict.__setitem__(self, key, value)


WRONG: dict[str, tuple[Callable[[], Any], Callable[[], Any], Cause]] = {
    "a lookup is no use": (lambda: cachetools.LRUCache(5), lambda: NeverTouched(5), Cause.WRONG_EVICTION),
    "holds one less": (lambda: cachetools.LRUCache(5), lambda: cachetools.LRUCache(4), Cause.CAPACITY_OFF),
    "holds one more": (lambda: cachetools.LRUCache(5), lambda: cachetools.LRUCache(6), Cause.CAPACITY_OFF),
    "pop removes nothing": (lambda: Sound(50), lambda: PopsNothing(50), Cause.CLEAR_FORGOTTEN),
    "del removes nothing": (lambda: Sound(50), lambda: DeletesNothing(50), Cause.CLEAR_FORGOTTEN),
    "clear clears nothing": (lambda: Sound(50), lambda: ClearsNothing(50), Cause.CLEAR_FORGOTTEN),
    "has everything": (lambda: Sound(50), lambda: HasEverything(50), Cause.PHANTOM),
    "a re-set is ignored": (lambda: Sound(50), lambda: IgnoresResets(50), Cause.RESET_IGNORED),
    "one key is never stored": (lambda: Sound(50), lambda: Forgetful(50), Cause.SET_IGNORED),
    "stores another container": (lambda: Sound(50), lambda: ListsAsTuple(50), Cause.SHAPE_OFF),
    "keeps what it says it copies": (Copying, Declares, Cause.ALIASED_ON_SET),
}


# What the control declares is what both are held to, so a control can't hold too many.
FAULTS = [
    (name, at_fault)
    for name in WRONG
    for at_fault in (Fault.CONTROL, Fault.CANDIDATE)
    if not (name.startswith("holds") and at_fault is Fault.CONTROL)
]


@guards("validator/judge/presence.py", "    if gone.reason is Reason.DELETED:\n", "    if False:\n")
@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize(("name", "at_fault"), FAULTS)
def test_a_wrong_mapping_is_named_with_its_side(name: str, primary: str, at_fault: Fault) -> None:
    sound, wrong, cause = WRONG[name]
    sides = (sound(), wrong()) if at_fault is Fault.CANDIDATE else (wrong(), sound())
    run = used(trial(*sides, primary), popitem=False)
    found = charged(run)
    if name.startswith("holds"):  # after a removal, one less or more is nothing but a wrong eviction
        found = sorted(found, key=lambda each: each[0] is not cause)
    assert found[0] == (cause, at_fault), run.divergences[0].explanation
    assert {fault for _, fault in found} == {at_fault}


def test_a_choice_out_of_turn_is_charged_to_whoever_made_it() -> None:
    class PopsTheMiddle(Sound):
        def popitem(self) -> Any:
            key = list(self)[len(self) // 2]
            return key, cachetools.LRUCache.pop(self, key)

    for fault in (Fault.CANDIDATE, Fault.CONTROL):
        sides = (Sound(50), PopsTheMiddle(50))
        run = trial(*(sides if fault is Fault.CANDIDATE else sides[::-1]))
        for number in range(9):
            run.cache[number] = entry(number)
        run.cache.popitem()
        charge = only(run)
        assert (charge.cause, charge.fault) == (Cause.WRONG_EVICTION, fault)
        assert "by its own choice" in charge.explanation


@guards("validator/judge/referee.py", "if changed else None", "if False else None")
@pytest.mark.parametrize("primary", ["control", "candidate"])
def test_a_host_that_writes_into_what_it_stored_is_charged_once_until_it_stores_again(primary: str) -> None:
    run = trial({}, {}, primary)
    mine = entry(1)
    run.cache["a"] = mine
    mine[0].add_(1)
    for _ in range(3):
        assert run.cache["a"] is mine
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.ALIASED_ON_SET, Fault.HOST)
    assert "the host wrote into that entry after operation 0 stored it" in charge.explanation
    run.cache["a"] = entry(2)
    run.cache["a"]
    run.finish()
    assert len(run.divergences) == 1


def test_a_host_that_fills_one_scratch_entry_for_all_is_charged_and_neither_side() -> None:
    run = trial(cachetools.LRUCache(100), cachetools.LRUCache(100))
    scratch = floats(0, 2, 3)
    for number in range(90):
        scratch.copy_(floats(number, 2, 3))
        run.cache[number] = scratch
    for number in range(90):
        run.cache.get(number)
    assert {fault for _, fault in charged(run)} == {Fault.HOST}


@guards("validator/observe/handed_out.py", " and case.secondary.holds(stored)", "")
def test_a_host_may_write_into_what_it_took_out() -> None:
    run = trial({}, {})
    for number in range(40):
        run.cache[number] = entry(number)
        run.cache[number]
        taken = run.cache.pop(number)
        taken[0].add_(1)
    run.finish()
    assert charged(run) == []


def test_presence_of_what_expires_by_a_clock_is_not_charged_and_that_is_said() -> None:
    now = [0.0, 0.0]
    sides = [cachetools.TTLCache(50, 10, timer=lambda own=own: now[own]) for own in (0, 1)]
    run = trial(*sides)
    for number in range(20):
        run.cache[number] = entry(number)
    now[0] = 11.0
    for number in range(20):
        run.cache.get(number)
    assert charged(run) == []
    assert run.pair.counters.lookups["entries"][3] == 20, "the outcome is counted as it is"
    now[1] = 11.0
    run.cache["a"] = entry(1)
    sides[1]["a"][0].add_(1)
    run.cache["a"]
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]
    assert "expire by a clock" in run.pair.case.assumed[0]


def test_of_a_class_that_says_nothing_presence_is_judged_by_agreement_and_that_is_said() -> None:
    class Own(cachetools.LRUCache):
        pass

    run = used(trial(Own(5), Own(5)))
    assert charged(run) == []
    assert "presence is judged by agreement only: whom control (Own) evicts is not known" in run.pair.case.assumed[0]


def test_a_policy_that_is_none_is_said_and_not_believed() -> None:
    class Odd(dict[Any, Any]):
        def policy(self) -> Any:
            return "lru"

    run = trial({}, Odd())
    assert "candidate: policy() answered 'lru'" in run.pair.case.assumed[0]


class Inventive(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return entry(0)


@pytest.mark.parametrize(
    ("control", "candidate", "said"),
    [
        (lambda: cachetools.RRCache(4), dict, "draws whom it evicts from the global random generator"),
        (dict, Inventive, "makes up what it was never given (__missing__)"),
        (lambda: defaultdict(list), dict, "makes up what it was never given (__missing__)"),
        (dict, object, "candidate is a object, which is no MutableMapping"),
    ],
)
def test_what_cant_be_shadowed_is_refused_in_one_sentence(
    tmp_path: Path, control: Any, candidate: Any, said: str
) -> None:
    with Lockstep(tmp_path, ValidationConfig(selftest=False)) as lockstep:
        with pytest.raises(ValueError, match=r"^c") as refused:
            lockstep.shadow(control=control(), candidate=candidate())
        assert said in str(refused.value)
        assert lockstep.pairs == []


def test_what_both_hold_before_is_read_in() -> None:
    one, other = {1: entry(1), "a": entry(2)}, {1: entry(1), "a": entry(3)}
    run = trial(one, other)
    assert charged(run) == [(Cause.UNKNOWN, Fault.HOST)]
    run.cache[1]
    run.cache["a"] = entry(4)
    run.cache["a"]
    assert len(charged(run)) == 1


@guards("validator/judge/presence.py", "if extra is not None:", "if False:")
def test_a_session_on_mappings_passes_and_fails_by_itself(tmp_path: Path) -> None:
    verdicts = []
    for candidate in (cachetools.LRUCache(5), NeverTouched(5)):
        with Lockstep(tmp_path, ValidationConfig()) as lockstep:
            cache = lockstep.shadow(control=cachetools.LRUCache(5), candidate=candidate)
            for number in range(200):
                for key in (number % 3, number % 11):
                    if cache.get(key) is None or number % 5 == 0:
                        cache[key] = entry(number)
        verdicts.append(lockstep.verdict.verdict.value)
    assert verdicts == ["PASS", "FAIL"], lockstep.verdict

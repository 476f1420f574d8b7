"""Results that were handed out: who changed them while they were held, and whose memory they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reports.record.words import Cause, Fault
from shadow.entry import leaves
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.validator.trials import (
    CONFIG,
    ENVS,
    DictCache,
    Open,
    Undeclared,
    charged,
    counted,
    damage,
    declared,
    entry,
    legacy,
    manager,
    only,
    trial,
)

PRIMARIES = ("control", "candidate")


class OneScratch(Open):
    """Answers every get with the same object."""

    scratch: Any = None

    def _answer(self, held: Any) -> Any:
        if self.scratch is None:
            self.scratch = held.clone()
        self.scratch.copy_from(leaves(held))
        return self.scratch


@guards(
    "validator/observe/handed_out.py",
    "self._look(side, [(answer, partial(self._charge_change, side, answer.stored)) for answer in answers])",
    "pass",
)
@guards("validator/observe/handed_out.py", "self._charge_change(self._case.primary, watch.answer.stored)", "pass")
@pytest.mark.parametrize("wrong", PRIMARIES)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_result_that_a_later_get_overwrites_is_named(wrong: str, primary: str) -> None:
    sides = (OneScratch(), manager()) if wrong == "control" else (manager(), OneScratch())
    run = trial(*sides, primary)
    for number in range(1, 5):
        run.cache.set_recur_cache(number, entry(number))
    for _ in range(10):
        for number in range(1, 5):
            run.cache.get_recur_cache(number)
    run.finish()
    assert charged(run)
    assert set(charged(run)) == {(Cause.ALIASED_ON_GET, Fault(wrong))}


def test_the_legacy_store_may_hand_out_its_slots_as_it_declares() -> None:
    for sides in ((legacy(), manager()), (manager(), legacy())):
        for primary in PRIMARIES:
            run = trial(*sides, primary)
            for number in range(40):
                run.cache.set_recur_cache(number, entry(number))
                run.cache.get_recur_cache(number)
            run.finish()
            assert charged(run) == []


@guards(
    "validator/observe/handed_out.py",
    "looks.append((watch.answer, partial(self._host_wrote, watch, is_stored)))",
    "pass",
)
@guards("shadow/wrapper/both.py", 'if kind != "get" or observer.watching:', 'if kind != "get":')
def test_a_host_that_writes_into_a_live_result_is_charged() -> None:
    run = trial(legacy(), manager())
    run.cache.set_recur_cache(1, entry(1))
    answer = run.cache.get_recur_cache(1)
    damage(answer)
    run.cache.get_recur_cache(2)
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.ALIASED_ON_GET, Fault.HOST)
    run.cache.get_recur_cache(1)
    run.finish()
    assert [fault for _, fault in charged(run)] == [Fault.HOST], "what follows from it is no news"


@guards("validator/observe/handed_out.py", "        if not is_stored:", "        if False:")
def test_a_host_may_write_into_a_copy() -> None:
    for sides in ((manager(), manager()), (Open(), manager()), (DictCache(), Open())):
        run = trial(*sides)
        run.cache.set_recur_cache(1, entry(1))
        damage(run.cache.get_recur_cache(1))
        run.cache.get_recur_cache(1)
        run.finish()
        assert charged(run) == []


def test_a_host_that_goes_on_writing_into_what_it_stored_is_no_divergence() -> None:
    run = trial(legacy(), manager())
    scratch = entry(1)
    run.cache.set_recur_cache(1, scratch)
    damage(scratch)
    run.cache.get_recur_cache(1)
    run.finish()
    assert charged(run) == []


@guards("validator/judge/custody.py", "PERHAPS_THE_HOST), fault=Fault.UNKNOWN)", "PERHAPS_THE_HOST))")
def test_damage_to_what_the_host_may_have_written_is_charged_to_nobody() -> None:
    control = legacy()
    run = trial(control, manager())
    for number in range(1, 4):
        run.cache.set_recur_cache(number, entry(number))
    run.cache.get_recur_cache(1)
    for _ in range(10):
        run.cache.get_recur_cache(2)  # whoever looked at the answer has stopped looking
    damage(control.peek("recur", None, 1))
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.CORRUPTED, Fault.UNKNOWN)
    assert "the host may have done it" in charge.explanation


# Answers that are what is stored


def append(held: Any) -> None:
    """Add one token to every layer, where it lies."""
    for layer in held:
        layer.update(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))


class Live(Undeclared):
    """Answers what it stores, and says nothing about it."""

    def _answer(self, held: Any) -> Any:
        return held


class DeclaresCopies(Live):
    """Answers what it stores, and declares that it doesn't."""

    def policy(self) -> Any:
        return declared()


class ShowsItself(Open):
    """The same, and lets itself be looked into."""

    def _answer(self, held: Any) -> Any:
        return held


class DeclaresLive(Live):
    """Answers what it stores, and declares it."""

    def policy(self) -> Any:
        return declared(live_results=True)


LIVE = [Live, DeclaresCopies, ShowsItself, DeclaresLive]
SEEN = "answers of the candidate that are what it stores"


@guards("validator/judge/custody.py", "if side.model.policy.live_results is False:", "if False:")
@guards("validator/judge/examination.py", "self.custody.was_asked(side, entry, stored)", "pass")
@pytest.mark.parametrize("make", LIVE)
def test_a_secondary_that_hands_out_what_it_stores_is_charged_if_it_declares_not_to(make: Any) -> None:
    run = trial(Open(), make())
    for number in range(6):
        run.cache.set_recur_cache(number, entry(number))
        for _ in range(2 if make is Live else 1):  # one that declares nothing is not asked by audits
            run.cache.get_recur_cache(number)
    run.finish()
    expected = [(Cause.ALIASED_ON_GET, Fault.CANDIDATE)] if make in (DeclaresCopies, ShowsItself) else []
    assert charged(run) == expected
    assert run.pair.case.counters.coverage[SEEN] > 0, "the report says so in any case"


@guards("validator/observe/handed_out.py", "if self._custody.secondary_lends and", "if False and")
@guards("validator/judge/custody.py", "return bool(shared) and", "return False and")
@pytest.mark.parametrize("make", LIVE)
@pytest.mark.parametrize("write", [damage, append], ids=["writes", "appends"])
def test_a_secondary_whose_store_a_host_would_have_written_into_is_charged(make: Any, write: Any) -> None:
    run = trial(Open(), make())
    for number in range(80):  # by far more than are asked for once more
        run.cache.set_recur_cache(number % 3, entry(number))
        run.cache.get_recur_cache(number % 3)
        answer = run.cache.get_recur_cache(number % 3)
        if number >= 20:
            write(answer)
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.ALIASED_ON_GET, Fault.CANDIDATE)
    assert counted(run) > 1, "one defect is one divergence, with a count"


def test_a_live_secondary_of_a_host_that_only_reads_is_nobodys_fault() -> None:
    run = trial(manager(), legacy())
    for number in range(40):
        run.cache.set_recur_cache(number, entry(number))
        run.cache.get_recur_cache(number)
    run.finish()
    assert charged(run) == []
    assert run.pair.case.counters.coverage[SEEN] > 0


def test_answers_out_of_one_block_of_memory_are_not_one_memory() -> None:
    class Paged(DictCache):
        """Keeps all entries, and the copies that it hands out, in one tensor: a page each."""

        def __init__(self) -> None:
            super().__init__()
            self.block, self.page = torch.zeros(512, 4, 1, 2, 4, 2), 0

        def policy(self) -> Any:
            return declared()

        def _store(self, kv_cache: Any) -> Any:
            own = kv_cache.clone()
            self.page += 1
            for index, (layer_cache, leaf) in enumerate(zip(caches_of(own), leaves(kv_cache), strict=True)):
                layer_cache._cache = self.block[self.page, index].copy_(leaf.tensor)
            return own

        _answer = _store

    def caches_of(made: Any) -> list[Any]:
        return [cache for layer in made for cache in (layer._k_cache, layer._v_cache)]

    for sides in ((Paged(), Paged()), (Open(), Paged())):
        run = trial(*sides)
        for number in range(20):
            run.cache.set_recur_cache(number % 5, entry(number))
            damage(run.cache.get_recur_cache(number % 5))
            run.cache.get_recur_cache(number % 5)
        run.finish()
        assert charged(run) == []


@guards(
    "validator/observe/handed_out.py",
    "self._look(self._case.primary, [(watch.answer, partial(self._cache_wrote, watch)) for watch in self.watched])",
    "pass",
)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_what_was_lent_and_touched_is_watched_where_the_host_has_it(primary: str) -> None:
    class Scribbles(KVCacheManager):
        last: Any = None

        def get_init_cache(self, env_id: int, cache_key: int) -> Any:
            if self.last is not None:
                next(iter(self.last)).get()[0].zero_()
            self.last = super().get_init_cache(env_id, cache_key)
            return self.last

    run = trial(legacy(), Scribbles(CONFIG, ENVS), primary)
    for number in range(4):
        run.cache.set_init_cache(0, number, entry(number))
        run.cache.get_init_cache(0, number)
    run.finish()
    assert set(charged(run)) == {(Cause.ALIASED_ON_GET, Fault.CANDIDATE)}


@guards("validator/judge/custody.py", "if not _is_lent(answer.found) and", "if")
def test_two_loans_of_one_entry_are_not_one_memory() -> None:
    class Hidden(KVCacheManager):
        peek = live_keys = None  # type: ignore[assignment]

    run = trial(manager(), Hidden(CONFIG, ENVS))
    for number in range(20):
        run.cache.set_recur_cache(number % 3, entry(number))
        damage(run.cache.get_recur_cache(number % 3))
        run.cache.get_recur_cache(number % 3)
    run.finish()
    assert charged(run) == []


# Hosts that write into what a primary declares to hand out


@guards("validator/entries/readable.py", "self.since <= op_index <= self.until", "True")
@guards("validator/observe/lookups.py", "self._custody.doubted_answer(found, answers[own], expected[own])", "found")
@pytest.mark.parametrize("write", [damage, append], ids=["writes", "appends"])
@pytest.mark.parametrize("looked_at", [True, False])
def test_a_host_that_stores_what_it_was_given_under_another_key_is_charged_and_never_the_control(
    write: Any, looked_at: bool
) -> None:
    run = trial(legacy(), manager())
    for number in range(12):
        key = number % 3
        run.cache.set_init_cache(0, key, entry(number))
        found = run.cache.get_init_cache(0, key)
        if not looked_at:
            run.pair._handed_out.watched.clear()
        write(found)
        run.cache.set_recur_cache(100 + key, found)
        run.cache.get_init_cache(0, key)
    run.finish()
    assert run.divergences
    who = Fault.HOST if looked_at else Fault.UNKNOWN
    assert {charge.fault for charge in run.divergences} == {who}, [c.explanation for c in run.divergences]
    assert Cause.ALIASED_ON_SET not in {charge.cause for charge in run.divergences}


def test_once_a_host_was_seen_to_write_what_else_it_wrote_is_its_own_too() -> None:
    run = trial(legacy(), manager())
    for number in range(4):
        run.cache.set_init_cache(0, number, entry(number))
    damage(run.cache.get_init_cache(0, 0))
    later = run.cache.get_init_cache(0, 1)
    run.pair._handed_out.watched.clear()
    damage(later)
    run.cache.get_init_cache(0, 1)
    run.finish()
    assert set(charged(run)) == {(Cause.ALIASED_ON_GET, Fault.HOST)}


def test_a_host_may_set_again_what_it_was_given_to_a_store_that_updates_in_place() -> None:
    class InPlace(DeclaresLive):
        def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
            held = self._pool(*place).get(key)
            if held is None:
                return super()._set(place, key, kv_cache)
            for own, given in zip(leaves(held), leaves(kv_cache), strict=True):
                own.tensor.copy_(given.tensor)
            return 0

    run = trial(InPlace(), InPlace())
    run.cache.set_recur_cache(1, entry(1))
    for _ in range(5):
        run.cache.set_recur_cache(1, run.cache.get_recur_cache(1))
        run.cache.get_recur_cache(1)
    run.finish()
    assert charged(run) == []

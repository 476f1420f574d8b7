"""Caches and hosts as other people write them: what they may do without a charge against anybody innocent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from reports.record.words import Cause, Fault
from shadow.entry import leaves
from tests.guards import guards
from tests.validator.trials import CONFIG, ENVS, DictCache, Undeclared, charged, entry, legacy, manager, trial
from validator.judge.words import key_text
from validator.proof.trial import Trial

# Proxies


class Remote:
    """Answers any attribute with something to call, as remote objects do."""

    def __init__(self, inner: Any) -> None:
        self.__dict__["inner"] = inner

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            method = getattr(self.inner, name, None)
            return {"error": f"no such method: {name}"} if method is None else method(*args, **named)

        return call


def play(run: Trial) -> None:
    for number in range(40):
        run.cache.set_init_cache(0, number % 5, entry(number))
        run.cache.get_init_cache(0, number % 4)
        run.cache.set_recur_cache(number % 3, entry(number + 0.5))
        run.cache.hierarchical_get(1, number % 4)
        if number % 20 == 19:
            run.cache.clear_all()
    run.pair.drain(0.0)
    run.finish()


@guards(
    "shadow/interface.py",
    "return None if getattr_static(cache, name, None) is None else found",
    "return found",
)
@pytest.mark.parametrize("proxy", [Remote, lambda inner: MagicMock(wraps=inner)], ids=["remote", "mock"])
def test_a_proxy_that_answers_any_attribute_is_judged_by_what_it_answers(proxy: Any) -> None:
    for one, other in ((manager(), proxy(Undeclared())), (proxy(Undeclared()), proxy(Undeclared()))):
        run = trial(one, other)
        assert not run.pair.case.candidate.lists_keys
        play(run)
        assert charged(run) == []


def test_a_proxy_that_passes_on_what_is_there_is_looked_into() -> None:
    class Passes:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    run = trial(manager(), Passes(manager()))
    assert run.pair.case.assumed == []
    assert run.pair.case.candidate.lists_keys


# Keys


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Node:
    at: int


class EqRaises:
    def __hash__(self) -> int:
        return 5

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")


class HashRaises:
    def __hash__(self) -> int:
        raise RuntimeError("not hashable")


class OneWrong(DictCache):
    """Answers a wrong value each time."""

    def _answer(self, held: Any) -> Any:
        own = held.clone()
        leaves(own)[0].tensor[0, 0, 0, 0] += 1
        return own


class OneWrongToTheHost(OneWrong):
    """The same, but what it shows to audits is right."""

    def peek(self, pool: str, env_id: int | None, key: Any) -> Any:
        return self._pool(*([pool] if env_id is None else [pool, env_id])).get(key)


def once(cache: Any, key: Any) -> list[str]:
    """Set and get under a key; return what the host meets."""
    met = []
    for call in (lambda: cache.set_init_cache(0, key, entry(1)), lambda: cache.get_init_cache(0, key)):
        try:
            met.append("" if call() is None else "something")
        except Exception as error:
            met.append(type(error).__name__)
    return met


@guards("validator/judge/referee.py", "expected.key is key or expected.key == key", "expected.key == key")
@pytest.mark.parametrize(
    "key",
    [Colour.RED, Node(1), torch.Size([1]), math.nan, -0.0, True, "x" * 10**6, 2**80, np.float32(1), torch.tensor(3)],
    ids=lambda key: type(key).__name__,
)
def test_a_key_of_any_type_is_judged(key: Any) -> None:
    run = trial(manager(), DictCache())
    assert once(run.cache, key) == once(manager(), key) == ["something", "something"]
    assert charged(run) == []
    run = trial(manager(), OneWrongToTheHost())
    once(run.cache, key)
    assert set(charged(run)) == {(Cause.CORRUPTED, Fault.CANDIDATE)}
    assert run.divergences[0].key == key_text(key)
    assert len(run.divergences[0].key or "") <= 200


def test_long_keys_that_begin_alike_are_told_apart() -> None:
    one, other = key_text("x" * 10**6 + "1"), key_text("x" * 10**6 + "2")
    assert len(one) == len(other) <= 200
    assert one[:150] == other[:150]
    assert one != other
    assert key_text(2**80) == str(2**80), "no 64 bits hold it"


@guards("validator/observe/keyed_pair.py", "            self._bad_key(seen)\n", "            pass\n")
@pytest.mark.parametrize(
    ("key", "met"),
    [
        ([1], ["TypeError", "TypeError"]),
        (np.ones(2), ["TypeError", "TypeError"]),
        (HashRaises(), ["RuntimeError", "RuntimeError"]),
        (EqRaises(), ["something", "something"]),
        (torch.ones(2), ["something", "something"]),
        (None, ["something", "something"]),
    ],
    ids=["list", "array", "hash raises", "eq raises", "tensor", "None"],
)
def test_a_key_that_no_model_can_follow_costs_the_verdict_or_is_the_hosts(key: Any, met: list[str]) -> None:
    run = trial(manager(), DictCache())
    assert once(run.cache, key) == once(manager(), key) == met
    run.cache.set_init_cache(0, 7, entry(7))
    dropped = dict(run.pair.counters.dropped)
    if "something" in met:
        assert dropped == {"operations under keys that can't be told apart": 2}
        assert charged(run) == []
    else:
        assert dropped == {}
        assert set(charged(run)) == {(Cause.RAISED, Fault.HOST)}
        assert "which can't be told from others; the control raised" in run.divergences[0].explanation


# Entries from before


def filled(cache: Any, *keys: int, wrong: int = -1) -> Any:
    for key in keys:
        cache.set_init_cache(0, key, entry(99 if key == wrong else key))
    return cache


def test_entries_that_both_list_are_read_in() -> None:
    run = trial(filled(manager(), 1, 2, 3), filled(manager(), 2, 1, 3))
    assert [run.cache.get_init_cache(0, key) is not None for key in (1, 2, 3, 4)] == [True, True, True, False]
    assert charged(run) == []
    assert run.pair.counters.coverage["entries from before"] == 3
    run.cache.clear_all()
    play(run)
    assert charged(run) == [], "declared policies hold again once they are cleared"


def test_a_read_in_entry_that_changes_is_found() -> None:
    candidate = filled(manager(), 1)
    run = trial(filled(manager(), 1), candidate)
    leaves(candidate.peek("init", 0, 1))[0].tensor[0, 0, 0, 0] += 1
    run.finish()
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]


def test_what_differs_from_the_beginning_is_charged_once_and_to_no_side() -> None:
    run = trial(filled(manager(), 1, 2, 3, wrong=3), filled(manager(), 2, 3, 4))
    for key in (1, 2, 3, 4, 1, 4):
        run.cache.get_init_cache(0, key)
    run.finish()
    assert charged(run) == [(Cause.UNKNOWN, Fault.HOST)]
    assert run.divergences[0].explanation == (
        "The host shadowed two caches that held different entries by then: 1 in the control alone, 1 in the candidate "
        "alone, and 1 that differ."
    )


class Sized(DictCache):
    def __len__(self) -> int:
        return sum(map(len, self.pools.values()))


@pytest.mark.parametrize(("control", "n"), [(Sized, 2), (manager, 1)])
def test_entries_that_are_not_listed_are_refused_with_what_would_do(control: Any, n: int) -> None:
    with pytest.raises(ValueError, match=r"hold \d and \?? ?\d* ?entries already.*call clear_all\(\) on both"):
        trial(filled(control(), *range(n)), filled(Sized() if n == 2 else DictCache(), 1))


@guards("validator/observe/lookups.py", "            self._look_for_older(seen)\n", "            pass\n")
@pytest.mark.parametrize("made", [DictCache, Undeclared])
def test_what_both_answer_from_before_is_said_and_not_charged(made: Any) -> None:
    run = trial(filled(made(), 1, 2), filled(made(), 1, 2))
    for key in (1, 2, 1):
        assert run.cache.get_init_cache(0, key) is not None
    assert charged(run) == []
    assert run.pair.counters.coverage["entries from before that both sides agree on"] == 2
    run.cache.clear_all()
    play(run)
    assert charged(run) == []


def test_what_one_alone_answers_from_before_is_charged() -> None:
    run = trial(DictCache(), filled(DictCache(), 1))
    run.cache.get_init_cache(0, 1)
    assert charged(run) == [(Cause.PHANTOM, Fault.CANDIDATE)]


# Calls and entries that nobody can follow


class Evictable(DictCache):
    def evict(self, key: int) -> None:
        del self._pool("recur")[key]


def test_after_a_call_that_was_not_observed_nobody_is_charged_with_what_it_did() -> None:
    run = trial(Evictable(), DictCache())
    for key in (1, 2):
        run.cache.set_recur_cache(key, entry(key))
    run.cache.evict(1)  # type: ignore[attr-defined]
    assert run.cache.get_recur_cache(2) is not None
    assert charged(run) == []
    run.cache.get_recur_cache(1)
    assert charged(run) == [(Cause.POLICY_DIFFERS, Fault.UNKNOWN)]
    assert run.pair.counters.coverage["calls that were not observed"] == 1
    run.cache.clear_all()
    play(run)
    assert len(charged(run)) == 1


def test_a_later_set_of_what_is_no_entry_costs_the_verdict_and_charges_nobody() -> None:
    class Anything(DictCache):
        def _store(self, kv_cache: Any) -> Any:
            return kv_cache

        def _answer(self, held: Any) -> Any:
            return held

    run = trial(Anything(), Anything(), audit_share=0.0)
    run.cache.set_wm_cache(1, entry(1))
    run.cache.clear_all()
    before = list(charged(run))
    run.cache.set_recur_cache(1, {"not": "an entry"})
    assert run.cache.get_recur_cache(1) == {"not": "an entry"}
    assert run.pair.counters.dropped == {"sets of what is no entry": 1, "lookups of what is no entry": 1}
    assert sum(map(sum, run.pair.counters.lookups.values())) == 0
    assert charged(run) == before, "which is that they store references"


def test_a_priority_that_is_passed_on_is_nobodys_fault() -> None:
    cfg = {**CONFIG, "cache_eviction_strategy": "priority"}
    run = trial(manager(cfg), manager(cfg))
    for number in range(30):
        run.cache.set_recur_cache(number % 7, entry(number), priority=float(number * 5 % 7))
        run.cache.get_recur_cache(number % 5)
    run.finish()
    assert charged(run) == []


def test_env_ids_of_other_types_are_the_hosts_matter() -> None:
    run = trial(legacy(), manager())
    run.cache.set_init_cache(np.int64(1), 1, entry(1))
    run.cache.get_init_cache(torch.tensor(1), 1)
    assert charged(run) == []
    with pytest.raises((TypeError, IndexError)):
        run.cache.get_init_cache("1", 1)  # type: ignore[arg-type]
    assert charged(run) == [(Cause.BAD_ENV, Fault.HOST)]
    assert ENVS == 2


class OwnPeek(DictCache):
    """Has methods that are called like ours and are others."""

    def peek(self, key: int) -> Any:
        return self._pool("recur").get(key)

    def live_keys(self) -> list[int]:
        return list(self._pool("recur"))


@guards("validator/judge/side.py", "callable(found) and _takes(found, arguments)", "callable(found)")
def test_methods_of_the_same_name_that_take_other_arguments_are_none_of_ours() -> None:
    for sides in ((manager(), OwnPeek()), (OwnPeek(), OwnPeek())):
        run = trial(*sides)
        assert not run.pair.case.candidate.lists_keys
        play(run)
        assert charged(run) == []

"""The models hold exactly what the real caches hold, in every short program, and say why a key is gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch

from shadow.entry import KeysValues, leaves
from shadow.interface import CacheCapacities, CachePolicy
from shadow.legacy import RingPool
from shadow.pool import EvictionStrategy, KVCachePool
from validator.entries.digest import Digest, digest
from validator.models.bounded import BoundedModel
from validator.models.legacy_ring import LegacyRingModel
from validator.models.side_model import SideModel
from validator.models.stored import Reason, Stored, Version
from validator.shapes.pools import PoolsShape

KEYS = "ABC"
PROGRAM_STEPS = [*(f"set {key}" for key in KEYS), *(f"get {key}" for key in KEYS), "clear"]


def entry(number: int) -> KeysValues:
    """The smallest entry that carries a number."""
    made = KeysValues(1, 1, 1, 1, 1)
    for tensor, _ in leaves(made):
        tensor.fill_(number)
    for cache in (made[0]._k_cache, made[0]._v_cache):
        cache._size = 1
    return made


ENTRIES = [entry(number) for number in range(16)]
DIGESTS = [digest(leaves(each)) for each in ENTRIES]


def stored(key: int, number: int, op_index: int | None = None, previous: tuple[Version, ...] = ()) -> Stored:
    at = number if op_index is None else op_index
    return Stored(key, "recur", None, DIGESTS[number % 16], at, 0, 0, -1, 0, previous)


def programs(length: int) -> Iterator[tuple[str, ...]]:
    """Every program of so many steps, but for what keys are called; what a shorter one does, a longer begins with."""
    for program in itertools.product(PROGRAM_STEPS, repeat=length):
        named = "".join(dict.fromkeys(step[-1] for step in program if step != "clear"))
        if KEYS.startswith(named):  # by first use, A B C: the others are these under other names
            yield program


def number_of(found: Any) -> int | None:
    return None if found is None else int(leaves(found)[0].tensor.item())


def check_program(pool: Any, model: Any, program: tuple[str, ...]) -> None:
    """Play one program on both; every answer and every live key must agree after every step."""
    for at, step in enumerate(program):
        verb, _, name = step.partition(" ")
        key = ord(name) if name else 0
        if verb == "set":
            pool.set(key, ENTRIES[at])
            model.set(key, stored(key, at))
        elif verb == "get":
            answer, expected = pool.get(key), model.get(key)
            assert number_of(answer) == (None if expected is None else expected.op_index), (program, at)
        else:
            pool.clear()
            model.clear(at)
        live = {held.key: held.op_index for held in model.live()}
        assert {held: number_of(pool.peek(held)) for held in pool.live_keys()} == live, (program, at)
        assert len(model) == len(live), (program, at)
        for each in map(ord, KEYS):
            peeked = model.peek(each)
            assert live.get(each) == (None if peeked is None else peeked.op_index), (program, at)
            assert (peeked is None) or each not in model.gone, (program, at)


@pytest.mark.parametrize("capacity", [1, 2, 3])
@pytest.mark.parametrize(
    ("make_pool", "make_model"),
    [
        (RingPool, LegacyRingModel),
        (KVCachePool, BoundedModel),
        (lambda n: KVCachePool(n, EvictionStrategy.LRU), lambda n: BoundedModel(n, recency=True)),
        (lambda n: KVCachePool(n, EvictionStrategy.PRIORITY), BoundedModel),
    ],
    ids=["legacy ring", "fifo", "lru", "priority without priorities"],
)
def test_the_model_holds_what_the_cache_holds_in_every_program_of_five_steps(
    capacity: int, make_pool: Any, make_model: Any
) -> None:
    # A get changes nothing but ages under LRU: elsewhere every state is reached by sets and clears alone, and what
    # is alive is compared after every step. So gets are only programmed where they can matter.
    matters = make_model is not BoundedModel and make_model is not LegacyRingModel
    for program in programs(5):
        if matters or not any(step.startswith("get") for step in program[:-1]):
            check_program(make_pool(capacity), make_model(capacity), program)


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_the_order_in_which_the_bounded_model_lists_is_that_of_eviction(capacity: int) -> None:
    for recency, strategy in ((False, EvictionStrategy.FIFO), (True, EvictionStrategy.LRU)):
        for program in programs(4):
            pool, model = KVCachePool(capacity, strategy), BoundedModel(capacity, recency)
            check_program(pool, model, program)
            assert [held.key for held in model.live()] == pool.live_keys(), program


# Why a key is gone: semantics.md, section 2


def run(model: Any, program: str) -> Any:
    """Play a program as the table writes it: a letter is a set, ``|`` a clear."""
    for at, letter in enumerate(program.replace(" ", "")):
        if letter == "|":
            model.clear(at)
        else:
            model.set(ord(letter), stored(ord(letter), at))
    return model


@pytest.mark.parametrize(
    ("capacity", "program", "key", "reason"),
    [
        (2, "A A B", "A", Reason.SLOT_LEAK),
        (2, "A B A C", "B", Reason.AGE_REFRESHED),
        (3, "A B B C", "A", Reason.CAPACITY_EATEN),
        (2, "A | A B", "A", Reason.REVERSE_MAP_SURVIVED),
        (2, "A B | B C", "B", Reason.REVERSE_MAP_SURVIVED),
        (2, "A B C", "A", Reason.EVICTED),
        (2, "A B |", "A", Reason.CLEARED),
        (1, "A B", "A", Reason.EVICTED),
        (3, "A A B C", "A", Reason.SLOT_LEAK),
        (2, "A B C D", "B", Reason.EVICTED),
    ],
)
def test_the_ring_model_names_the_quirk_that_took_a_key(capacity: int, program: str, key: str, reason: Reason) -> None:
    model = run(LegacyRingModel(capacity), program)
    assert model.get(ord(key)) is None
    gone = model.gone[ord(key)]
    assert gone.reason is reason
    assert gone.op_index == len(program.replace(" ", "")) - 1 or reason is Reason.EVICTED
    assert gone.stored.key == ord(key)


@pytest.mark.parametrize(("program", "survivor"), [("A A B", "B"), ("A B A C", "A"), ("A | A B", "B")])
def test_the_ring_model_keeps_what_the_ring_keeps(program: str, survivor: str) -> None:
    assert run(LegacyRingModel(2), program).get(ord(survivor)) is not None


@pytest.mark.parametrize(
    ("capacity", "program", "key"), [(2, "A A B", "A"), (2, "A B A C", "B"), (3, "A B B C", "A"), (2, "A | A B", "A")]
)
def test_the_bounded_model_answers_right_where_the_ring_does_not(capacity: int, program: str, key: str) -> None:
    assert run(BoundedModel(capacity), program).get(ord(key)) is not None


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_in_every_program_a_quirk_is_named_exactly_where_ring_and_bounded_map_part(capacity: int) -> None:
    quirks = {Reason.SLOT_LEAK, Reason.AGE_REFRESHED, Reason.CAPACITY_EATEN, Reason.REVERSE_MAP_SURVIVED}
    for program in itertools.product([*KEYS, "|"], repeat=6):
        ring, right = LegacyRingModel(capacity), BoundedModel(capacity)
        for model in (ring, right):
            run(model, "".join(program))
        for key in map(ord, KEYS):
            if ring.get(key) is None and right.get(key) is not None:
                assert ring.gone[key].reason in quirks, program
            elif key in ring.gone and ring.gone[key].reason in (Reason.CLEARED,):
                assert right.get(key) is None, program


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_with_distinct_keys_ring_and_bounded_map_never_part(capacity: int) -> None:
    for clears in itertools.product([0, 1], repeat=8):
        ring, right = LegacyRingModel(capacity), BoundedModel(capacity)
        for at, cleared in enumerate(clears):
            for model in (ring, right):
                model.set(at, stored(at, at))
                if cleared:
                    model.clear(at)
            assert {s.key for s in ring.live()} == {s.key for s in right.live()}


def test_what_a_set_evicted_is_returned_once() -> None:
    for model in (BoundedModel(2), LegacyRingModel(2)):
        assert [model.set(key, stored(key, key)) for key in (1, 2)] == [None, None]
        evicted = model.set(3, stored(3, 3))
        assert evicted is not None
        assert evicted.key == 1
        assert model.gone[1].op_index == 3


# Memory


@pytest.mark.parametrize("make", [BoundedModel, LegacyRingModel])
def test_what_is_gone_is_remembered_up_to_a_bound(make: Any) -> None:
    model = make(4)
    for at in range(10_000):
        model.set(at, stored(at, at))
        if at % 7 == 0:
            model.clear(at)
        assert len(model.gone) <= 2 * 4 + 16
        assert len(model) <= 4
    assert 9_990 in model.gone
    assert 1 not in model.gone


@pytest.mark.parametrize("make", [BoundedModel, LegacyRingModel])
def test_at_most_eight_versions_of_a_key_are_remembered(make: Any) -> None:
    model = make(4)
    for at in range(1_000):
        model.set(1, stored(1, at, previous=model.versions(1)))
    assert [version.op_index for version in model.versions(1)] == list(range(999, 991, -1))


@pytest.mark.parametrize("make", [BoundedModel, LegacyRingModel])
def test_versions_tell_which_were_alive_when_they_were_replaced(make: Any) -> None:
    model = make(4)
    model.set(1, stored(1, 0))
    model.set(1, stored(1, 1, previous=model.versions(1)))
    model.clear(2)
    model.set(1, stored(1, 3, previous=model.versions(1)))
    assert [(version.op_index, version.alive) for version in model.versions(1)] == [(3, True), (1, False), (0, True)]
    assert model.versions(2) == ()


# Re-agreement


@pytest.mark.parametrize("make", [BoundedModel, LegacyRingModel])
def test_rebase_accepts_what_a_side_was_found_to_hold(make: Any) -> None:
    model = make(4)
    model.set(1, stored(1, 0))
    model.rebase(1, stored(1, 5))
    assert model.get(1).op_index == 5
    model.rebase(2, stored(2, 6))
    assert model.get(2) is None, "a key that is not alive does not come alive by it"
    model.rebase(1, None)
    assert model.get(1) is None
    assert list(model.live()) == []


# The whole cache


def side(kind: Any = "fifo") -> SideModel:
    sizes = CacheCapacities(init=2, recur=2, wm=1)
    return SideModel(CachePolicy(kind, sizes), PoolsShape.places, asdict(sizes), 2)


def put(model: SideModel, pool: Any, env_id: int | None, key: int, number: int) -> None:
    model.pool(pool, env_id).set(key, stored(key, number)._replace(pool=pool, env_id=env_id))


def test_a_hierarchical_lookup_prefers_the_init_pool_of_its_env() -> None:
    model = side()
    put(model, "recur", None, 1, 0)
    put(model, "init", 0, 1, 1)

    def found(env_id: int, key: int) -> int | None:
        held = model.get("hierarchical", env_id, key)
        return None if held is None else held.op_index

    assert (found(0, 1), found(1, 1), found(0, 2)) == (1, 0, None)


@pytest.mark.parametrize(
    ("cleared", "env_id", "left"),
    [
        ("all", None, set()),
        ("init", None, {"recur", "wm"}),
        ("init", 0, {"init1", "recur", "wm"}),
        ("recur", None, {"init0", "init1", "wm"}),
    ],
)
def test_each_clear_empties_what_it_names(cleared: Any, env_id: int | None, left: set[str]) -> None:
    model = side()
    for pool, env in (("init", 0), ("init", 1), ("recur", None), ("wm", None)):
        put(model, pool, env, 1, 0)
    model.clear(cleared, env_id, 9)
    alive = {f"{pool}{'' if env is None else env}" for pool, env, each in model.pools() if len(each)}
    assert alive == left


def test_each_policy_gets_its_model() -> None:
    assert isinstance(side("legacy_ring").pool("recur", None), LegacyRingModel)
    for kind, first_out in (("fifo", 1), ("priority", 1), ("lru", 2)):
        model = side(kind).pool("recur", None)
        for key in (1, 2):
            model.set(key, stored(key, key))
        model.get(1)
        assert model.set(3, stored(3, 3)).key == first_out


def test_a_digest_is_all_a_model_keeps_of_an_entry() -> None:
    model = BoundedModel(2)
    model.set(1, stored(1, 0))
    held = model.get(1)
    assert held is not None
    assert isinstance(held.digest, Digest)
    assert not any(isinstance(part, torch.Tensor) for part in (*held, *held.digest.contents))

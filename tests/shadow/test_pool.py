"""The pool: a bounded map that copies, held against reference models; and what no failing set may do."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from shadow.entry import Cache, KeysValues, leaves
from shadow.memory.regions import Region
from shadow.pool import CacheStats, EvictionStrategy, KVCachePool
from tests.shadow.entries import assert_equal_entries, foreign_entry, layer_of, make_entry, scribble_over

FIFO, LRU, PRIORITY = EvictionStrategy.FIFO, EvictionStrategy.LRU, EvictionStrategy.PRIORITY


def filled(size: int, *keys: int, strategy: EvictionStrategy = FIFO) -> KVCachePool:
    """Return a pool in which every key holds the entry of its own number."""
    pool = KVCachePool(size, strategy)
    for key in keys:
        pool.set(key, make_entry(key))
    return pool


def held(pool: KVCachePool) -> set[int]:
    return set(pool.live_keys())


def slot_ids(pool: KVCachePool) -> list[int]:
    """Return the addresses of all buffers the pool owns."""
    return [leaf.tensor.data_ptr() for slot in pool._slots if slot is not None for leaf in leaves(slot)]


# Statistics


def test_stats_of_zero_queries_have_rate_zero() -> None:
    stats = CacheStats()
    assert (stats.total_queries, stats.hit_rate, stats.miss_rate) == (0, 0.0, 0.0)


def test_stats_rates_follow_from_the_counts() -> None:
    stats = CacheStats(hits=3, misses=1, evictions=5)
    assert (stats.total_queries, stats.hit_rate, stats.miss_rate) == (4, 0.75, 0.25)


def test_stats_reset_to_zero() -> None:
    stats = CacheStats(hits=3, misses=1, evictions=5)
    stats.reset()
    assert stats == CacheStats()


def test_stats_summary_is_numbers_under_their_names() -> None:
    assert CacheStats(hits=1, misses=3, evictions=2).summary() == {
        "hits": 1,
        "misses": 3,
        "evictions": 2,
        "total_queries": 4,
        "hit_rate": 0.25,
        "miss_rate": 0.75,
    }


def test_a_pool_counts_hits_misses_and_evictions() -> None:
    pool = filled(2, 1, 2, 3)
    for key in (1, 2, 3, 3):
        pool.get(key)
    assert pool.stats == CacheStats(hits=3, misses=1, evictions=1)


def test_an_update_in_place_is_no_eviction() -> None:
    pool = filled(2, 1, 2, 1, 2)
    assert pool.stats == CacheStats()


def test_without_stats_nothing_is_counted_and_all_works() -> None:
    pool = KVCachePool(1, enable_stats=False)
    for key in (1, 2):
        pool.set(key, make_entry(key))
    assert pool.get(1) is None
    assert_equal_entries(pool.get(2), make_entry(2))
    assert pool.stats is None


def test_looking_at_live_keys_len_contains_and_peek_counts_nothing_and_touches_no_age() -> None:
    pool = filled(2, 1, 2, strategy=LRU)
    assert (pool.live_keys(), len(pool), 1 in pool, 9 in pool, pool.peek(9)) == ([1, 2], 2, True, False, None)
    assert_equal_entries(pool.peek(1), make_entry(1))
    assert pool.stats == CacheStats()
    pool.set(3, make_entry(3))
    assert held(pool) == {2, 3}


# Sizes and arguments


@pytest.mark.parametrize("size", [0, -1, -100, True, False, 1.0, 2.5, float("nan"), "4", None])
def test_an_impossible_pool_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="pool_size must be a whole number of at least 1, got") as caught:
        KVCachePool(size)
    assert str(caught.value).endswith(f"got {size!r}")


def test_an_unknown_strategy_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mru'") as caught:
        KVCachePool(1, "mru")  # type: ignore[arg-type]
    assert str(caught.value) == "eviction strategy must be one of 'fifo', 'lru', 'priority', got 'mru'"


@pytest.mark.parametrize("strategy", EvictionStrategy)
def test_a_strategy_may_be_given_by_its_name(strategy: EvictionStrategy) -> None:
    assert KVCachePool(1, strategy.value).eviction_strategy is strategy  # type: ignore[arg-type]


def test_repr_shows_name_fill_and_strategy() -> None:
    pool = KVCachePool(4, LRU, name="init_env3")
    pool.set(1, make_entry(1))
    assert repr(pool) == "KVCachePool('init_env3', 1/4, lru)"


# Eviction


def test_fifo_evicts_the_first_inserted_though_it_was_read_and_updated() -> None:
    pool = filled(2, 1, 2)
    pool.get(1)
    pool.set(1, make_entry(11))
    pool.set(3, make_entry(3))
    assert held(pool) == {2, 3}


def test_fifo_counts_the_age_of_a_key_that_came_back_from_its_return() -> None:
    pool = filled(2, 1, 2, 3, 1, 4)
    assert held(pool) == {1, 4}


def test_set_twice_keeps_the_key_alive() -> None:
    pool = filled(2, 1, 1, 2)
    assert_equal_entries(pool.get(1), make_entry(1))


def test_set_twice_takes_no_second_slot() -> None:
    pool = KVCachePool(3)
    assert [pool.set(key, make_entry(key)) for key in (1, 2, 2, 3, 1)] == [0, 1, 1, 2, 0]


def test_lru_keeps_what_was_read() -> None:
    pool = filled(2, 1, 2, strategy=LRU)
    pool.get(1)
    pool.set(3, make_entry(3))
    assert held(pool) == {1, 3}


def test_lru_keeps_what_was_updated() -> None:
    pool = filled(2, 1, 2, 1, 3, strategy=LRU)
    assert held(pool) == {1, 3}


def test_lru_missing_a_key_refreshes_nothing() -> None:
    pool = filled(2, 1, 2, strategy=LRU)
    pool.get(9)
    pool.set(3, make_entry(3))
    assert held(pool) == {2, 3}


def priority_pool(size: int, *items: tuple[int, float | None]) -> KVCachePool:
    pool = KVCachePool(size, PRIORITY)
    for key, priority in items:
        pool.set(key, make_entry(key), priority)
    return pool


def test_priority_evicts_the_least() -> None:
    assert held(priority_pool(3, (1, 5.0), (2, 1.0), (3, 9.0), (4, 0.0))) == {1, 3, 4}


def test_priority_makes_room_for_a_new_key_of_even_less() -> None:
    assert held(priority_pool(2, (1, 5.0), (2, 4.0), (3, -1.0))) == {1, 3}


def test_of_equal_priorities_the_oldest_gives_way() -> None:
    assert held(priority_pool(3, (1, 2.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 7.0))) == {1, 4, 5}


def test_without_priorities_a_priority_pool_is_fifo() -> None:
    assert held(priority_pool(2, (1, None), (2, None), (1, None), (3, None))) == {2, 3}


def test_no_priority_counts_as_zero() -> None:
    assert held(priority_pool(2, (1, None), (2, -1.0), (3, 5.0))) == {1, 3}


def test_an_update_may_raise_a_priority() -> None:
    assert held(priority_pool(2, (1, 1.0), (2, 2.0), (1, 3.0), (3, 9.0))) == {1, 3}


def test_an_update_may_lower_a_priority() -> None:
    assert held(priority_pool(2, (1, 5.0), (2, 3.0), (1, 1.0), (3, 9.0))) == {2, 3}


def test_an_update_without_priority_keeps_the_one_it_had() -> None:
    assert held(priority_pool(2, (1, 5.0), (2, 3.0), (1, None), (3, 9.0))) == {1, 3}


def test_a_priority_raised_and_lowered_again_keeps_the_age() -> None:
    assert held(priority_pool(2, (1, 1.0), (2, 1.0), (1, 5.0), (1, 1.0), (3, 9.0))) == {2, 3}


def test_an_evicted_key_comes_back_with_no_old_priority() -> None:
    evicted_then_back = (1, 5.0), (2, 9.0), (3, 9.0), (1, None)
    assert held(priority_pool(2, *evicted_then_back, (3, 2.0), (4, 9.0))) == {3, 4}


def test_clear_forgets_priorities() -> None:
    pool = priority_pool(2, (1, 9.0), (2, 9.0))
    pool.clear()
    for key, priority in ((1, None), (3, 1.0), (4, 1.0)):
        pool.set(key, make_entry(key), priority)
    assert held(pool) == {3, 4}


def test_infinite_priorities_are_taken() -> None:
    inf = float("inf")
    assert held(priority_pool(2, (1, inf), (2, -inf), (3, 0.0), (4, 0.0))) == {1, 4}


def test_thousands_of_updates_neither_grow_the_heap_nor_lose_the_key_that_none_touched() -> None:
    pool = priority_pool(4, (0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0))
    for step in range(2000):
        pool.set(1 + step % 3, make_entry(step), 5.0 + step % 7)
    assert len(pool._heap) <= 4 * pool.pool_size
    assert held(pool) == {0, 1, 2, 3}
    pool.set(9, make_entry(9), 100.0)
    assert held(pool) == {1, 2, 3, 9}


@pytest.mark.parametrize(
    ("strategy", "priority"), [(FIFO, 1.0), (LRU, 1.0), (PRIORITY, float("nan"))], ids=["fifo", "lru", "nan"]
)
def test_a_priority_that_means_nothing_is_refused_and_nothing_is_stored(
    strategy: EvictionStrategy, priority: float
) -> None:
    pool = KVCachePool(2, strategy, name="recurrent")
    pool.set(1, make_entry(1))
    with pytest.raises(ValueError, match="only PRIORITY pools take a number here") as caught:
        pool.set(1, make_entry(2), priority)
    assert str(caught.value).startswith(f"priority {priority} given to pool 'recurrent'; ")
    assert_equal_entries(pool.get(1), make_entry(1))


# Copies and slots


def test_what_set_was_given_may_change_afterwards() -> None:
    source = make_entry(1)
    pool = KVCachePool(2)
    pool.set(1, source)
    scribble_over(source)
    pool.set(2, source)
    assert_equal_entries(pool.get(1), make_entry(1))


@pytest.mark.parametrize("strategy", EvictionStrategy)
def test_a_held_answer_does_not_change_when_its_slot_is_rewritten(strategy: EvictionStrategy) -> None:
    pool = filled(1, 1, strategy=strategy)
    answer = pool.get(1)
    pool.set(1, make_entry(2))
    pool.set(3, make_entry(3))
    pool.clear()
    pool.set(4, make_entry(4))
    assert_equal_entries(answer, make_entry(1))


def test_changing_an_answer_changes_nothing_that_is_stored() -> None:
    pool = filled(1, 1)
    answer = pool.get(1)
    assert answer is not None
    scribble_over(answer)
    answer.reset()
    assert_equal_entries(pool.get(1), make_entry(1))


def test_two_answers_of_one_key_are_independent() -> None:
    pool = filled(1, 1)
    one, other = pool.get(1), pool.get(1)
    scribble_over(one)
    assert_equal_entries(other, make_entry(1))


def test_storing_an_answer_again_keeps_its_values() -> None:
    pool = filled(2, 1)
    pool.set(1, pool.get(1))
    pool.set(2, pool.peek(1))
    pool.set(1, pool.peek(1))
    assert_equal_entries(pool.get(1), make_entry(1))
    assert_equal_entries(pool.get(2), make_entry(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_source_dtype_is_kept_in_new_and_in_reused_slots(dtype: torch.dtype) -> None:
    pool = filled(1, 1)
    for key in (2, 3):
        pool.set(key, make_entry(key, dtype=dtype))
        assert_equal_entries(pool.get(key), make_entry(key, dtype=dtype))


def test_source_dtype_is_kept_under_another_default_dtype() -> None:
    pool = KVCachePool(1)
    torch.set_default_dtype(torch.float64)
    try:
        pool.set(1, make_entry(1, dtype=torch.bfloat16))
        answer = pool.get(1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal_entries(answer, make_entry(1, dtype=torch.bfloat16))


def test_source_device_is_kept_in_new_and_in_reused_slots() -> None:
    pool = filled(1, 1)
    for key in (2, 3):
        pool.set(key, KeysValues(1, 2, 4, 4, 2, device="meta"))
        answer = pool.get(key)
        assert answer is not None
        assert {leaf.tensor.device.type for leaf in leaves(answer)} == {"meta"}
    pool.set(4, make_entry(4))
    assert_equal_entries(pool.get(4), make_entry(4))


def test_a_containers_recorded_device_and_batch_size_are_not_trusted() -> None:
    tensors = [torch.rand(3, 2, 4, 2) for _ in range(2)]
    liar = foreign_entry(((tensors[0], 2), (tensors[1], 2)), device="cuda:0", _device="cuda:0", _num_samples=1, size=4)
    pool = KVCachePool(1)
    pool.set(1, liar)
    answer = pool.get(1)
    assert isinstance(answer, KeysValues)
    assert answer[0].shape == (3, 2, 2, 2)
    assert_equal_entries(answer, liar)


def test_a_slot_takes_entries_of_other_shapes_one_after_the_other() -> None:
    pool = KVCachePool(1)
    for key, shape in enumerate(
        [{"batch": 2}, {"batch": 1}, {"layers": 1}, {"layers": 3}, {"max_tokens": 9, "size": 9}, {"heads": 5}, {}]
    ):
        entry = make_entry(key, **shape)  # type: ignore[arg-type]
        pool.set(key, entry)
        assert_equal_entries(pool.get(key), entry)


def test_k_and_v_of_different_shapes_are_stored_as_they_are() -> None:
    entry = KeysValues.from_layers(
        [layer_of(Cache.over(torch.rand(1, 2, 4, 2), 3), Cache.over(torch.rand(1, 1, 6, 5).half(), 6))]
    )
    pool = KVCachePool(1)
    for key in (1, 2):
        pool.set(key, entry)
        assert_equal_entries(pool.get(key), entry)


def test_non_contiguous_sources_are_stored_by_value() -> None:
    entry = make_entry(1)
    for layer in entry:
        layer._k_cache._cache = layer._k_cache._cache.transpose(1, 3).contiguous().transpose(1, 3)
    pool = KVCachePool(1)
    pool.set(1, entry)
    assert_equal_entries(pool.get(1), make_entry(1))


def test_slots_survive_a_clear_so_the_next_search_allocates_nothing() -> None:
    pool = KVCachePool(3)
    for key in range(3):
        pool.set(key, make_entry(key))
    first = slot_ids(pool)
    for search in range(1, 4):
        pool.clear()
        assert held(pool) == set()
        for key in range(3 * search, 3 * search + 5):  # wraps as well
            pool.set(key, make_entry(key))
        assert slot_ids(pool) == first
        for key in held(pool):
            assert_equal_entries(pool.get(key), make_entry(key))


def test_updates_and_evictions_reuse_slots() -> None:
    pool = filled(2, 1, 2)
    first = slot_ids(pool)
    for key in (1, 2, 3, 3, 4, 1):
        pool.set(key, make_entry(key + 0.5, size=1))
    assert slot_ids(pool) == first


def test_slots_are_allocated_when_first_needed() -> None:
    pool = KVCachePool(1000)
    assert pool.nbytes == 0
    pool.set(1, make_entry(1))
    pool.set(1, make_entry(2))
    assert pool.nbytes == make_entry(1).nbytes
    pool.clear()
    assert pool.nbytes == make_entry(1).nbytes


def test_clear_forgets_all_and_the_whole_capacity_is_there_again() -> None:
    pool = filled(2, 1, 2, 3)
    pool.clear()
    assert [pool.get(key) for key in (1, 2, 3)] == [None, None, None]
    assert [pool.set(key, make_entry(key)) for key in (4, 5)] == [0, 1]
    assert held(pool) == {4, 5}
    assert pool.stats is not None
    assert pool.stats.evictions == 1


# Sets that fail


def _tensor() -> torch.Tensor:
    return torch.full((1, 2, 4, 2), 99.0)


GOOD = (_tensor(), 3)
FAILING = {
    "no entry": lambda: object(),
    "none": lambda: None,
    "no layers": lambda: foreign_entry(),
    "second layer of 3 dimensions": lambda: foreign_entry((GOOD, GOOD), (GOOD, (torch.zeros(2, 4, 2), 3))),
    "second layer without values": lambda: foreign_entry((GOOD, GOOD), (GOOD, (None, 3))),
    "length beyond the buffer": lambda: foreign_entry((GOOD, GOOD), (GOOD, (_tensor(), 5))),
    "negative length": lambda: foreign_entry((GOOD, GOOD), (GOOD, (_tensor(), -1))),
    "length that is no number": lambda: foreign_entry((GOOD, GOOD), (GOOD, (_tensor(), None))),
    "length that is no whole number": lambda: foreign_entry((GOOD, GOOD), (GOOD, (_tensor(), 3.0))),
    "values in sparse layout": lambda: foreign_entry((GOOD, GOOD), (GOOD, (_tensor().to_sparse(), 3))),
    "dtype torch cannot allocate": lambda: foreign_entry(
        (GOOD, GOOD),
        (GOOD, (torch.quantize_per_channel(_tensor(), torch.ones(2), torch.zeros(2), axis=1, dtype=torch.quint8), 3)),
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("strategy", EvictionStrategy)
@pytest.mark.parametrize("broken", FAILING.values(), ids=FAILING)
def test_a_failing_set_leaves_every_old_entry_whole_and_evicts_nothing(
    strategy: EvictionStrategy, broken: Callable[[], Any]
) -> None:
    pool = filled(2, 1, 2, strategy=strategy)
    entry = broken()
    for key in (1, 3):  # an update, and a new key that would need room
        with pytest.raises((TypeError, ValueError, RuntimeError, NotImplementedError)):
            pool.set(key, entry)
        assert pool.live_keys() == [1, 2]
        for old in (1, 2):
            assert_equal_entries(pool.peek(old), make_entry(old))
    assert pool.stats == CacheStats()
    pool.set(3, make_entry(3))
    assert held(pool) == {2, 3}


def test_a_set_that_fails_on_a_free_slot_leaves_the_slot_free() -> None:
    pool = filled(2, 1)
    with pytest.raises(TypeError):
        pool.set(2, object())
    assert pool.set(2, make_entry(2)) == 1
    assert held(pool) == {1, 2}


def test_a_set_that_fails_while_a_new_slot_is_filled_leaves_the_old_entry_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = filled(1, 1)

    def half(self: Region, layers: Any, source: Region) -> bool:
        layers[0]._k_cache._cache.fill_(99)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Region, "fill", half)
    with pytest.raises(RuntimeError, match="out of memory"):
        pool.set(2, make_entry(2, batch=3))
    monkeypatch.undo()
    assert pool.live_keys() == [1]
    assert_equal_entries(pool.get(1), make_entry(1))


# Modes of torch


def test_set_under_inference_mode_then_a_normal_set_of_the_same_slot() -> None:
    pool = KVCachePool(1)
    with torch.inference_mode():
        pool.set(1, make_entry(1))
        pool.set(2, make_entry(2))
        answer = pool.get(2)
    pool.set(3, make_entry(3))
    assert_equal_entries(pool.get(3), make_entry(3))
    assert_equal_entries(answer, make_entry(2))


def test_an_answer_got_under_inference_mode_can_be_written_outside() -> None:
    pool = filled(1, 1)
    with torch.inference_mode():
        answer = pool.get(1)
    assert answer is not None
    for layer in answer:
        layer.update(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
    assert answer.size == 4


def test_entries_computed_under_inference_mode_can_be_stored_outside() -> None:
    with torch.inference_mode():
        entry = make_entry(1)
    assert entry[0]._k_cache._cache.is_inference()
    pool = KVCachePool(1)
    pool.set(1, entry)
    pool.set(2, entry)
    assert_equal_entries(pool.get(2), make_entry(1))
    assert not any(leaf.tensor.is_inference() for leaf in leaves(pool.get(2)))


def test_slots_never_chain_autograd_history() -> None:
    pool = KVCachePool(1)
    weights = torch.ones(1, 2, 4, 2, requires_grad=True)
    for step in range(1, 4):
        products = weights * step, weights * -step
        pool.set(step, foreign_entry(tuple((product, 4) for product in products)))
        for leaf in (*leaves(pool.peek(step)), *leaves(pool.get(step))):
            assert (leaf.tensor.requires_grad, leaf.tensor.grad_fn) == (False, None)
    answer = pool.get(3)
    assert answer is not None
    assert torch.equal(answer[0].get()[1], torch.full((1, 2, 4, 2), -3.0))


def test_a_lookup_with_gradients_on_records_nothing() -> None:
    pool = filled(1, 1)
    answer = pool.get(1)
    assert answer is not None
    assert torch.is_grad_enabled()
    assert not (answer[0].get()[0] * 2).requires_grad


# Exhaustive: every program up to length 5


class BoundedFifo:
    """What is right: bounded, FIFO by first insertion, an update in place keeps its age."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: dict[int, int] = {}

    def set(self, key: int, value: int) -> None:
        if key not in self.held and len(self.held) == self.capacity:
            del self.held[next(iter(self.held))]
        self.held[key] = value

    def get(self, key: int) -> int | None:
        return self.held.get(key)

    def clear(self) -> None:
        self.held.clear()


def read(pool: KVCachePool, key: int) -> int | None:
    """Return the number stored under a key; keys and values of an entry must agree on it."""
    answer = pool.get(key)
    if answer is None:
        return None
    k, v = (leaf.tensor.item() for leaf in leaves(answer))
    assert v == -k
    return int(k)


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_every_program_of_up_to_5_operations_on_3_keys_answers_as_the_bounded_map(capacity: int) -> None:
    vocabulary = [(name, key) for key in range(3) for name in ("set", "get")] + [("clear", 0)]
    source = KeysValues(1, 1, 1, 1, 1)
    k, v = source[0]._k_cache, source[0]._v_cache
    k._size = v._size = 1
    # A program of length 5 contains those of length 1 to 4 as its beginnings, and every answer on the way is checked.
    # Keys are used in order: all other programs are these with keys of other names.
    for program in itertools.product(vocabulary, repeat=5):
        used = list(dict.fromkeys(key for name, key in program if name != "clear"))
        if used != list(range(len(used))):
            continue
        pool, right = KVCachePool(capacity, enable_stats=False), BoundedFifo(capacity)
        for number, (name, key) in enumerate(program, start=1):
            if name == "set":
                k._cache.fill_(number)
                v._cache.fill_(-number)
                pool.set(key, source)
                right.set(key, number)
            elif name == "get":
                assert read(pool, key) == right.get(key), program
            else:
                pool.clear()
                right.clear()
        assert [read(pool, key) for key in range(3)] == [right.get(key) for key in range(3)], program


# Random programs against a model of each strategy


class PoolMachine(RuleBasedStateMachine):
    """Sets, gets, clears and meddling of the host, against a model that says which keys are alive with which value."""

    strategy: EvictionStrategy
    answers = Bundle("answers")
    keys = st.integers(0, 4)
    priorities = st.none() | st.integers(-2, 2)

    @initialize(capacity=st.integers(1, 3))
    def start(self, capacity: int) -> None:
        self.pool = KVCachePool(capacity, self.strategy)
        self.model: OrderedDict[int, Stamp] = OrderedDict()  # next victim first under FIFO and LRU
        self.rank: dict[int, tuple[float, int]] = {}
        self.number = 0
        self.counted = CacheStats()

    @rule(key=keys, size=st.integers(0, 2), batch=st.integers(1, 2), priority=priorities)
    def set(self, key: int, size: int, batch: int, priority: int | None) -> None:
        self.number += 1
        stamp = Stamp(self.number, size, batch)
        source = stamp.entry()
        if self.strategy is PRIORITY:
            self.pool.set(key, source, priority)
        else:
            self.pool.set(key, source)
        scribble_over(source)

        if key not in self.model and len(self.model) == self.pool.pool_size:
            by_rank = self.strategy is PRIORITY
            victim = min(self.rank, key=self.rank.__getitem__) if by_rank else next(iter(self.model))
            del self.model[victim], self.rank[victim]
            self.counted.evictions += 1
        if key not in self.model:
            self.rank[key] = (0 if priority is None else priority, self.number)
        elif priority is not None:
            self.rank[key] = (priority, self.rank[key][1])
        self.model[key] = stamp
        if self.strategy is LRU:
            self.model.move_to_end(key)

    @rule(sets=st.lists(st.tuples(keys, priorities), min_size=2, max_size=6))
    def set_several(self, sets: list[tuple[int, int | None]]) -> None:
        # Left to single sets, a clear comes too often for a pool to fill and evict.
        for key, priority in sets:
            self.set(key, size=1, batch=1, priority=priority)

    @rule(target=answers, key=keys)
    def get(self, key: int) -> tuple[Any, Stamp | None]:
        answer = self.pool.get(key)
        expected = self.model.get(key)
        if expected is None:
            self.counted.misses += 1
            assert answer is None
        else:
            self.counted.hits += 1
            assert Stamp.of(answer) == expected
            if self.strategy is LRU:
                self.model.move_to_end(key)
        return answer, expected

    @rule(held=answers)
    def an_answer_given_before_is_still_what_it_was(self, held: tuple[Any, Stamp | None]) -> None:
        answer, expected = held
        assert expected is None or Stamp.of(answer) == expected

    @rule(key=keys)
    def a_broken_set_changes_nothing(self, key: int) -> None:
        broken = Stamp(0, 1, 1).entry()
        broken[0]._v_cache._size = 5
        with pytest.raises(ValueError, match="layer 0 V"):
            self.pool.set(key, broken)

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        self.model.clear()
        self.rank.clear()

    @invariant()
    def the_live_entries_are_those_of_the_model(self) -> None:
        if not hasattr(self, "pool"):
            return
        live = self.pool.live_keys()
        assert sorted(live) == sorted(self.model)
        if self.strategy is not PRIORITY:
            assert live == list(self.model)
        assert {key: Stamp.of(self.pool.peek(key)) for key in live} == dict(self.model)
        assert self.pool.stats == self.counted
        assert len(self.pool) == len(self.model) <= self.pool.pool_size


class Stamp(NamedTuple):
    """What a small entry of one layer holds: one number in all its valid cells, negated in V."""

    number: float
    size: int
    batch: int

    def entry(self) -> KeysValues:
        entry = KeysValues(self.batch, 1, 2, 1, 1)
        for cache, number in ((entry[0]._k_cache, self.number), (entry[0]._v_cache, -self.number)):
            cache._cache.fill_(number)
            cache._size = self.size
        return entry

    @classmethod
    def of(cls, entry: Any) -> Stamp:
        """Read the stamp of an entry; without valid cells there is no number, and its twin in the model has none."""
        k, v = (leaf.tensor[:, :, : leaf.size] for leaf in leaves(entry))
        assert k.shape == v.shape
        numbers = {*k.flatten().tolist(), *(-v).flatten().tolist()}
        assert len(numbers) <= 1
        return cls(numbers.pop() if numbers else float("inf"), k.shape[2], k.shape[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stamp) and self[1:] == other[1:] and (not self.size or self.number == other.number)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


def machine_test(strategy: EvictionStrategy) -> type:
    case = type(f"Pool{strategy.name.title()}Machine", (PoolMachine,), {"strategy": strategy}).TestCase
    # Without the phase that explains: after a failure it takes minutes and adds nothing to the program it found.
    case.settings = settings(
        max_examples=50, stateful_step_count=20, phases=(Phase.explicit, Phase.generate, Phase.shrink)
    )
    return case


TestFifoMachine = machine_test(FIFO)
TestLruMachine = machine_test(LRU)
TestPriorityMachine = machine_test(PRIORITY)

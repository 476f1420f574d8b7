"""The host can't tell the shadow from its primary, and the secondary can't touch what the host stands on."""

from __future__ import annotations

import copy
import random
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shadow.entry import leaves
from shadow.interface import CacheStore
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.wrapper.both import LOOK_EVERY, LOOK_FIRST
from shadow.wrapper.doors.pools import OPERATIONS, ShadowCache
from tests.guards import guards
from tests.shadow.cache_contract import CacheContract
from tests.shadow.entries import assert_equal_entries, make_entry, snapshot
from tests.shadow.observers import Broken, Recorder

CONFIG = {"num_simulations": 3, "max_cache_size": 4}
ENVS = 2
PRIMARIES = ("control", "candidate")


class Scripted:
    """A side whose every method does what a test says, and notes how it was called."""

    def __init__(self, act: Callable[..., Any] = lambda *args: None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.act = act
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def _call(self, name: str, *args: Any) -> Any:
        self.calls.append((name, args))
        return self.act(*args)


for _method in (*(operation.method for operation in OPERATIONS), "reset_stats", "get_stats_summary"):
    setattr(Scripted, _method, lambda self, *args, _method=_method: self._call(_method, *args))


CALLS: dict[str, Callable[[Any], Any]] = {
    "get_init_cache": lambda cache: cache.get_init_cache(1, 7),
    "get_recur_cache": lambda cache: cache.get_recur_cache(7),
    "get_wm_cache": lambda cache: cache.get_wm_cache(7),
    "hierarchical_get": lambda cache: cache.hierarchical_get(1, 7),
    "set_init_cache": lambda cache: cache.set_init_cache(1, 7, make_entry(1)),
    "set_recur_cache": lambda cache: cache.set_recur_cache(7, make_entry(1)),
    "set_wm_cache": lambda cache: cache.set_wm_cache(7, make_entry(1)),
    "clear_all": lambda cache: cache.clear_all(),
    "clear_init_caches": lambda cache: cache.clear_init_caches(),
    "clear_init_cache": lambda cache: cache.clear_init_cache(1),
    "clear_recur_cache": lambda cache: cache.clear_recur_cache(),
}


def shadowed(
    primary: Any, secondary: Any, stage: str = "control", observer: Any = None, seed: int = 0
) -> tuple[ShadowCache, Recorder]:
    """Put two sides behind one; ``stage`` names which of them the host is answered by."""
    observer = observer or Recorder()
    sides = (primary, secondary) if stage == "control" else (secondary, primary)
    return ShadowCache(*sides, observer, stage, seed), observer


def manager() -> KVCacheManager:
    return KVCacheManager(CONFIG, ENVS)


def legacy() -> LegacyKVCache:
    return LegacyKVCache(CONFIG, ENVS)


class TestShadowStage(CacheContract):
    """Legacy answers, the manager follows: the whole contract holds as if nobody watched."""

    def make(self, config: Any, env_num: int) -> Any:
        return shadowed(LegacyKVCache(config, env_num), KVCacheManager(config, env_num))[0]


class TestCanaryStage(CacheContract):
    """The manager answers, legacy follows."""

    def make(self, config: Any, env_num: int) -> Any:
        control = LegacyKVCache(config, env_num)
        return shadowed(KVCacheManager(config, env_num), control, "candidate")[0]


# What the host gets


@pytest.mark.parametrize("stage", PRIMARIES)
@pytest.mark.parametrize("method", sorted(CALLS))
def test_every_call_reaches_both_sides_once_and_answers_the_primarys_own_object(method: str, stage: str) -> None:
    answers = object(), object()
    primary, secondary = Scripted(lambda *args: answers[0]), Scripted(lambda *args: answers[1])
    cache, observer = shadowed(primary, secondary, stage)

    answer = CALLS[method](cache)

    assert answer is answers[0]
    assert [name for name, _ in primary.calls] == [name for name, _ in secondary.calls] == [method]
    (seen,) = observer.seen
    assert seen.operation.method == method
    expected = answers if stage == "control" else answers[::-1]
    assert (seen.control, seen.candidate) == expected
    assert (seen.control_error, seen.candidate_error) == (None, None)


def test_all_operations_are_called_above() -> None:
    assert sorted(CALLS) == sorted(operation.method for operation in OPERATIONS)


@pytest.mark.parametrize("stage", PRIMARIES)
@pytest.mark.parametrize("method", sorted(CALLS))
def test_what_the_primary_raises_reaches_the_host_as_it_is(method: str, stage: str) -> None:
    class OwnError(KeyError):
        pass

    problem = OwnError("mine")

    def fail(*args: Any) -> Any:
        raise problem

    secondary = Scripted()
    cache, observer = shadowed(Scripted(fail), secondary, stage)
    with pytest.raises(OwnError) as caught:
        CALLS[method](cache)
    assert caught.value is problem
    assert len(secondary.calls) == 1, "the secondary goes through it all the same"
    assert (observer.seen[0].control_error, observer.seen[0].candidate_error)[stage != "control"] is problem


class Panic(BaseException):
    """What a Rust extension raises."""


PROBLEMS = (
    *(ValueError("theirs"), SystemExit(3), MemoryError(), RecursionError()),
    *(Panic("index out of bounds"), GeneratorExit(), CancelledError()),
)


@pytest.mark.parametrize("stage", PRIMARIES)
@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
@pytest.mark.parametrize("method", sorted(CALLS))
def test_what_the_secondary_raises_goes_no_further(method: str, problem: BaseException, stage: str) -> None:
    def fail(*args: Any) -> Any:
        raise problem

    cache, observer = shadowed(Scripted(lambda *args: "answer"), Scripted(fail), stage)
    answer = CALLS[method](cache)
    assert answer == "answer"
    noted = (observer.seen[0].control_error, observer.seen[0].candidate_error)
    assert noted[stage != "control"] is None
    other = noted[stage == "control"]
    assert other is problem or repr(problem) in str(other)
    assert observer.faults == []


@guards(
    "shadow/wrapper/both.py",
    "_SECONDARY: Contained = (BaseException,)",
    "_SECONDARY: Contained = (Exception,)",
)
def test_a_secondary_that_exits_on_every_call_ends_nothing() -> None:
    cache, observer = shadowed(manager(), Scripted(lambda *args: sys.exit(0)))
    for key in range(5):
        cache.set_recur_cache(key, make_entry(key))
        assert_equal_entries(cache.get_recur_cache(key), make_entry(key))
    assert len(observer.seen) == 10


def test_a_primary_that_exits_ends_the_process_as_without_validation() -> None:
    cache, observer = shadowed(Scripted(lambda *args: sys.exit(4)), Scripted())
    with pytest.raises(SystemExit) as caught:
        cache.get_recur_cache(1)
    assert caught.value.code == 4
    assert observer.n_torn == 1


@pytest.mark.parametrize("interrupted", PRIMARIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_interrupt_comes_through_and_leaves_the_operation_torn(interrupted: str, seed: int) -> None:
    def interrupt(*args: Any) -> Any:
        raise KeyboardInterrupt

    sides = [Scripted(), Scripted()]
    sides[interrupted == "candidate"].act = interrupt
    cache, observer = shadowed(*sides, seed=seed)
    with pytest.raises(KeyboardInterrupt):
        cache.get_recur_cache(1)
    assert (observer.n_torn, observer.seen) == (1, [])


@pytest.mark.parametrize("method", sorted(CALLS))
def test_a_broken_observer_changes_nothing_for_the_host(method: str) -> None:
    observer = Broken()
    sides = Scripted(lambda *args: "answer"), Scripted(lambda *args: "other")
    cache, _ = shadowed(*sides, observer=observer)
    assert CALLS[method](cache) == "answer"
    assert [str(fault) for fault in observer.faults] == ["before failed", "observed failed"]
    assert observer.failed_steps == ["before", "observed"]
    assert [len(side.calls) for side in sides] == [1, 1]


def test_with_a_broken_observer_the_secondary_still_gets_a_copy_of_its_own() -> None:
    entry = make_entry(1)
    secondary = Scripted(lambda *args: None)
    cache, _ = shadowed(Scripted(), secondary, observer=Broken())
    cache.set_recur_cache(1, entry)
    given = secondary.calls[0][1][-1]
    assert given is not entry
    assert_equal_entries(given, entry)


def test_what_before_answers_is_given_back_with_the_observation() -> None:
    cache, observer = shadowed(Scripted(), Scripted())
    for method in sorted(CALLS):
        CALLS[method](cache)
    assert observer.tokens == list(range(1, len(CALLS) + 1))


def test_an_observer_whose_before_failed_is_given_no_token() -> None:
    cache, observer = shadowed(Scripted(), Scripted(), observer=Recorder())
    observer.before = lambda *args: 1 / 0  # type: ignore[method-assign]
    cache.set_recur_cache(7, make_entry(1))
    assert observer.tokens == [None]


def test_what_cannot_be_staged_is_copied_for_the_secondary_and_the_step_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secondary, entry = Scripted(), make_entry(1)
    cache, observer = shadowed(Scripted(), secondary)
    monkeypatch.setattr(cache._both._staging, "stage", lambda entry: 1 / 0)

    cache.set_recur_cache(7, entry)

    assert observer.failed_steps == ["stage"]
    given = secondary.calls[0][1][-1]
    assert given is not entry
    assert_equal_entries(given, entry)


def test_statistics_and_scratch_lists_are_the_primarys() -> None:
    primary, secondary = Scripted(lambda: {"who": "primary"}), Scripted(lambda: {"who": "secondary"})
    cache, _ = shadowed(primary, secondary)
    assert cache.get_stats_summary() == {"who": "primary"}
    assert cache.keys_values_wm_list is primary.keys_values_wm_list
    assert cache.keys_values_wm_size_list is primary.keys_values_wm_size_list
    cache.reset_stats()
    assert [calls[-1][0] for calls in (primary.calls, secondary.calls)] == ["reset_stats", "reset_stats"]


def test_a_secondary_whose_statistics_fail_is_contained() -> None:
    def fail() -> None:
        raise ValueError("no statistics here")

    cache, observer = shadowed(Scripted(), Scripted(fail))
    cache.reset_stats()
    assert [(method, str(what)) for method, what in observer.misbehaviour] == [("reset_stats", "no statistics here")]
    assert observer.faults == []


@pytest.mark.parametrize("primary", ["both", "", "legacy", None])
def test_an_unknown_primary_is_refused(primary: Any) -> None:
    with pytest.raises(ValueError, match="primary must be 'control' or 'candidate', got"):
        ShadowCache(Scripted(), Scripted(), Recorder(), primary)


def test_one_object_on_both_sides_is_refused() -> None:
    side = manager()
    with pytest.raises(ValueError, match="same object"):
        ShadowCache(side, side, Recorder())


def test_it_offers_the_whole_interface_and_says_what_it_is() -> None:
    cache, _ = shadowed(legacy(), manager())
    assert isinstance(cache, CacheStore)
    assert repr(cache) == "ShadowCache(control=LegacyKVCache, candidate=KVCacheManager, primary=LegacyKVCache)"


# What one side is given, the other never touches


def delete(entry: Any) -> None:
    del entry._keys_values[0]._k_cache._cache


def shorten(entry: Any) -> None:
    for layer in entry._keys_values:
        layer._k_cache._size = layer._v_cache._size = 0


def replace_tensors(entry: Any) -> None:
    for layer in entry._keys_values:
        layer._k_cache._cache = torch.zeros(1)


def empty(entry: Any) -> None:
    entry._keys_values = ()


def fill(entry: Any) -> None:
    for leaf in leaves(entry):
        leaf.tensor.data.fill_(9)


def mix_layers(entry: Any) -> None:
    entry._keys_values = (entry._keys_values[1], entry._keys_values[1])
    entry._keys_values[0]._v_cache = entry._keys_values[0]._k_cache


@guards("shadow/wrapper/both.py", "theirs = (*args[:-1], staged) if plain else for_secondary(args, staged)", "pass")
@pytest.mark.parametrize("stage", PRIMARIES)
@pytest.mark.parametrize(
    "damage", [delete, shorten, replace_tensors, empty, fill, mix_layers], ids=lambda damage: damage.__name__
)
def test_a_secondary_that_damages_its_input_damages_neither_the_hosts_nor_the_primarys(
    damage: Callable[[Any], None], stage: str
) -> None:
    given_to_primary: list[Any] = []
    primary = Scripted(lambda *args: given_to_primary.append(snapshot(args[-1])))
    secondary = Scripted(lambda *args: damage(args[-1]))
    cache, observer = shadowed(primary, secondary, stage)
    entry = make_entry(0)
    for number in range(1, 40):  # either side is first in some of them
        for own, fresh in zip(leaves(entry), leaves(make_entry(number)), strict=True):
            own.tensor.copy_(fresh.tensor)
        cache.set_recur_cache(number, entry)
        assert_equal_entries(entry, make_entry(number))
        assert given_to_primary[-1][0].tensor.equal(snapshot(make_entry(number))[0].tensor)
    assert observer.faults == []


@pytest.mark.parametrize("damage", [fill, shorten, mix_layers], ids=lambda damage: damage.__name__)
def test_every_new_set_of_the_secondary_starts_from_the_hosts_values(damage: Callable[[Any], None]) -> None:
    received: list[list[Any]] = []

    def keep_and_damage(*args: Any) -> None:
        received.append(snapshot(args[-1]))
        damage(args[-1])

    cache, _ = shadowed(Scripted(), Scripted(keep_and_damage))
    for number in range(6):
        cache.set_recur_cache(number, make_entry(number))
    for number, found in enumerate(received):
        assert_equal_entries(make_entry(number), found)


def test_what_the_secondary_keeps_is_never_the_hosts_memory() -> None:
    kept: list[Any] = []
    cache, _ = shadowed(Scripted(), Scripted(lambda *args: kept.append(args[-1])))
    entry = make_entry(1)
    cache.set_recur_cache(1, entry)
    own = {leaf.tensor.untyped_storage().data_ptr() for leaf in leaves(entry)}
    assert not own & {leaf.tensor.untyped_storage().data_ptr() for leaf in leaves(kept[0])}


def test_the_primary_gets_the_hosts_own_object() -> None:
    primary = Scripted()
    cache, _ = shadowed(primary, Scripted())
    entry = make_entry(1)
    cache.set_init_cache(0, 1, entry)
    assert primary.calls[0][1][-1] is entry


# What every process shares


def state() -> tuple[Any, ...]:
    numpy = np.random.get_state(legacy=False)
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        numpy["state"]["key"].tolist(),
        numpy["state"]["pos"],
        numpy["has_gauss"],
        numpy["gauss"],
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


MEDDLING: dict[str, tuple[Callable[[], Any], str]] = {
    "torch.rand": (lambda: torch.rand(1), "torch generator"),
    "torch.manual_seed": (lambda: torch.manual_seed(5), "torch generator"),
    "random.random": (random.random, "python generator"),
    "random.seed": (lambda: random.seed(5), "python generator"),
    "numpy.random.random": (np.random.random, "numpy generator"),
    "numpy.random.randn": (np.random.randn, "numpy generator"),
    "numpy.random.seed": (lambda: np.random.seed(5), "numpy generator"),
    "grad mode off": (lambda: torch.set_grad_enabled(False), "grad mode"),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), "default dtype"),
}


@guards(
    "shadow/wrapper/both.py",
    "meddled(changed, False, process_state.put_back(before, parts))",
    "meddled(changed, False, [])",
)
@pytest.mark.parametrize("name", sorted(MEDDLING))
@pytest.mark.parametrize("stage", PRIMARIES)
def test_what_the_secondary_does_to_the_process_is_undone_and_named(name: str, stage: str) -> None:
    change, label = MEDDLING[name]
    cache, observer = shadowed(Scripted(), Scripted(lambda *args: change()), stage)
    before = state()
    for method in sorted(CALLS):
        CALLS[method](cache)
        assert state() == before
    assert observer.meddlings == [([label], False)] * len(CALLS)


def test_the_secondary_is_undone_even_if_it_raises() -> None:
    def draw_and_fail(*args: Any) -> None:
        torch.rand(1)
        raise ValueError("planted")

    cache, observer = shadowed(Scripted(), Scripted(draw_and_fail))
    before = state()
    cache.get_recur_cache(1)
    assert state() == before
    assert observer.meddlings == [(["torch generator"], False)]


def test_a_primary_keeps_what_it_does_to_the_process_as_it_would_without_validation() -> None:
    cache, observer = shadowed(Scripted(lambda *args: random.random()), Scripted())
    random.seed(3)
    expected = [random.random() for _ in range(3)]
    random.seed(3)
    assert [cache.get_recur_cache(1) for _ in range(3)] == expected
    assert observer.meddlings == [(["python generator"], True)] * 3


def test_a_secondary_draws_the_same_numbers_again_and_the_primary_its_own() -> None:
    cache, _ = shadowed(Scripted(lambda *args: random.random()), Scripted(lambda *args: random.random()))
    random.seed(3)
    expected = [random.random() for _ in range(20)]
    random.seed(3)
    assert [cache.get_recur_cache(1) for _ in range(20)] == expected


def test_late_meddling_is_seen_within_a_bounded_number_of_calls() -> None:
    meddle = [False]
    cache, observer = shadowed(Scripted(), Scripted(lambda *args: meddle[0] and torch.rand(1)))
    for _ in range(LOOK_FIRST + 1):
        cache.get_recur_cache(1)
    meddle[0] = True
    for _ in range(LOOK_EVERY):
        cache.get_recur_cache(1)
    assert observer.meddlings
    count = len(observer.meddlings)
    before = state()
    for _ in range(10):  # from now on every call is looked at
        cache.get_recur_cache(1)
        assert state() == before
    assert len(observer.meddlings) == count + 10


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modes_of_the_host_are_as_they_were(mode: Callable[[], Any]) -> None:
    cache, observer = shadowed(legacy(), manager())
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for key in range(4):
            cache.set_init_cache(0, key % 2, make_entry(key))
            assert_equal_entries(cache.hierarchical_get(0, key % 2), make_entry(key))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    cache.set_init_cache(0, 1, make_entry(9))
    assert_equal_entries(cache.get_init_cache(0, 1), make_entry(9))
    assert observer.faults == []


def test_the_shadow_itself_draws_no_random_number() -> None:
    cache, _ = shadowed(legacy(), manager())
    before = state()
    for key in range(30):
        cache.set_recur_cache(key, make_entry(key))
        cache.get_recur_cache(key)
    assert state() == before


# Which side comes first


def orders(seed: int, count: int = 200) -> list[str]:
    order: list[str] = []
    sides = Scripted(lambda *args: order.append("control")), Scripted(lambda *args: order.append("candidate"))
    cache, _ = shadowed(*sides, seed=seed)
    for _ in range(count):
        cache.get_recur_cache(1)
    return order[::2]


def test_either_side_comes_first_about_half_of_the_time() -> None:
    assert 70 < orders(0).count("control") < 130


def test_the_order_follows_from_the_seed_and_from_no_global_generator() -> None:
    random.seed(1)
    first = orders(5)
    random.seed(2)
    np.random.seed(2)
    assert orders(5) == first
    assert orders(6) != first


def test_times_are_told_for_the_right_side() -> None:
    def slow(*args: Any) -> None:
        threading.Event().wait(0.002)

    for stage in PRIMARIES:
        cache, observer = shadowed(Scripted(), Scripted(slow), stage)
        for _ in range(6):
            cache.get_recur_cache(1)
        for seen in observer.seen:
            primary, secondary = (
                (seen.control_ns, seen.candidate_ns) if stage == "control" else (seen.candidate_ns, seen.control_ns)
            )
            assert primary < 2_000_000 <= secondary
        assert observer.harness_ns >= 6 * 2_000_000, "the secondary's time is the harness's"


@pytest.mark.parametrize("stage", PRIMARIES)
def test_the_primarys_own_time_is_not_the_harnesss(stage: str) -> None:
    cache, observer = shadowed(Scripted(lambda *args: threading.Event().wait(0.002)), Scripted(), stage)
    began = time.perf_counter_ns()
    for _ in range(6):
        cache.get_recur_cache(1)
    whole = time.perf_counter_ns() - began
    own = sum(seen.control_ns if stage == "control" else seen.candidate_ns for seen in observer.seen)
    assert 0 < observer.harness_ns <= whole - own


def test_operations_are_numbered_from_zero_without_gaps() -> None:
    def fail(*args: Any) -> None:
        raise ValueError

    cache, observer = shadowed(Scripted(fail), Scripted())
    for _ in range(5):
        with pytest.raises(ValueError, match=r"^$"):
            cache.get_recur_cache(1)
    assert [seen.op_index for seen in observer.seen] == [0, 1, 2, 3, 4]


# Copies and threads


def test_a_deep_copy_shares_nothing_and_has_an_observer_of_its_own() -> None:
    cache, observer = shadowed(manager(), legacy(), "candidate")
    cache.set_recur_cache(1, make_entry(1))
    twin = copy.deepcopy(cache)
    twin.set_recur_cache(1, make_entry(2))
    twin.set_recur_cache(3, make_entry(3))

    assert_equal_entries(cache.get_recur_cache(1), make_entry(1))
    assert cache.get_recur_cache(3) is None
    assert_equal_entries(twin.get_recur_cache(1), make_entry(2))
    ((control, candidate, other),) = observer.copies
    assert isinstance(control, LegacyKVCache)
    assert isinstance(candidate, KVCacheManager)
    assert (len(observer.seen), len(other.seen)) == (3, 3)
    assert repr(twin) == repr(cache)


def test_a_deep_copy_inside_a_model_keeps_shared_references_shared() -> None:
    cache, _ = shadowed(legacy(), manager())
    model = {"one": cache, "two": cache}
    twin = copy.deepcopy(model)
    assert twin["one"] is twin["two"]
    assert twin["one"] is not cache


def test_two_threads_never_meet_inside_an_operation() -> None:
    inside, overlaps = [0], [0]

    def act(*args: Any) -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        threading.Event().wait(0.0002)
        inside[0] -= 1

    cache, observer = shadowed(Scripted(act), Scripted(act))
    threads = [threading.Thread(target=lambda: [cache.get_recur_cache(k) for k in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [0]
    assert sorted(seen.op_index for seen in observer.seen) == list(range(150))


def test_two_threads_get_what_they_stored() -> None:
    cache, observer = shadowed(KVCacheManager({"num_simulations": 100}, 2), LegacyKVCache({"num_simulations": 100}, 2))
    wrong: list[int] = []

    def work(env_id: int) -> None:
        for number in range(60):
            cache.set_init_cache(env_id, number % 5, make_entry(number + 1000 * env_id))
            found = cache.get_init_cache(env_id, number % 5)
            if leaves(found)[0].tensor[0, 0, 0, 0].item() != (number + 1000 * env_id) * 64:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(env_id,)) for env_id in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert observer.faults == []
    assert len(observer.seen) == 240

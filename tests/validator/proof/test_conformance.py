"""Adversarial streams: sound pairs are clean, the legacy ring shows exactly its quirks, faults get a short program."""

from __future__ import annotations

from typing import Any

import pytest

from reports.record.words import Cause, Fault
from shadow.interface import CacheCapacities
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.shadow.entries import assert_equal_entries
from validator.cli import main
from validator.proof.conformance import QUIRKS, Conformance, conformance
from validator.proof.faults.planted import PLANTED
from validator.proof.shrink import shrink
from validator.proof.stream import EntrySpec, Player, Step, Terrain, entry, steps
from validator.proof.trial import Trial


def manager(config: dict[str, int], env_num: int) -> KVCacheManager:
    return KVCacheManager(config, env_num)


def legacy(config: dict[str, int], env_num: int) -> LegacyKVCache:
    return LegacyKVCache(config, env_num)


@pytest.mark.parametrize("make", [manager, legacy])
def test_a_cache_against_itself_is_clean(make: Any) -> None:
    result = conformance(make, make, 1_000)
    assert result.conforms
    assert result.operations == 1_000
    assert not result.charges
    assert result.programs == {}


@pytest.fixture(scope="module")
def quirks() -> Conformance:
    """Legacy against manager, long enough for all four quirks; found once, since shrinking takes time."""
    return conformance(legacy, manager, 500)


def test_legacy_and_manager_differ_by_exactly_the_four_quirks(quirks: Conformance) -> None:
    expected = {(cause, Fault.CONTROL) for cause in QUIRKS}
    assert set(quirks.charges) == expected
    assert quirks.conforms, "they are what the ring declares"
    assert quirks.expected == expected
    assert set(quirks.programs) == expected
    for program, text in quirks.programs.values():
        assert len(program) <= 10
        assert "(L" in text


@pytest.mark.parametrize("primary", ["control", "candidate"])
def test_a_legacy_candidate_differs_by_exactly_the_four_quirks(primary: str) -> None:
    config = {"num_simulations": 2, "max_cache_size": 4}
    run = Trial(manager(config, 3), legacy(config, 3), primary)
    run.play(steps(0, 700, Terrain(3, CacheCapacities.from_config(config, 3), one_layout=True)))
    run.finish()
    assert set(run.causes()) == {(cause, Fault.CANDIDATE) for cause in QUIRKS}


def test_streams_are_reproducible_and_differ_by_seed() -> None:
    terrain = Terrain()
    one, same, other = (list(steps(seed, 300, terrain)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_a_stream_goes_where_caches_break() -> None:
    stream = list(steps(0, 5_000, Terrain()))
    verbs = {step.verb for step in stream}
    assert verbs == {
        *("set_init_cache", "set_recur_cache", "set_wm_cache", "get_init_cache", "get_recur_cache", "get_wm_cache"),
        *("hierarchical_get", "clear_all", "clear_init_caches", "clear_init_cache", "clear_recur_cache"),
        *("weights_updated", "episode_ended", "search_started"),
    }
    specs = [step.entry for step in stream if step.entry is not None]
    assert {spec.payload for spec in specs} == {"plain", "nan", "inf", "zeros", "strided", "uneven"}
    assert {spec.dtype for spec in specs} == {"float32", "bfloat16", "float64"}
    assert {0, 1, 7, 8, 9} <= {spec.tokens for spec in specs}
    assert len({spec.batch for spec in specs}) == 3
    sets = {(step.verb, step.key) for step in stream if step.entry is not None}
    assert {key for verb, key in sets if verb == "set_init_cache"} & {k for v, k in sets if v == "set_recur_cache"}
    low = [key & 0xFFFFFFFF for key in {step.key for step in stream if step.key is not None}]
    assert len(low) > len(set(low)), "two keys that differ above bit 32 only"


@pytest.mark.parametrize("name", ["rounded through bfloat16", "only 32 bits of a key count", "a re-set is ignored"])
def test_a_faulty_candidate_does_not_conform_and_gets_a_short_program(name: str) -> None:
    (fault,) = [fault for fault in PLANTED if fault.name == name]
    result = conformance(manager, lambda config, envs: fault.make(manager(config, envs)), 100)
    assert not result.conforms
    assert result.unexpected
    assert {side for _, side in result.charges} == {Fault.CANDIDATE}
    cause = fault.causes[0]
    program, text = result.programs[(cause, Fault.CANDIDATE)]
    assert 1 <= len(program) <= 4
    assert text.startswith("The candidate (")


def test_a_program_that_was_found_can_be_played_again(quirks: Conformance) -> None:
    program, _ = quirks.programs[(Cause.SLOT_LEAK, Fault.CONTROL)]
    config = {"num_simulations": 2, "max_cache_size": 4}
    run = Trial(legacy(config, 3), manager(config, 3))
    run.play(program)
    run.finish()
    assert (Cause.SLOT_LEAK, Fault.CONTROL) in run.causes()


@guards("validator/proof/conformance.py", "return bool(self.compared) and", "return")
def test_streams_in_which_nothing_was_compared_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--ops", "1"]) == 5
    assert "WERE NEVER COMPARED in 1 operations" in capsys.readouterr().out


def test_nothing_played_is_no_conformance() -> None:
    assert not Conformance().conforms
    assert not conformance(manager, manager, 0).conforms


def test_a_fault_of_the_harness_is_no_conformance() -> None:
    result = Conformance(operations=10, harness_faults=["ValueError()"])
    assert not result.conforms


def test_progress_is_told() -> None:
    told: list[int] = []
    conformance(manager, manager, 2_100, on_progress=told.append)
    assert told == [2_000, 2_100]


def test_slots_of_the_legacy_store_rule_out_mixed_layouts_and_that_is_said() -> None:
    assert conformance(manager, manager, 10).not_exercised == []
    (note,) = conformance(legacy, manager, 10).not_exercised
    assert note.startswith("mixed dtypes and batch sizes: slots of control")


# Shrinking


def step(number: int) -> Step:
    return Step("get_recur_cache", key=number)


@pytest.mark.parametrize("needed", [(3,), (0, 99), (5, 6, 7), (10, 40, 70, 99)])
def test_shrink_leaves_exactly_what_is_needed(needed: tuple[int, ...]) -> None:
    stream = [step(number) for number in range(100)]

    def fails(part: Any) -> bool:
        return {each.key for each in part} >= set(needed)

    assert [each.key for each in shrink(stream, fails)] == list(needed)


def test_shrink_asks_seldom() -> None:
    asked = [0]

    def fails(part: Any) -> bool:
        asked[0] += 1
        return {each.key for each in part} >= {1_000, 1_500}

    shrink([step(number) for number in range(2_000)], fails)
    assert asked[0] < 150


def test_from_a_shrunk_stream_no_single_step_can_be_taken() -> None:
    config = {"num_simulations": 2, "max_cache_size": 4}
    group = (Cause.SLOT_LEAK, Fault.CONTROL)

    def fails(part: Any) -> bool:
        run = Trial(legacy(config, 3), manager(config, 3))
        run.play(part)
        run.finish()
        return group in run.causes()

    terrain = Terrain(3, CacheCapacities.from_config(config, 3), one_layout=True)
    program = shrink(list(steps(0, 150, terrain)), fails)
    assert fails(program)
    for index in range(len(program)):
        assert not fails(program[:index] + program[index + 1 :])


# Entries and the player


def test_one_recipe_makes_the_same_bits() -> None:
    for payload in ("plain", "nan", "inf", "zeros", "strided", "uneven"):
        spec = EntrySpec(5, 6, 2, "bfloat16", payload)
        assert_equal_entries(entry(spec), entry(spec))


def test_an_uneven_entry_has_shorter_values_than_keys() -> None:
    made = entry(EntrySpec(1, 4, payload="uneven"))
    assert [(layer._k_cache._size, layer._v_cache._size) for layer in made] == [(4, 3), (4, 3)]


def test_the_player_goes_on_after_an_error_and_counts_cache_operations_only() -> None:
    class Failing:
        def __init__(self) -> None:
            self.calls = 0

        def get_recur_cache(self, key: int) -> None:
            self.calls += 1
            raise ValueError

    cache = Failing()
    played = Player(cache).play_all([step(1), Step("weights_updated"), Step("episode_ended", 0), step(2)])
    assert (played, cache.calls) == (2, 2)


def test_a_step_prints_as_a_call() -> None:
    assert str(Step("set_init_cache", 1, 5, EntrySpec(2, 3))) == (
        "set_init_cache(1, 5, entry(2, 3, 1, 'float32', 'plain'))"
    )
    assert str(Step("clear_all")) == "clear_all()"

"""At which moments the world model calls its cache, and with which env and key."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from shadow.hosts.unizero.world_model import WorldModel, latent_key
from shadow.legacy import LegacyKVCache
from tests.shadow.hosts.unizero.uncached import SMALL, Recorder, make_model, observations


@pytest.fixture
def recorder() -> Recorder:
    config = SimpleNamespace(**SMALL)
    return Recorder(LegacyKVCache(config, env_num=8))


@pytest.fixture
def model(recorder: Recorder) -> WorldModel:
    return make_model(env_num=8, cache=recorder, validation=recorder)


def test_one_env_step_costs_what_lightzero_pays(model: WorldModel, recorder: Recorder) -> None:
    """Per env: 1 root get, S hierarchical gets, 1 init set, S recurrent sets; one recurrent clear in all."""
    env_ids, simulations = [5, 2], 7
    model.initial_inference(env_ids, observations(2), [None, None])
    recorder.calls.clear()

    roots = model.initial_inference(env_ids, observations(2, seed=1), [0, 1])
    model.prepare_roots(env_ids)
    model.start_search()
    latents = roots.latents
    for _ in range(simulations):
        latents = model.recurrent_inference(env_ids, latents, [0, 1]).latents

    assert Counter(recorder.names()) == {
        "get_init_cache": 2,
        "set_init_cache": 2,
        "clear_recur_cache": 1,
        "search_started": 1,
        "hierarchical_get": 2 * simulations,
        "set_recur_cache": 2 * simulations,
        "set_wm_cache": 2 * (simulations + 1),
        "get_wm_cache": 2 * (simulations + 1),
    }


def test_envs_go_by_their_ids_not_by_their_rows(model: WorldModel, recorder: Recorder) -> None:
    model.initial_inference([5, 2], observations(2), [None, None])
    roots = model.initial_inference([2, 5], observations(2, seed=1), [0, 1])
    model.recurrent_inference([2, 5], roots.latents, [0, 1])
    named = [(call[0], call[1]) for call in recorder.calls if "init" in call[0] or "hierarchical" in call[0]]
    assert named == [
        ("set_init_cache", 5),
        ("set_init_cache", 2),
        ("get_init_cache", 2),
        ("get_init_cache", 5),
        ("set_init_cache", 2),
        ("set_init_cache", 5),
        ("hierarchical_get", 2),
        ("hierarchical_get", 5),
    ]


def test_a_root_is_looked_up_under_the_key_it_was_stored_under(model: WorldModel, recorder: Recorder) -> None:
    first = model.initial_inference([3], observations(1), [None])
    model.initial_inference([3], observations(1, seed=1), [0])
    key = latent_key(first.latents[0])
    assert recorder.calls[0] == ("set_init_cache", 3, key)
    assert recorder.calls[1] == ("get_init_cache", 3, key)


def test_the_first_step_of_an_episode_looks_nothing_up(model: WorldModel, recorder: Recorder) -> None:
    for seed in (0, 1):  # also where a root of the same env is still there
        model.initial_inference([0, 1], observations(2, seed), [None, None])
    assert recorder.names() == ["set_init_cache"] * 4


def test_a_miss_needs_no_batch_copy(model: WorldModel, recorder: Recorder) -> None:
    model.initial_inference([0], observations(1), [None])
    model.cache.clear_all()
    recorder.calls.clear()
    model.initial_inference([0], observations(1, seed=1), [1])
    assert recorder.names() == ["get_init_cache", "set_init_cache"]


def test_batch_copies_never_share_a_ticket(model: WorldModel, recorder: Recorder) -> None:
    roots = model.initial_inference([0, 1], observations(2), [None, None])
    for _ in range(3):
        model.recurrent_inference([0, 1], roots.latents, [0, 1])
    tickets = [call[1] for call in recorder.calls if call[0] == "set_wm_cache"]
    assert tickets == [0, 1, 2, 3, 4, 5]


def test_a_root_with_room_is_left_alone(model: WorldModel, recorder: Recorder) -> None:
    model.initial_inference([0], observations(1), [None])
    recorder.calls.clear()
    model.prepare_roots([0])
    assert recorder.calls == []


def test_a_full_root_is_fetched_and_set_again_under_the_same_key(recorder: Recorder) -> None:
    model = make_model(env_num=8, cache=recorder, context_length=4)
    model.initial_inference([6], observations(1), [None])
    roots = model.initial_inference([6], observations(1, seed=1), [0])
    recorder.calls.clear()
    model.prepare_roots([6])
    key = latent_key(roots.latents[0])
    assert recorder.calls == [("get_init_cache", 6, key), ("set_init_cache", 6, key)]


def test_an_episode_ends_with_its_own_env_only(model: WorldModel, recorder: Recorder) -> None:
    model.initial_inference([0, 4], observations(2), [None, None])
    recorder.calls.clear()
    model.episode_ended(4)
    assert recorder.calls == [("clear_init_cache", 4), ("episode_ended", 4)]


def test_entries_are_dropped_before_the_new_weights_are_announced(model: WorldModel, recorder: Recorder) -> None:
    model.weights_moved()
    assert recorder.names() == ["clear_all", "weights_updated"]


def test_a_search_starts_with_an_empty_pool(model: WorldModel, recorder: Recorder) -> None:
    model.start_search()
    assert recorder.names() == ["clear_recur_cache", "search_started"]


def test_exact_keys_differ_in_the_last_bit_and_have_64_bits() -> None:
    latent = np.full(8, 0.125, dtype=np.float32)
    other = latent.copy()
    other[3] = np.nextafter(other[3], np.float32(1))
    assert latent_key(latent) != latent_key(other)
    assert 0 <= latent_key(latent) < 2**64


def test_coarse_keys_repeat() -> None:
    latent = np.full(8, 0.125, dtype=np.float32)
    near, far = latent + np.float32(0.01), latent + np.float32(0.3)
    assert latent_key(latent, buckets=4) == latent_key(near, buckets=4)
    assert latent_key(latent, buckets=4) != latent_key(far, buckets=4)
    assert latent_key(np.ones(8, dtype=np.float32), buckets=4) == latent_key(np.full(8, 0.99, np.float32), buckets=4)

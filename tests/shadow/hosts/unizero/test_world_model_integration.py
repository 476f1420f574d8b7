"""Real entries through the world model, on the old and on the new cache: values, not counts.

Every expected value comes from ``History``, which recomputes everything and knows no cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from shadow.entry import leaves
from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.history import History
from shadow.hosts.unizero.search import Searched, search
from shadow.hosts.unizero.world_model import Inferred, WorldModel, latent_key
from tests.shadow.entries import assert_equal_entries, snapshot
from tests.shadow.hosts.unizero.uncached import CLOSE, UncachedModel, assert_step, make_model, observations


@pytest.fixture(autouse=True)
def _without_gradient() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(params=["old cache", "new cache"])
def new_cache(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "new cache")


class Played:
    """A world model and, beside it, the history of each env that the reference recomputes from."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model
        self.histories: dict[int, History] = {}
        self.env_ids: list[int] = []
        self.roots: Inferred

    def history(self, env_id: int) -> History:
        if env_id not in self.histories:
            self.histories[env_id] = History(self.model.network, self.model.config.context_length)
        return self.histories[env_id]

    def observe(self, env_ids: Sequence[int], seed: int, actions: Sequence[int | None] | None = None) -> None:
        """Take the next observation of some envs in both; None for an action starts an episode."""
        shown = observations(10, seed)[list(env_ids)]
        taken = [None] * len(env_ids) if actions is None else list(actions)
        self.env_ids = list(env_ids)
        self.roots = self.model.initial_inference(self.env_ids, shown, taken)
        for env_id, observation, action in zip(env_ids, shown, taken, strict=True):
            history = self.history(env_id)
            if action is None:
                history.start = len(history.tokens)
            else:
                history.make_room()
                history.act(action)
            history.observe(observation)

    def restart(self, env_id: int) -> None:
        """Let the reference forget all that came before the newest latent."""
        history = self.history(env_id)
        history.start = history.sees_from[-1] = len(history.tokens) - 1

    def assert_roots(self) -> None:
        for row, env_id in enumerate(self.env_ids):
            priors, value = self.history(env_id).prior_and_value()
            np.testing.assert_allclose(self.roots.priors[row], priors, **CLOSE, err_msg=f"prior of env {env_id}")
            np.testing.assert_allclose(self.roots.values[row], value, **CLOSE, err_msg=f"value of env {env_id}")

    def assert_steps(self, actions: Sequence[int]) -> Any:
        """Take one action from every root in both, and return what the model said."""
        output = self.model.recurrent_inference(self.env_ids, self.roots.latents, actions)
        for row, (env_id, action) in enumerate(zip(self.env_ids, actions, strict=True)):
            assert_step(output, row, self.history(env_id).fork().step(action))
        return output


def test_a_root_goes_on_from_the_root_before(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0, 1, 2], seed=0)
    played.assert_roots()
    for step in range(1, 6):
        played.observe([0, 1, 2], seed=step, actions=[step % 2, 1, 0])
        played.assert_roots()


def test_envs_of_different_age_share_a_batch_but_not_a_context(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    for step in range(5):
        played.observe([1], seed=step, actions=[1 if step else None])
    played.observe([0, 1, 2], seed=9, actions=[None, 0, None])
    played.assert_roots()
    played.model.start_search()
    played.assert_steps([0, 1, 1])


def test_rows_are_not_env_ids(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0, 1, 2], seed=0)
    played.observe([2, 0], seed=1, actions=[0, 1])
    played.assert_roots()
    played.observe([1], seed=2, actions=[1])
    played.assert_roots()
    played.observe([2, 1, 0], seed=3, actions=[1, 1, 0])
    played.assert_roots()
    assert [played.history(env_id).length for env_id in range(3)] == [5, 5, 5]


def test_a_search_falls_back_from_roots_to_its_own_nodes(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0, 1], seed=0)
    played.observe([0, 1], seed=1, actions=[1, 0])
    played.model.start_search()
    first = played.assert_steps([0, 1])
    second = played.model.recurrent_inference([0, 1], first.latents, [1, 1])
    for row, action in enumerate([0, 1]):
        branch = played.history(row).fork()
        branch.step(action)
        assert_step(second, row, branch.step(1))


def test_siblings_do_not_see_each_other(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0, 1], seed=0)
    played.model.start_search()
    once = played.assert_steps([0, 0])
    played.assert_steps([1, 1])
    again = played.assert_steps([0, 0])
    np.testing.assert_array_equal(once.latents, again.latents)
    assert once.values == again.values


def test_imagination_past_the_context_drops_the_oldest_pairs(new_cache: bool) -> None:
    played = Played(make_model(new_cache, context_length=8))
    played.observe([0, 1], seed=0)
    played.observe([0, 1], seed=1, actions=[1, 0])
    played.model.start_search()
    branches = [played.history(env_id).fork() for env_id in (0, 1)]
    latents = played.roots.latents
    for depth in range(8):
        actions = [depth % 2, 1 - depth % 2]
        output = played.model.recurrent_inference([0, 1], latents, actions)
        for row, branch in enumerate(branches):
            assert_step(output, row, branch.step(actions[row]))
        latents = output.latents
    assert [branch.length for branch in branches] == [7, 7]


def test_a_long_episode_keeps_its_newest_context(new_cache: bool) -> None:
    played = Played(make_model(new_cache, context_length=8))
    for step in range(12):
        played.observe([0], seed=step, actions=[step % 2 if step else None])
        played.assert_roots()
    assert played.history(0).length == 7


def test_a_full_root_is_trimmed_under_its_own_key(new_cache: bool) -> None:
    model = make_model(new_cache, context_length=8)
    played = Played(model)
    for step in range(4):
        played.observe([0, 2], seed=step, actions=[1 if step else None] * 2)
    key = latent_key(played.roots.latents[1])
    assert model.cache.get_init_cache(2, key).size == 7

    model.prepare_roots([0, 2])

    assert model.cache.get_init_cache(2, key).size == 3
    for env_id in (0, 2):
        played.history(env_id).trim(3)
    model.start_search()
    played.assert_steps([0, 1])
    played.observe([0, 2], seed=7, actions=[1, 0])
    played.assert_roots()


def test_a_node_that_was_evicted_starts_anew_from_its_latent(new_cache: bool) -> None:
    """The pool holds 2 nodes: the third step of a search overwrites the first."""
    played = Played(make_model(new_cache, env_num=1, num_simulations=2))
    played.observe([0], seed=0)
    played.model.start_search()
    first = played.assert_steps([0])
    second = played.model.recurrent_inference([0], first.latents, [1])
    played.model.recurrent_inference([0], second.latents, [0])

    output = played.model.recurrent_inference([0], first.latents, [1])

    fresh = History(played.model.network, played.model.config.context_length)
    fresh.imagine(torch.from_numpy(first.latents[0]))
    assert_step(output, 0, fresh.step(1))
    assert abs(output.values[0] - second.values[0]) > 1e-3


def test_only_the_latest_roots_outlive_a_small_pool_and_they_are_right(new_cache: bool) -> None:
    model = make_model(new_cache, max_cache_size=2)
    played = Played(model)
    keys = []
    for step in range(5):
        played.observe([0, 1], seed=step, actions=[0 if step else None] * 2)
        played.assert_roots()
        keys.append([latent_key(latent) for latent in played.roots.latents])
    for env_id in (0, 1):
        held = [model.cache.get_init_cache(env_id, pair[env_id]) for pair in keys]
        assert [entry and entry.size for entry in held] == [None, None, None, 7, 9]


def test_a_new_search_forgets_the_nodes_of_the_one_before(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0], seed=0)
    played.model.start_search()
    first = played.assert_steps([0])
    played.model.start_search()

    output = played.model.recurrent_inference([0], first.latents, [1])

    fresh = History(played.model.network, played.model.config.context_length)
    fresh.imagine(torch.from_numpy(first.latents[0]))
    assert_step(output, 0, fresh.step(1))


def test_a_cached_entry_never_changes_under_later_inference(new_cache: bool) -> None:
    model = make_model(new_cache, context_length=8)
    played = Played(model)
    for step in range(3):
        played.observe([0, 1], seed=step, actions=[1 if step else None] * 2)
    keys = [latent_key(latent) for latent in played.roots.latents]
    held = [model.cache.get_init_cache(env_id, keys[env_id]) for env_id in (0, 1)]
    before = [snapshot(entry) for entry in held]

    model.start_search()
    for action in (0, 1, 0):
        played.assert_steps([action, 1])
    played.observe([0, 1], seed=7, actions=[0, 0])

    for env_id, entry in enumerate(held):
        assert_equal_entries(entry, before[env_id])
        assert_equal_entries(model.cache.get_init_cache(env_id, keys[env_id]), before[env_id])


def test_the_end_of_an_episode_leaves_other_envs_their_context(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    for step in range(3):
        played.observe([0, 1], seed=step, actions=[1 if step else None] * 2)
    ended = latent_key(played.roots.latents[1])
    played.model.episode_ended(1)
    assert played.model.cache.get_init_cache(1, ended) is None
    played.observe([0, 1], seed=5, actions=[0, None])
    played.assert_roots()
    assert [played.history(env_id).length for env_id in (0, 1)] == [7, 1]


def test_after_a_weight_update_contexts_start_anew_with_the_new_weights(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    for step in range(3):
        played.observe([0, 1], seed=step, actions=[1 if step else None] * 2)
    with torch.no_grad():
        for parameter in played.model.network.parameters():
            parameter.mul_(0.9)
    played.model.weights_moved()

    played.observe([0, 1], seed=5, actions=[0, 1])

    for env_id in (0, 1):
        played.restart(env_id)
    played.assert_roots()
    played.model.start_search()
    played.assert_steps([0, 1])


def run_search(model: Any, env_ids: Sequence[int], roots: Inferred, simulations: int) -> list[Searched]:
    config = TrainConfig(search_simulations=simulations, discount=0.97)
    return search(model, env_ids, roots, config, np.random.default_rng(5))


def test_a_search_with_caches_finds_what_one_without_does(new_cache: bool) -> None:
    played = Played(make_model(new_cache, num_simulations=12))
    for step in range(3):
        played.observe([0, 2], seed=step, actions=[1 if step else None] * 2)
    played.model.start_search()
    reference = UncachedModel(
        {env_id: played.history(env_id) for env_id in played.env_ids},
        dict(zip(played.env_ids, played.roots.latents, strict=True)),
    )

    cached = run_search(played.model, played.env_ids, played.roots, 12)
    uncached = run_search(reference, played.env_ids, played.roots, 12)

    for a, b in zip(cached, uncached, strict=True):
        np.testing.assert_array_equal(a.visits, b.visits)
        np.testing.assert_allclose(a.value, b.value, **CLOSE)


def test_both_caches_give_the_same_bits() -> None:
    def play(new: bool) -> list[Any]:
        played = Played(make_model(new, context_length=8, num_simulations=6, max_cache_size=3))
        found: list[Any] = []
        for step in range(14):
            ready = [[0, 1, 2], [2, 0], [1]][step % 3]
            started = [None if env_id not in played.histories else 1 for env_id in ready]
            played.observe(ready, seed=step, actions=started)
            played.model.prepare_roots(ready)
            played.model.start_search()
            searched = run_search(played.model, ready, played.roots, 6)
            found.append([played.roots.values, [(list(one.visits), one.value) for one in searched]])
            if step == 8:
                played.model.episode_ended(ready[0])
                del played.histories[ready[0]]
        return found

    assert play(new=False) == play(new=True)


def test_entries_carry_no_autograd_history(new_cache: bool) -> None:
    played = Played(make_model(new_cache))
    played.observe([0], seed=0)
    entry = played.model.cache.get_init_cache(0, latent_key(played.roots.latents[0]))
    assert all(leaf.tensor.grad_fn is None and not leaf.tensor.requires_grad for leaf in leaves(entry))

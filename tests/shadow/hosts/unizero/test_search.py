"""The tree search on trees small enough to know the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.search import Tree, search
from shadow.hosts.unizero.world_model import Inferred, Latents


class Corridor:
    """A known world: latent ``(position, env)``; only the rightmost cell of env 0 and the leftmost of env 1 pay.

    The path is long enough that a look one step ahead shows nothing.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], list[int]]] = []

    def recurrent_inference(self, env_ids: Sequence[int], latents: Latents, actions: Sequence[int]) -> Inferred:
        self.batches.append((list(env_ids), list(actions)))
        moved = np.array(latents)
        moved[:, 0] += np.where(np.asarray(actions) == 1, 1, -1)
        rewards = [float(position == (3 if env == 0 else -3)) for position, env in moved]
        return Inferred(moved.astype(np.float32), rewards, [[0.5, 0.5]] * len(moved), [0.0] * len(moved))


def run(model: Any, simulations: int = 60, noise_share: float = 0.0, seed: int = 0, priors: Any = None) -> list[Any]:
    roots = Inferred(
        np.array([[0, 0], [0, 1]], dtype=np.float32), [0.0] * 2, priors or [[0.5, 0.5], [0.5, 0.5]], [0.0, 0.0]
    )
    config = TrainConfig(search_simulations=simulations, discount=0.9, noise_share=noise_share)
    return search(model, [4, 7], roots, config, np.random.default_rng(seed))


def test_every_tree_finds_its_own_better_action() -> None:
    right, left = run(Corridor())
    assert right.visits[1] > 2 * right.visits[0]
    assert left.visits[0] > 2 * left.visits[1]


def test_visits_sum_to_the_simulations_and_each_is_one_batched_step() -> None:
    model = Corridor()
    found = run(model, simulations=17)
    assert [int(searched.visits.sum()) for searched in found] == [17, 17]
    assert len(model.batches) == 17
    assert all(env_ids == [4, 7] for env_ids, _ in model.batches)


def test_a_prior_leads_until_values_tell_otherwise() -> None:
    first, _ = run(Corridor(), simulations=4, priors=[[0.05, 0.95], [0.5, 0.5]])
    assert first.visits[1] >= 3


def test_noise_comes_from_the_given_generator_alone() -> None:
    np.random.seed(0)
    once = run(Corridor(), noise_share=0.5, simulations=10)
    np.random.seed(1)
    again = run(Corridor(), noise_share=0.5, simulations=10)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.visits, b.visits)


def test_values_are_discounted_on_the_way_up() -> None:
    tree = Tree(np.zeros(1, dtype=np.float32), [1.0], discount=0.5)
    tree.back_up([tree.root], 0.0)
    first = tree.descend()
    first[-1].expand(np.ones(1, dtype=np.float32), 2.0, [1.0])
    tree.back_up(first, 8.0)
    assert tree.root.value_sum / tree.root.visits == pytest.approx((0.0 + 2.0 + 0.5 * 8.0) / 2)

    second = tree.descend()
    assert len(second) == 3
    second[-1].expand(np.ones(1, dtype=np.float32), 4.0, [1.0])
    tree.back_up(second, 16.0)
    assert first[-1].value_sum / first[-1].visits == pytest.approx((8.0 + 4.0 + 0.5 * 16.0) / 2)


def test_broken_values_do_not_stop_a_search() -> None:
    """A cache under test can hand out NaN; the run has to go on, so that it gets reported."""

    class Broken(Corridor):
        def recurrent_inference(self, env_ids: Sequence[int], latents: Latents, actions: Sequence[int]) -> Inferred:
            step = super().recurrent_inference(env_ids, latents, actions)
            nan = float("nan")
            return Inferred(step.latents, [nan] * 2, [[nan, nan]] * 2, [nan] * 2)

    for searched in run(Broken(), simulations=8):
        assert searched.visits.sum() == 8

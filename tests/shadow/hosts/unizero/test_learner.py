"""What the networks are trained towards: replayed sequences, value targets, and a step that reduces the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shadow.hosts.unizero.config import TrainConfig, WorldModelConfig
from shadow.hosts.unizero.learner import Learner
from shadow.hosts.unizero.network import build_network
from shadow.hosts.unizero.replay import Batch, Replay, Segment
from shadow.hosts.unizero.scaling import expected, scale, two_hot, unscale

CONFIG = TrainConfig(
    unroll=4, batch_size=16, discount=0.9, trace_decay=1.0,
    world_model_cfg=WorldModelConfig(embed_dim=16, num_heads=2, num_layers=1, hidden_dim=16, num_simulations=2),
)  # fmt: skip


def segment(length: int, terminated: bool, first: int = 0) -> Segment:
    """Make a segment whose observation ``t`` is filled with ``first + t`` and whose action ``t`` is ``t % 2``."""
    steps = np.arange(first, first + length + 1, dtype=np.float32)
    return Segment(
        np.repeat(steps[:, None], 4, axis=1),
        np.arange(length, dtype=np.int64) % 2,
        np.ones(length, dtype=np.float32),
        np.tile(np.array([[0.25, 0.75]], dtype=np.float32), (length, 1)),
        terminated,
    )


def sample(*segments: Segment, batch_size: int = 64, unroll: int = 4) -> Batch:
    replay = Replay(1000, np.random.default_rng(0))
    for one in segments:
        replay.add(one)
    return replay.sample(batch_size, unroll)


def test_sequences_go_on_as_they_were_played() -> None:
    batch = sample(segment(10, terminated=False))
    for row in range(len(batch.actions)):
        start = int(batch.observations[row, 0, 0])
        n = min(4, 10 - start)
        assert batch.observations[row, :, 0].tolist() == [min(start + step, 10) for step in range(5)]
        assert batch.actions[row, :n].tolist() == [(start + step) % 2 for step in range(n)]
        assert batch.played[row].tolist() == [step < n for step in range(4)]


def test_beyond_the_end_of_an_episode_nothing_is_earned() -> None:
    batch = sample(segment(3, terminated=True))
    starts = batch.observations[:, 0, 0].long().tolist()
    assert set(starts) == {0, 1, 2}
    for row, start in enumerate(starts):
        assert batch.rewards[row].tolist() == [float(start + step < 3) for step in range(4)]
        assert batch.over[row].tolist() == [start + step >= 3 for step in range(5)]
        assert batch.known[row].all()


def test_beyond_a_cut_nothing_is_known() -> None:
    batch = sample(segment(3, terminated=False))
    assert torch.equal(batch.known, batch.played)
    assert not batch.over.any()


def test_every_step_is_as_likely_a_start() -> None:
    batch = sample(segment(1, True, first=0), segment(9, True, first=100), batch_size=4000)
    share = (batch.observations[:, 0, 0] == 0).float().mean()
    assert share == pytest.approx(0.1, abs=0.02)


def test_the_oldest_segments_give_way() -> None:
    replay = Replay(10, np.random.default_rng(0))
    for first in (0, 100, 200):
        replay.add(segment(4, False, first=first))
    assert replay.steps == 8
    assert replay.sample(100, 2).observations.min() >= 100


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(ValueError, match="the replay buffer is empty; collect before training"):
        Replay(10, np.random.default_rng(0)).sample(1, 1)


def returns(learner: Learner, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return learner._returns(learner.target.encode(batch.observations), batch)


def test_returns_count_down_to_the_end_of_an_episode() -> None:
    batch = sample(segment(3, terminated=True))
    found = returns(Learner(build_network(CONFIG.world_model_cfg, 4, 2, 0), CONFIG), batch)
    for row, start in enumerate(batch.observations[:, 0, 0].long().tolist()):
        left = [max(0, 3 - start - step) for step in range(4)]
        wanted = [sum(0.9**i for i in range(n)) for n in left]
        torch.testing.assert_close(found[row], torch.tensor(wanted))


def test_returns_lean_on_the_target_where_the_sequence_stops() -> None:
    batch = sample(segment(20, terminated=False, first=1))
    network = build_network(CONFIG.world_model_cfg, 4, 2, 0)
    with torch.no_grad():
        network.value_head[-1].bias[20 + 3] = 50.0  # all values are unscale(3), whatever is seen
    learner = Learner(network, CONFIG)
    value = float(unscale(torch.tensor(3.0)))
    row = next(row for row, start in enumerate(batch.observations[:, 0, 0].tolist()) if start == 1)
    wanted = [sum(0.9**i for i in range(n)) + 0.9**n * value for n in (4, 3, 2, 1)]
    torch.testing.assert_close(returns(learner, batch)[row], torch.tensor(wanted), rtol=1e-3, atol=1e-2)


def test_updates_reduce_the_losses_and_move_the_target_slowly() -> None:
    network = build_network(CONFIG.world_model_cfg, 4, 2, 0)
    learner = Learner(network, CONFIG)
    before = learner.target.policy_head[0].weight.clone()
    batch = sample(segment(8, terminated=True))
    first = learner.update(batch)
    for _ in range(60):
        last = learner.update(batch)
    assert last.reward < 0.5 * first.reward
    assert last.policy < first.policy
    assert last.value < first.value
    assert learner.train_iter == 61
    moved = (learner.target.policy_head[0].weight - before).norm()
    wanted = (network.policy_head[0].weight - before).norm()
    assert 0 < moved < wanted
    assert all(parameter.grad is None for parameter in learner.target.parameters())


def test_values_survive_scaling_and_atoms() -> None:
    values = torch.tensor([-30.0, -1.0, 0.0, 0.3, 7.0, 120.0])
    torch.testing.assert_close(unscale(scale(values)), values, rtol=1e-3, atol=1e-3)
    atoms = two_hot(values, bound=20)
    assert ((atoms > 0).sum(-1) <= 2).all()
    torch.testing.assert_close(atoms.sum(-1), torch.ones(6))
    torch.testing.assert_close(expected(atoms.clamp(min=1e-9).log(), 20), values, rtol=1e-2, atol=1e-2)


def test_values_out_of_bounds_go_to_the_outermost_atom() -> None:
    assert two_hot(torch.tensor([1e6, -1e6]), bound=3)[:, [0, -1]].tolist() == [[0.0, 1.0], [1.0, 0.0]]

"""What was played, and how sequences to train on are drawn from it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive steps of one episode.

    Attributes:
        observations: ``(n + 1, observation_dim)``; the last one is what the last action led to.
        actions: ``(n,)``.
        rewards: ``(n,)``.
        policies: Visit shares of the searches ``(n, num_actions)``.
        terminated: The last action ended the episode, and not by a time limit.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    policies: NDArray[np.float32]
    terminated: bool

    def __len__(self) -> int:
        return len(self.actions)


class Batch(NamedTuple):
    """Sequences of H steps; beyond the end of an episode the last observation repeats, at no reward.

    Attributes:
        observations: ``(B, H + 1, observation_dim)``.
        actions: ``(B, H)``.
        rewards: ``(B, H)``.
        policies: ``(B, H, num_actions)``.
        played: ``(B, H)`` booleans: the step was really played.
        known: ``(B, H)`` booleans: it was, or lies beyond the end of an episode. False beyond a cut-off segment.
        over: ``(B, H + 1)`` booleans: the observation is the last of its episode.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    policies: Tensor
    played: Tensor
    known: Tensor
    over: Tensor


class Replay:
    """The latest segments, as many as hold a given number of steps.

    Args:
        size: Steps to keep.
        rng: Where samples are drawn from.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.steps = 0
        self._rng = rng
        self._segments: deque[Segment] = deque()

    def add(self, segment: Segment) -> None:
        """Add a segment and forget the oldest ones that no longer fit."""
        self._segments.append(segment)
        self.steps += len(segment)
        while self.steps > self.size and len(self._segments) > 1:
            self.steps -= len(self._segments.popleft())

    def sample(self, batch_size: int, unroll: int, device: torch.device | str = "cpu") -> Batch:
        """Draw sequences, each step as likely a start as any other.

        Args:
            batch_size: Sequences B.
            unroll: Steps per sequence H.
            device: Where to put the batch.

        Returns:
            The batch.

        Raises:
            ValueError: If there is nothing to draw from.
        """
        if not self.steps:
            raise ValueError("the replay buffer is empty; collect before training")
        ends = np.cumsum([len(segment) for segment in self._segments])
        draws = self._rng.integers(0, ends[-1], size=batch_size)
        chosen = np.searchsorted(ends, draws, side="right")
        first = self._segments[0]
        num_actions = first.policies.shape[1]
        observations = np.empty((batch_size, unroll + 1, first.observations.shape[1]), dtype=np.float32)
        actions = self._rng.integers(0, num_actions, size=(batch_size, unroll))
        rewards = np.zeros((batch_size, unroll), dtype=np.float32)
        policies = np.full((batch_size, unroll, num_actions), 1 / num_actions, dtype=np.float32)
        played = np.zeros((batch_size, unroll), dtype=bool)
        known = np.zeros((batch_size, unroll), dtype=bool)
        over = np.zeros((batch_size, unroll + 1), dtype=bool)
        for row, (draw, index) in enumerate(zip(draws, chosen, strict=True)):
            segment = self._segments[index]
            start = int(draw - ends[index] + len(segment))
            n = min(unroll, len(segment) - start)
            observations[row, : n + 1] = segment.observations[start : start + n + 1]
            observations[row, n + 1 :] = segment.observations[-1]
            actions[row, :n] = segment.actions[start : start + n]
            rewards[row, :n] = segment.rewards[start : start + n]
            policies[row, :n] = segment.policies[start : start + n]
            played[row, :n] = True
            known[row] = segment.terminated
            known[row, :n] = True
            if segment.terminated:
                over[row, len(segment) - start :] = True
        arrays = (observations, actions, rewards, policies, played, known, over)
        return Batch(*(torch.as_tensor(array, device=device) for array in arrays))

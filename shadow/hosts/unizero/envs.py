"""Gymnasium environments side by side, seeded from one generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Stepped(NamedTuple):
    """What one env answered to an action.

    Attributes:
        observation: ``(observation_dim,)``.
        reward: Reward.
        terminated: The episode is over, nothing follows.
        truncated: The episode was cut off by a time limit.
    """

    observation: NDArray[np.float32]
    reward: float
    terminated: bool
    truncated: bool


class Envs:
    """A few environments of one kind.

    Args:
        env_id: Gymnasium's name of the environment.
        env_num: How many.
        rng: Where their seeds are drawn from.

    Raises:
        ImportError: If gymnasium is not installed.
        ValueError: If observations are not flat or actions not discrete.
    """

    def __init__(self, env_id: str, env_num: int, rng: np.random.Generator) -> None:
        try:
            import gymnasium
        except ImportError:
            raise ImportError(
                "training the embedded host needs gymnasium; run: pip install 'kv-lockstep[train]'"
            ) from None
        self._envs = [gymnasium.make(env_id) for _ in range(env_num)]
        self._seeds: list[int | None] = [int(seed) for seed in rng.integers(0, 2**31, size=env_num)]
        observations, actions = self._envs[0].observation_space, self._envs[0].action_space
        if not isinstance(observations, gymnasium.spaces.Box) or len(observations.shape) != 1:
            raise ValueError(f"{env_id}: expected flat observations (a Box of one axis), got {observations}")
        if not isinstance(actions, gymnasium.spaces.Discrete):
            raise ValueError(f"{env_id}: expected discrete actions, got {actions}")
        self.observation_dim = int(observations.shape[0])
        self.num_actions = int(actions.n)

    def reset(self, env_id: int) -> NDArray[np.float32]:
        """Start a new episode; the first one of an env is seeded, later ones go on with its own generator."""
        observation, _ = self._envs[env_id].reset(seed=self._seeds[env_id])
        self._seeds[env_id] = None
        return np.asarray(observation, dtype=np.float32)

    def step(self, actions: Mapping[int, int]) -> dict[int, Stepped]:
        """Take one action in each env that has one."""
        answers = {}
        for env_id, action in actions.items():
            observation, reward, terminated, truncated, _ = self._envs[env_id].step(action)
            answers[env_id] = Stepped(np.asarray(observation, dtype=np.float32), float(reward), terminated, truncated)
        return answers

    def close(self) -> None:
        """Close them all."""
        for env in self._envs:
            env.close()

"""How the agent plays: one vector step of all ready envs at a time, each guided by a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.envs import Envs, Stepped
from shadow.hosts.unizero.replay import Replay, Segment
from shadow.hosts.unizero.search import Searched, search
from shadow.hosts.unizero.world_model import WorldModel


@dataclass(frozen=True, slots=True)
class EpisodeReturn:
    """One finished episode.

    Attributes:
        env_step: Env steps of the whole run when it finished.
        env_id: Where it was played.
        value: Sum of its rewards, undiscounted.
    """

    env_step: int
    env_id: int
    value: float


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One step of all ready envs.

    Attributes:
        env_steps: Env steps of the whole run before it.
        searched: What the search came to, by env.
        actions: Action taken, by env.
        answers: What each env answered.
    """

    env_steps: int
    searched: dict[int, Searched]
    actions: dict[int, int]
    answers: dict[int, Stepped]


@dataclass(slots=True)
class _Playing:
    """The running episode of one env, and what of it is not in the replay yet."""

    observation: NDArray[np.float32]
    last_action: int | None = None
    score: float = 0.0
    steps: list[tuple[NDArray[np.float32], int, float, NDArray[np.float32]]] = field(default_factory=list)

    def segment(self, terminated: bool) -> Segment:
        """Take what was recorded as a segment and start the next one."""
        observations, actions, rewards, policies = zip(*self.steps, strict=True)
        self.steps = []
        return Segment(
            np.stack([*observations, self.observation]),
            np.array(actions, dtype=np.int64),
            np.array(rewards, dtype=np.float32),
            np.stack(policies),
            terminated,
        )


class Collector:
    """Plays and fills the replay buffer.

    An env whose episode ended is reset while the others take their next step, and joins them a step later. So the
    row of an env in a batch is in general not its id.

    Args:
        config: Search and exploration settings.
        world_model: World model.
        envs: Environments.
        replay: Where segments go.
        rng: Where noise and actions are drawn from.
        on_step: Called after each vector step, once it is recorded.
    """

    def __init__(
        self,
        config: TrainConfig,
        world_model: WorldModel,
        envs: Envs,
        replay: Replay,
        rng: np.random.Generator,
        on_step: Callable[[VectorStep], None] | None = None,
    ) -> None:
        self.config = config
        self.world_model = world_model
        self.envs = envs
        self.replay = replay
        self.env_steps = 0
        self.finished: list[EpisodeReturn] = []
        self.actions_digest = xxhash.xxh64()
        self._rng = rng
        self._on_step = on_step
        self._playing: dict[int, _Playing] = {}
        for env_id in range(config.env_num):
            self._reset(env_id)

    def vector_step(self) -> None:
        """Search and act once in every ready env."""
        resetting = [env_id for env_id in range(self.config.env_num) if env_id not in self._playing]
        if self._playing:
            self._act(sorted(self._playing))
        for env_id in resetting:
            self._reset(env_id)

    def _act(self, ready: list[int]) -> None:
        world_model = self.world_model
        playing = [self._playing[env_id] for env_id in ready]
        roots = world_model.initial_inference(
            ready, np.stack([state.observation for state in playing]), [state.last_action for state in playing]
        )
        world_model.prepare_roots(ready)
        world_model.start_search()
        found = search(world_model, ready, roots, self.config, self._rng)
        actions = {env_id: self._choose(searched) for env_id, searched in zip(ready, found, strict=True)}
        self.actions_digest.update(bytes(f"{actions};", "ascii"))
        answers = self.envs.step(actions)
        began = self.env_steps
        for env_id, searched in zip(ready, found, strict=True):
            self.env_steps += 1
            self._record(env_id, actions[env_id], searched, answers[env_id])
        if self._on_step is not None:
            self._on_step(VectorStep(began, dict(zip(ready, found, strict=True)), actions, answers))

    def _choose(self, searched: Searched) -> int:
        """Draw an action in proportion to its visits, sharpened as the run goes on."""
        config = self.config
        progress = min(1.0, 2 * self.env_steps / config.total_env_steps)
        temperature = config.temperature_start + progress * (config.temperature_end - config.temperature_start)
        weights = (searched.visits / searched.visits.max()) ** (1 / temperature)
        shares = np.cumsum(weights / weights.sum())
        return min(int(np.searchsorted(shares, self._rng.random(), side="right")), len(weights) - 1)

    def _record(self, env_id: int, action: int, searched: Searched, answer: Stepped) -> None:
        state = self._playing[env_id]
        state.steps.append((state.observation, action, answer.reward, searched.visits / searched.visits.sum()))
        state.score += answer.reward
        state.observation, state.last_action = answer.observation, action
        over = answer.terminated or answer.truncated
        if over or len(state.steps) == self.config.world_model_cfg.game_segment_length:
            self.replay.add(state.segment(answer.terminated))
        if over:
            self.finished.append(EpisodeReturn(self.env_steps, env_id, state.score))
            del self._playing[env_id]
            self.world_model.episode_ended(env_id)

    def _reset(self, env_id: int) -> None:
        self._playing[env_id] = _Playing(self.envs.reset(env_id))

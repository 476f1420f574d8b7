"""The training run: collect in bursts, train in bursts, and drop every cached entry in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash

from shadow.hosts.unizero.collector import Collector, EpisodeReturn, VectorStep
from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.envs import Envs
from shadow.hosts.unizero.learner import Learner, Losses
from shadow.hosts.unizero.network import Network, build_network
from shadow.hosts.unizero.oracle import UnizeroRecomputer
from shadow.hosts.unizero.replay import Replay
from shadow.hosts.unizero.world_model import WorldModel
from shadow.interface import CacheStore
from shadow.switch import Validation, build_cache

RECENT = 20  # episodes in a "recent" mean


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, after each burst.

    Attributes:
        env_steps: Env steps so far.
        total_env_steps: Env steps the run is to take.
        train_iter: Updates so far.
        episodes: Episodes finished so far.
        recent_return: Mean return of the last 20 of them; None before the first.
        losses: Mean losses of the last burst of updates; None before the first.
        wall_s: Seconds since the start.
    """

    env_steps: int
    total_env_steps: int
    train_iter: int
    episodes: int
    recent_return: float | None
    losses: Losses | None
    wall_s: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came out of a run.

    Attributes:
        episode_returns: Finished episodes, in order of completion.
        actions_digest: Hash of every action taken, 16 hex digits.
        weights_digest: Hash of the final weights, 16 hex digits.
        losses: Mean losses of every burst of updates.
        env_steps: Env steps taken.
        train_iters: Updates taken.
        wall_s: Seconds it took.
        cache_stats: The cache's own final counts.
        system: One line that names the cache system in use.
        network: The trained network.
    """

    episode_returns: list[EpisodeReturn]
    actions_digest: str
    weights_digest: str
    losses: list[Losses]
    env_steps: int
    train_iters: int
    wall_s: float
    cache_stats: dict[str, Any]
    system: str
    network: Network

    def mean_return(self, episodes: slice) -> float:
        """Average the returns of a slice of the finished episodes; NaN if there are none."""
        chosen = [episode.value for episode in self.episode_returns[episodes]]
        return float(np.mean(chosen)) if chosen else float("nan")


def train(
    config: TrainConfig,
    *,
    validation: Validation | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[VectorStep], None] | None = None,
    on_cache: Callable[[CacheStore], CacheStore] | None = None,
) -> TrainResult:
    """Train the embedded agent.

    The same config gives the same actions and weights, bit for bit, whatever cache is in use and whether or not it is
    validated, as long as the pools hold what a search needs.

    Args:
        config: The run.
        validation: Session that validates the caches, if the config asks for validation. Without one the installed
            one is opened, and closed at the end.
        on_progress: Called after each burst.
        on_step: Called after each vector step.
        on_cache: Called with the cache before it is used; what it returns is used instead.

    Returns:
        Returns, digests and counts.

    Raises:
        ImportError: If gymnasium is not installed.
        ValueError: If the config is impossible.
    """
    started = time.perf_counter()
    streams = np.random.SeedSequence(config.seed).spawn(4)
    env_rng, play_rng, replay_rng, weight_rng = (np.random.default_rng(stream) for stream in streams)
    with _threads(config.torch_threads), ExitStack() as ended:
        envs = Envs(config.env_id, config.env_num, env_rng)
        try:
            seed = int(weight_rng.integers(2**31))
            network = build_network(config.world_model_cfg, envs.observation_dim, envs.num_actions, seed, config.device)
            built = build_cache(config.world_model_cfg, config.env_num, validation, name="collect")
            if validation is None and built.validation is not None:
                # build_cache opened this session for us, so nobody else knows that the run is over.
                ended.callback(getattr(built.validation, "close", lambda: None))
            shadowed = built.cache
            if on_cache is not None:
                built = built._replace(cache=on_cache(shadowed))
            world_model = WorldModel(network, config.world_model_cfg, built)
            if built.validation is not None:
                built.validation.recompute(shadowed, UnizeroRecomputer(world_model, config.env_num))
            replay = Replay(config.replay_size, replay_rng)
            collector = Collector(config, world_model, envs, replay, play_rng, on_step)
            learner = Learner(network, config)
            losses = []
            while collector.env_steps < config.total_env_steps:
                if config.max_seconds and time.perf_counter() - started > config.max_seconds:
                    break
                for _ in range(config.collect_steps):
                    if built.validation is not None:
                        built.validation.progress(train_iter=learner.train_iter, env_step=collector.env_steps)
                    collector.vector_step()
                if config.updates_per_collect and replay.steps >= config.learning_starts:
                    losses.append(_learn(config, learner, replay))
                    world_model.weights_moved()
                if on_progress is not None:
                    on_progress(_progress(config, collector, learner, losses, started))
        finally:
            envs.close()
    return TrainResult(
        episode_returns=collector.finished,
        actions_digest=collector.actions_digest.hexdigest(),
        weights_digest=weights_digest(network),
        losses=losses,
        env_steps=collector.env_steps,
        train_iters=learner.train_iter,
        wall_s=time.perf_counter() - started,
        cache_stats=built.cache.get_stats_summary(),
        system=built.system,
        network=network,
    )


def weights_digest(network: Network) -> str:
    """Hash names and bytes of all weights to 16 hex digits."""
    digest = xxhash.xxh64()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _learn(config: TrainConfig, learner: Learner, replay: Replay) -> Losses:
    """Make one burst of updates; return their mean losses."""
    burst = [
        learner.update(replay.sample(config.batch_size, config.unroll, config.device))
        for _ in range(config.updates_per_collect)
    ]
    return Losses(*(float(mean) for mean in np.mean(burst, axis=0)))


def _progress(
    config: TrainConfig, collector: Collector, learner: Learner, losses: list[Losses], started: float
) -> Progress:
    recent = [episode.value for episode in collector.finished[-RECENT:]]
    return Progress(
        env_steps=collector.env_steps,
        total_env_steps=config.total_env_steps,
        train_iter=learner.train_iter,
        episodes=len(collector.finished),
        recent_return=float(np.mean(recent)) if recent else None,
        losses=losses[-1] if losses else None,
        wall_s=time.perf_counter() - started,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many torch threads, and with as many as before afterwards."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

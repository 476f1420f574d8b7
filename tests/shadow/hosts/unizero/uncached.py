"""The reference of the host's tests: the same network without any cache, recomputing whole histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.history import History
from shadow.hosts.unizero.world_model import Inferred, WorldModel
from shadow.switch import BuiltCache, build_cache
from validator.proof.hosts.unizero import OBSERVATION_DIM, lively_network

SMALL: dict[str, Any] = {
    "embed_dim": 32,
    "num_heads": 2,
    "num_layers": 3,
    "hidden_dim": 32,
    "value_bound": 10,
    "max_tokens": 64,
    "context_length": 16,
    "num_simulations": 8,
}
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}


def make_model(
    new_cache: bool = False, env_num: int = 3, seed: int = 0, cache: Any = None, validation: Any = None, **sizes: Any
) -> WorldModel:
    """Build a small world model; the cache is one of the two built-in ones unless another one is given."""
    config = WorldModelConfig(**{**SMALL, **sizes}, use_new_cache_manager=new_cache)
    built = build_cache(config, env_num)
    built = BuiltCache(built.cache if cache is None else cache, validation, built.system)
    return WorldModel(lively_network(config, seed), config, built)


def observations(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw observations ``(count, OBSERVATION_DIM)``."""
    return np.random.default_rng(seed).normal(size=(count, OBSERVATION_DIM)).astype(np.float32)


class UncachedModel:
    """A model for the search that recomputes every node from its whole history.

    Args:
        histories: History of each env's root.
        roots: Latent of each env's root.
    """

    def __init__(self, histories: dict[int, History], roots: dict[int, Any]) -> None:
        self.nodes = {(env_id, roots[env_id].tobytes()): history for env_id, history in histories.items()}

    @torch.no_grad()
    def recurrent_inference(self, env_ids: Sequence[int], latents: Any, actions: Sequence[int]) -> Inferred:
        answers = []
        for env_id, latent, action in zip(env_ids, latents, actions, strict=True):
            history = self.nodes[env_id, latent.tobytes()].fork()
            answers.append(history.step(action))
            self.nodes[env_id, answers[-1][0].numpy().tobytes()] = history
        found, rewards, priors, values = zip(*answers, strict=True)
        return Inferred(torch.stack(found).numpy(), list(rewards), list(priors), list(values))


def assert_step(output: Inferred, row: int, expected_step: tuple[Tensor, float, list[float], float]) -> None:
    """Assert that a row of a cached step answers what the reference does."""
    latent, reward, priors, value = expected_step
    np.testing.assert_allclose(output.latents[row], latent.numpy(), **CLOSE, err_msg="next latent")
    np.testing.assert_allclose(output.rewards[row], reward, **CLOSE, err_msg="reward")
    np.testing.assert_allclose(output.priors[row], priors, **CLOSE, err_msg="prior")
    np.testing.assert_allclose(output.values[row], value, **CLOSE, err_msg="value")


class Recorder:
    """A cache that passes everything on and notes it, and hears of the life cycle.

    Args:
        cache: The real one.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.calls: list[tuple[Any, ...]] = []
        self.found: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.cache, name)

        def call(*arguments: Any) -> Any:
            plain = [argument for argument in arguments if isinstance(argument, int)]
            self.calls.append((name, *plain))
            answer = method(*arguments)
            if "get" in name:
                self.found.append((name, answer))
            return answer

        return call

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def weights_updated(self) -> None:
        self.calls.append(("weights_updated",))

    def episode_ended(self, env_id: int) -> None:
        self.calls.append(("episode_ended", env_id))

    def search_started(self) -> None:
        self.calls.append(("search_started",))

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None:
        self.calls.append(("progress", train_iter, env_step))

"""Inference with caches: what the search asks, answered from entries instead of from whole histories.

The one place of this host that calls a cache. Under the key of a latent lies the context up to and including that
latent, so the entry of a root or node is all that a step from there needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.contexts import Contexts
from shadow.hosts.unizero.network import Network
from shadow.hosts.unizero.scaling import expected
from shadow.switch import BuiltCache

Latents = NDArray[np.float32]


class Inferred(NamedTuple):
    """What is known of B roots, or of what one action from each of B nodes leads to.

    Attributes:
        latents: ``(B, embed_dim)``.
        rewards: ``B`` rewards of the actions that led there; 0 for roots.
        priors: ``B`` lists of ``num_actions`` probabilities.
        values: ``B`` values.
    """

    latents: Latents
    rewards: list[float]
    priors: list[list[float]]
    values: list[float]


class WorldModel:
    """The world model as the collector and the search see it.

    Args:
        network: Weights; the caller may train them and then calls ``weights_moved``.
        config: Sizes.
        built: Cache and whom to tell about the life cycle.
    """

    def __init__(self, network: Network, config: WorldModelConfig, built: BuiltCache) -> None:
        self.network = network
        self.config = config
        self.cache = built.cache
        self.validation = built.validation
        self.device = network.latent_token.weight.device
        self._blank = torch.zeros(
            config.num_layers, 2, 1, config.num_heads, config.context_length, config.embed_dim // config.num_heads,
            device=self.device,
        )  # fmt: skip
        self._last_latents: dict[int, Latents] = {}
        self._root_lengths: dict[int, int] = {}
        self._tickets = 0

    @torch.no_grad()
    def initial_inference(
        self, env_ids: Sequence[int], observations: NDArray[np.float32], last_actions: Sequence[int | None]
    ) -> Inferred:
        """Encode what the envs show and store the context of each as a root.

        The context goes on from the root before, if the cache still holds it. On a miss (the weights moved, or the
        entry was evicted) it starts anew from the current latent, exactly as in the first step of an episode: training
        sequences begin anywhere in an episode, so the network knows such contexts.

        Args:
            env_ids: B envs, real ids; any subset in any order.
            observations: ``(B, observation_dim)``.
            last_actions: Action that led to each observation; None in the first step of an episode.

        Returns:
            Latent, prior and value of each root.
        """
        latents = self.network.encode(torch.as_tensor(observations, device=self.device))
        host_latents = latents.cpu().numpy()
        entries = [
            None if action is None else self._root_before(env_id)
            for env_id, action in zip(env_ids, last_actions, strict=True)
        ]
        contexts = Contexts.stack(entries, self._blank)
        contexts.make_room(2)
        known = [entry is not None for entry in entries]
        if any(known):
            self._step_actions(contexts, [action or 0 for action in last_actions], known)
        priors, values = self._step_latents(contexts, latents)
        for row, env_id in enumerate(env_ids):
            self.cache.set_init_cache(env_id, self._key(host_latents[row]), contexts.entry(row))
            self._last_latents[env_id] = host_latents[row]
            self._root_lengths[env_id] = contexts.lengths[row]
        return Inferred(host_latents, [0.0] * len(entries), priors, values)

    @torch.no_grad()
    def prepare_roots(self, env_ids: Sequence[int]) -> None:
        """Make room in full roots, so that a search need not trim at every single node.

        A root that could not take another (action, latent) pair is fetched, trimmed to half its context and set again
        under the same key.

        Args:
            env_ids: Envs about to be searched.
        """
        capacity = self.config.context_length
        kept = (capacity // 2 - 1) | 1  # odd, as every entry: it ends with a latent
        for env_id in env_ids:
            if self._root_lengths[env_id] + 2 <= capacity:
                continue
            key = self._key(self._last_latents[env_id])
            entry = self.cache.get_init_cache(env_id, key)
            if entry is not None:
                contexts = Contexts.stack([entry], self._blank)
                contexts.trim(0, kept)
                self.cache.set_init_cache(env_id, key, contexts.entry(0))

    def start_search(self) -> None:
        """Drop the nodes of the search before, and say that a new one begins."""
        self.cache.clear_recur_cache()
        if self.validation is not None:
            self.validation.search_started()

    @torch.no_grad()
    def recurrent_inference(self, env_ids: Sequence[int], latents: Latents, actions: Sequence[int]) -> Inferred:
        """Take one action from one node of each env's tree, and store the context of where it leads.

        A node whose entry is gone (the pools are smaller than the search) is stepped from its latent alone.

        Args:
            env_ids: B envs, real ids.
            latents: Latents of the nodes ``(B, embed_dim)``.
            actions: Action per node.

        Returns:
            Latent, reward, prior and value after each action.
        """
        entries = [
            self._batch_copy(self.cache.hierarchical_get(env_id, self._key(latent)))
            for env_id, latent in zip(env_ids, latents, strict=True)
        ]
        contexts = Contexts.stack(entries, self._blank)
        contexts.make_room(2)
        missing = [entry is None for entry in entries]
        if any(missing):
            tokens = self.network.latent_token(torch.as_tensor(latents, device=self.device))
            self.network.transformer.step(tokens, contexts, missing)
        hidden = self._step_actions(contexts, actions)
        next_latents = self.network.normalise(self.network.next_latent_head(hidden))
        rewards = self.network.reward_head(hidden)[:, 0].tolist()
        priors, values = self._step_latents(contexts, next_latents)
        host_latents = next_latents.cpu().numpy()
        for row in range(len(entries)):
            self.cache.set_recur_cache(self._key(host_latents[row]), contexts.entry(row))
        return Inferred(host_latents, rewards, priors, values)

    def episode_ended(self, env_id: int) -> None:
        """Forget the roots of an env whose episode is over."""
        self.cache.clear_init_cache(env_id)
        self._last_latents.pop(env_id, None)
        if self.validation is not None:
            self.validation.episode_ended(env_id)

    def weights_moved(self) -> None:
        """Forget every entry, because all were computed with weights that are no more, and say so."""
        self.cache.clear_all()
        if self.validation is not None:
            self.validation.weights_updated()

    def _key(self, latent: Latents) -> int:
        return latent_key(latent, self.config.key_buckets)

    def _root_before(self, env_id: int) -> Any | None:
        return self._batch_copy(self.cache.get_init_cache(env_id, self._key(self._last_latents[env_id])))

    def _batch_copy(self, entry: Any | None) -> Any | None:
        """Pass an entry through the ring of batch copies, where the batch is put together from."""
        if entry is None:
            return None
        ticket = self._tickets
        self._tickets += 1
        self.cache.set_wm_cache(ticket, entry)
        return self.cache.get_wm_cache(ticket)

    def _step_actions(
        self, contexts: Contexts, actions: Sequence[int], advance: Sequence[bool] | None = None
    ) -> Tensor:
        tokens = self.network.action_token(torch.tensor(actions, device=self.device))
        return self.network.transformer.step(tokens, contexts, advance)

    def _step_latents(self, contexts: Contexts, latents: Tensor) -> tuple[list[list[float]], list[float]]:
        hidden = self.network.transformer.step(self.network.latent_token(latents), contexts)
        priors = self.network.policy_head(hidden).softmax(-1).tolist()
        values = expected(self.network.value_head(hidden), self.config.value_bound).tolist()
        return priors, values


def latent_key(latent: NDArray[np.float32], buckets: int = 0) -> int:
    """Hash a latent to a cache key.

    Args:
        latent: Latent ``(embed_dim,)``, components in [0, 1].
        buckets: 0 hashes the exact bytes; n > 0 rounds each component to n levels first, so that near latents share
            a key.

    Returns:
        A whole number of 64 bits, unsigned.
    """
    if buckets:
        # NaN has no level; nan_to_num keeps the cast defined should a broken cache ever produce one.
        levels = np.minimum(np.nan_to_num(latent) * buckets, buckets - 1)
        return xxhash.xxh64_intdigest(levels.astype(np.uint8).tobytes())
    return xxhash.xxh64_intdigest(latent.tobytes())

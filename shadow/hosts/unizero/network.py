"""The networks of the agent: encoder, transformer and heads. They know nothing of caches."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.transformer import Transformer


class SequenceOutput(NamedTuple):
    """What the world model predicts along sequences of H steps.

    Attributes:
        next_latent_logits: ``(B, H, embed_dim)``, the logits of the latent after each action.
        reward: ``(B, H)``.
        policy_logits: ``(B, H, num_actions)``, at each latent.
        value_logits: ``(B, H, 2 * value_bound + 1)``, at each latent.
    """

    next_latent_logits: Tensor
    reward: Tensor
    policy_logits: Tensor
    value_logits: Tensor


class Network(nn.Module):
    """All weights of the agent.

    Args:
        config: Sizes.
        observation_dim: Components of an observation.
        num_actions: Discrete actions.
    """

    def __init__(self, config: WorldModelConfig, observation_dim: int, num_actions: int) -> None:
        super().__init__()
        width, hidden = config.embed_dim, config.hidden_dim
        self.group_size = config.group_size
        self.encoder = nn.Sequential(
            nn.Linear(observation_dim, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )
        self.latent_token = nn.Linear(width, width)
        self.action_token = nn.Embedding(num_actions, width)
        self.transformer = Transformer(width, config.num_heads, config.num_layers, config.max_tokens)
        self.next_latent_head = _head(width, hidden, width)
        self.reward_head = _head(width, hidden, 1)
        self.policy_head = _head(width, hidden, num_actions)
        self.value_head = _head(width, hidden, 2 * config.value_bound + 1)

    def encode(self, observations: Tensor) -> Tensor:
        """Encode observations ``(..., observation_dim)`` to latents ``(..., embed_dim)``."""
        return self.normalise(self.encoder(observations))

    def normalise(self, logits: Tensor) -> Tensor:
        """Turn logits ``(..., embed_dim)`` into a latent: softmax within each group, so components are in [0, 1]."""
        return self.groups(logits).softmax(-1).reshape(logits.shape)

    def groups(self, logits: Tensor) -> Tensor:
        """View logits or latents ``(..., embed_dim)`` as ``(..., embed_dim / group_size, group_size)``."""
        return logits.reshape(*logits.shape[:-1], -1, self.group_size)

    def forward(self, latents: Tensor, actions: Tensor) -> SequenceOutput:
        """Predict along whole sequences, each step seeing what lies before it.

        Args:
            latents: ``(B, H, embed_dim)``.
            actions: ``(B, H)``.

        Returns:
            The predictions.
        """
        hidden = self.transformer(self.tokens(latents, actions))
        at_latent, at_action = hidden[:, 0::2], hidden[:, 1::2]
        return SequenceOutput(
            self.next_latent_head(at_action),
            self.reward_head(at_action).squeeze(-1),
            self.policy_head(at_latent),
            self.value_head(at_latent),
        )

    def tokens(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Interleave latents ``(B, H, embed_dim)`` and actions ``(B, H)`` to tokens ``(B, 2 * H, embed_dim)``."""
        pairs = torch.stack((self.latent_token(latents), self.action_token(actions)), dim=2)
        return pairs.flatten(1, 2)


def build_network(
    config: WorldModelConfig, observation_dim: int, num_actions: int, seed: int, device: str = "cpu"
) -> Network:
    """Build a network whose weights follow from the seed alone; no global generator is drawn from.

    Args:
        config: Sizes.
        observation_dim: Components of an observation.
        num_actions: Discrete actions.
        seed: Seed of the weights.
        device: Where the weights live.

    Returns:
        The network.
    """
    # Modules draw their first weights from the global generator, except on the meta device, which holds none.
    with torch.device("meta"):
        network = Network(config, observation_dim, num_actions)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, 1 / math.sqrt(module.in_features), generator=generator)
                module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, 1.0, generator=generator)
            elif isinstance(module, Transformer):
                module.distance_bias.zero_()
        # Start from even policies and zero values, so that the first searches aren't led by noise.
        for head in (network.policy_head, network.value_head, network.reward_head):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
    return network.to(device)


def _head(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, out))

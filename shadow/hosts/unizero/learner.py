"""How the networks are trained: one update from one batch of sequences. No cache is involved."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.network import Network
from shadow.hosts.unizero.replay import Batch
from shadow.hosts.unizero.scaling import expected, two_hot


class Losses(NamedTuple):
    """Losses of one update, unweighted but for the total.

    Attributes:
        total: Weighted sum.
        latent: Cross entropy of the next latent, mean over steps and groups.
        reward: Squared error.
        policy: Cross entropy to the visit shares.
        value: Cross entropy to the lambda returns.
    """

    total: float
    latent: float
    reward: float
    policy: float
    value: float


class Learner:
    """Trains a network against a slowly following copy of itself.

    Args:
        network: Weights to train.
        config: Loss weights, optimizer, discounting.
    """

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self.network = network
        self.config = config
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.train_iter = 0
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.lr, weight_decay=config.weight_decay, foreach=True
        )

    def update(self, batch: Batch) -> Losses:
        """Take one optimizer step and let the target follow.

        Args:
            batch: Sequences.

        Returns:
            The losses before the step.
        """
        total, parts = self._losses(batch)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip, foreach=True)
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.network.parameters()), self.config.target_rate
            )
        self.train_iter += 1
        return Losses(*torch.stack((total, *parts)).tolist())

    def _losses(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        config = self.config
        with torch.no_grad():
            latent_targets = self.target.encode(batch.observations)
            returns = self._returns(latent_targets, batch)
        out = self.network(self.network.encode(batch.observations[:, :-1]), batch.actions)
        predicted = self.network.groups(out.next_latent_logits).log_softmax(-1)
        wanted = self.network.groups(latent_targets[:, 1:])
        latent = _mean(-(wanted * predicted).sum(-1).mean(-1), batch.known)
        reward = _mean((out.reward - batch.rewards) ** 2, batch.known)
        policy = _mean(-(batch.policies * out.policy_logits.log_softmax(-1)).sum(-1), batch.played)
        bound = (out.value_logits.shape[-1] - 1) // 2
        value = _mean(-(two_hot(returns, bound) * out.value_logits.log_softmax(-1)).sum(-1), batch.known)
        total = config.latent_weight * latent + reward + policy + config.value_weight * value
        return total, (latent.detach(), reward.detach(), policy.detach(), value.detach())

    def _returns(self, latents: Tensor, batch: Batch) -> Tensor:
        """Compute lambda returns ``(B, H)`` from the target's values (Sutton and Barto 2018, section 12.1).

        Args:
            latents: The target's latents ``(B, H + 1, embed_dim)``.
            batch: Rewards and ends of episodes.
        """
        # One action more, so that the last latent is a token too; its own action comes after it and is not seen.
        actions = F.pad(batch.actions, (0, 1))
        values = self._values(latents, actions) * ~batch.over
        discount, trace = self.config.discount, self.config.trace_decay
        following = values[:, -1]
        returns = []
        for step in range(batch.actions.shape[1] - 1, -1, -1):
            ahead = (1 - trace) * values[:, step + 1] + trace * following
            following = torch.where(
                batch.known[:, step] & ~batch.over[:, step],
                batch.rewards[:, step] + discount * ahead,
                values[:, step],
            )
            returns.append(following)
        return torch.stack(returns[::-1], dim=1)

    def _values(self, latents: Tensor, actions: Tensor) -> Tensor:
        hidden = self.target.transformer(self.target.tokens(latents, actions)[:, :-1])[:, 0::2]
        logits = self.target.value_head(hidden)
        return expected(logits, (logits.shape[-1] - 1) // 2)


def _mean(per_step: Tensor, mask: Tensor) -> Tensor:
    """Average over the steps where the mask holds."""
    return (per_step * mask).sum() / mask.sum().clamp(min=1)

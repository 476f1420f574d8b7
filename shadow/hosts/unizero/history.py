"""The same network without any cache: the history of one env, recomputed as a whole.

A history is all tokens an env saw, and for each of them how far back it could see when it was computed. Trimming a
context is nothing but newer tokens seeing less far back, so one full forward with the right mask says what a cached
step must have answered and stored. Whoever computes does so without gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shadow.hosts.unizero.network import Network
from shadow.hosts.unizero.scaling import expected
from shadow.hosts.unizero.transformer import Block


class Token:
    """A token that is computed when it is asked for, once."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make = make
        self._made: Tensor | None = None

    def __call__(self) -> Tensor:
        """Return it, ``(embed_dim,)``."""
        if self._made is None:
            self._made = self._make()
        return self._made


class History:
    """Tokens of one env, and from where on each of them could see.

    What no token of the context can depend on, because that many layers do not reach so far back, is dropped.

    Args:
        network: Weights.
        capacity: Tokens a context can hold.

    Attributes:
        tokens: The tokens.
        sees_from: Index of the oldest token each one saw.
        start: Index of the oldest token the next one will see.
    """

    def __init__(self, network: Network, capacity: int) -> None:
        self.network = network
        self.capacity = capacity
        self.tokens: list[Token] = []
        self.sees_from: list[int] = []
        self.start = 0

    def fork(self) -> History:
        """Return a history that goes on from here by itself."""
        other = History(self.network, self.capacity)
        other.tokens, other.sees_from, other.start = list(self.tokens), list(self.sees_from), self.start
        return other

    @property
    def length(self) -> int:
        """Tokens of the context."""
        return len(self.tokens) - self.start

    def make_room(self) -> None:
        """Drop the oldest pair if another pair would not fit, as a node of the search does."""
        while self.length + 2 > self.capacity:
            self.start += 2

    def trim(self, kept: int) -> None:
        """Keep so many tokens."""
        self.start += self.length - kept

    def observe(self, observation: Any) -> None:
        """Append the latent of an observation ``(observation_dim,)``, an array or a tensor."""
        network = self.network
        self._append(lambda: network.latent_token(network.encode(torch.as_tensor(observation, device=self._device))))

    def imagine(self, latent: Any) -> None:
        """Append a latent ``(embed_dim,)``, or a function that returns one."""
        network = self.network

        def make() -> Tensor:
            found = latent() if callable(latent) else torch.as_tensor(latent, device=self._device)
            token: Tensor = network.latent_token(found)
            return token

        self._append(make)

    def act(self, action: int) -> None:
        """Append an action."""
        network = self.network
        self._append(lambda: network.action_token(torch.tensor(action, device=self._device)))

    def next_latent(self, padding: int = 0, late: int = 0) -> Tensor:
        """Return the latent that the last action leads to, ``(embed_dim,)``; arguments as for ``keys_values``."""
        network = self.network
        return network.normalise(network.next_latent_head(self._run(1, padding, late, new=1)[0]))

    def hidden(self) -> Tensor:
        """Run all tokens at once and return what the last one leads to ``(embed_dim,)``."""
        return self._run(1)[0]

    def keys_values(self, batch: int = 1, padding: int = 0, late: int = 0) -> list[Tensor]:
        """Run all tokens at once and return the keys and values of the context, layer by layer.

        Args:
            batch: Computed in so many equal rows.
            padding: The newest two tokens also attend to so many cells of zeros behind the context, and take their
                place for behind them: what a host computes that forgets the mask of a shorter row.
            late: The newest two tokens take their place for so many later.

        Returns:
            Tensors ``(batch, num_heads, length, head_dim)``.
        """
        found = self._run(batch, padding, late)[1]
        return [tensor[:, :, self.start :] for tensor in found]

    def prior_and_value(self) -> tuple[list[float], float]:
        """Return prior and value at the last latent."""
        hidden = self.hidden()
        logits = self.network.value_head(hidden)
        priors: list[float] = self.network.policy_head(hidden).softmax(-1).tolist()
        return priors, float(expected(logits, (len(logits) - 1) // 2))

    def step(self, action: int) -> tuple[Tensor, float, list[float], float]:
        """Take an action in imagination: next latent, reward, prior, value."""
        self.make_room()
        self.act(action)
        latent, reward = self.next_latent(), float(self.network.reward_head(self.hidden()))
        self.imagine(latent)
        return latent, reward, *self.prior_and_value()

    def _run(self, batch: int, padding: int = 0, late: int = 0, new: int = 2) -> tuple[Tensor, list[Tensor]]:
        transformer = self.network.transformer
        n = len(self.tokens)
        x = torch.stack([token() for token in self.tokens]).expand(batch, -1, -1)
        cells = torch.arange(n + padding, device=x.device)
        behind = torch.arange(n, device=x.device)[:, None] - cells
        behind[:, n:] = -1  # padding, which only the newest see
        newest = slice(max(0, n - new), n)
        behind[newest, :n][behind[newest, :n] >= 0] += padding + late
        behind[newest, n:] = padding - 1 - torch.arange(padding, device=x.device)
        hidden = (behind < 0) | (cells < torch.tensor(self.sees_from, device=x.device)[:, None])
        bias = transformer.distance_bias[:, behind.clamp(0, transformer.max_tokens - 1)].masked_fill(hidden, -torch.inf)
        found: list[Tensor] = []
        for layer in transformer.layers:
            assert isinstance(layer, Block)
            q, k, v = layer.project(x).permute(2, 0, 3, 1, 4)
            found += (k, v)
            if padding:
                k, v = (
                    torch.cat([each, each.new_zeros(*each.shape[:2], padding, each.shape[3])], 2) for each in (k, v)
                )
            x = layer.attend(x, q, k, v, bias)
        return transformer.norm(x)[0, -1], found

    def _append(self, make: Callable[[], Tensor]) -> None:
        self.tokens.append(Token(make))
        self.sees_from.append(self.start)
        beyond = len(self.tokens) - (len(self.network.transformer.layers) + 1) * self.capacity
        if beyond > 0:
            del self.tokens[:beyond], self.sees_from[:beyond]
            self.sees_from = [max(0, begin - beyond) for begin in self.sees_from]
            self.start -= beyond

    @property
    def _device(self) -> torch.device:
        return self.network.latent_token.weight.device

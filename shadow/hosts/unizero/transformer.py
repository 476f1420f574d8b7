"""A causal transformer that runs over whole sequences, or one token at a time on top of stacked contexts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shadow.hosts.unizero.contexts import Contexts


class Block(nn.Module):
    """One pre-norm layer: attention, then an MLP."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)
        self.mlp_norm = nn.LayerNorm(embed_dim)
        self.up = nn.Linear(embed_dim, 4 * embed_dim)
        self.down = nn.Linear(4 * embed_dim, embed_dim)

    def project(self, x: Tensor) -> Tensor:
        """Compute queries, keys and values of tokens ``(B, n, embed_dim)``: ``(B, n, 3, num_heads, head_dim)``."""
        batch, n, width = x.shape
        projected: Tensor = self.qkv(self.attention_norm(x))
        return projected.view(batch, n, 3, self.num_heads, width // self.num_heads)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Finish the layer.

        Args:
            x: Tokens ``(B, n, embed_dim)``.
            q: Queries ``(B, num_heads, n, head_dim)``.
            k: Keys ``(B, num_heads, T, head_dim)``.
            v: Values, shaped as the keys.
            bias: Added to the scores, ``(num_heads, n, T)`` or with a leading B; minus infinity hides a key.

        Returns:
            Tokens ``(B, n, embed_dim)``.
        """
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(q.shape[0], -1, -1, -1))
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        finished: Tensor = x + self.down(F.silu(self.up(self.mlp_norm(x))))
        return finished


class Transformer(nn.Module):
    """Layers over a learned bias per head and distance.

    A score depends on how far back a key lies and on nothing else about positions, so dropping the oldest tokens of a
    context leaves every other position right (relative bias as in T5, Raffel et al. 2020, without its bucketing).

    Args:
        embed_dim: Width of a token.
        num_heads: Attention heads.
        num_layers: Layers.
        max_tokens: Longest sequence.
    """

    def __init__(self, embed_dim: int, num_heads: int, num_layers: int, max_tokens: int) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.layers = nn.ModuleList(Block(embed_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.distance_bias = nn.Parameter(torch.empty(num_heads, max_tokens))

    def forward(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Run whole sequences.

        Args:
            tokens: ``(B, T, embed_dim)``.
            visible: ``(T, T)`` booleans, query by key; None for all. What lies ahead of a query stays hidden.

        Returns:
            ``(B, T, embed_dim)``.
        """
        n = tokens.shape[1]
        bias = self._bias(range(n), n)
        if visible is not None:
            bias = bias.masked_fill(~visible, -torch.inf)
        for layer in self.layers:
            assert isinstance(layer, Block)
            q, k, v = layer.project(tokens).permute(2, 0, 3, 1, 4)
            tokens = layer.attend(tokens, q, k, v, bias)
        normed: Tensor = self.norm(tokens)
        return normed

    def step(self, tokens: Tensor, contexts: Contexts, advance: Sequence[bool] | None = None) -> Tensor:
        """Run one token per row on top of its context and append it there.

        Args:
            tokens: ``(B, embed_dim)``.
            contexts: Keys and values of what came before, with room for one token; changed in place.
            advance: Rows whose context keeps the token; None for all. The others see what they would predict, and the
                next token takes this one's cell.

        Returns:
            ``(B, embed_dim)``.
        """
        lengths = contexts.lengths
        bias = self._bias(lengths, contexts.capacity).transpose(0, 1)[:, :, None]
        rows = torch.arange(len(lengths), device=tokens.device)
        cells = torch.tensor(lengths, device=tokens.device)
        x = tokens[:, None]
        for layer, block in zip(self.layers, contexts.block, strict=True):
            assert isinstance(layer, Block)
            projected = layer.project(x)
            block[:, rows, :, cells] = projected[:, 0, 1:]
            x = layer.attend(x, projected[:, :, 0].transpose(1, 2), block[0], block[1], bias)
        for row in range(len(lengths)):
            if advance is None or advance[row]:
                lengths[row] += 1
        normed: Tensor = self.norm(x[:, 0])
        return normed

    def _bias(self, queries: Sequence[int], n_keys: int) -> Tensor:
        """Look up ``(num_heads, len(queries), n_keys)``: the bias of each distance, minus infinity ahead of a query."""
        device = self.distance_bias.device
        distance = torch.tensor(list(queries), device=device)[:, None] - torch.arange(n_keys, device=device)
        return self.distance_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, -torch.inf)

"""What the keys and values of one history are, made by LightZero's own network: batch 1, no store, no padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from shadow.interface import read_field
from shadow.recompute import Tensors, UnknownModel

_CUT = 2  # tokens that a shift drops: an observation and an action


class Token(NamedTuple):
    """One token as it goes into the transformer, before any position is added.

    Attributes:
        embedding: ``(1, 1, embed_dim)``.
        position: Where rotary embeddings turn it to; absolute ones count from where the window begins.
    """

    embedding: torch.Tensor
    position: int


class Chain(NamedTuple):
    """The keys and values of one history.

    Attributes:
        tensors: Keys, then values, of each layer in turn, ``(rows, num_heads, T, head_dim)``.
        tokens: The T tokens that they were made of, or as many of the last as are known.
        shifted: Whether the window was ever shifted.
    """

    tensors: Tensors
    tokens: tuple[Token, ...]
    shifted: bool = False

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return int(self.tensors[0].shape[2])


class Lineage:
    """LightZero's arithmetic on histories, as it is with one env and without a cache.

    Args:
        world_model: LightZero's, fully constructed.

    Raises:
        UnknownModel: If it does not look as expected.
    """

    def __init__(self, world_model: Any) -> None:
        check(world_model)
        self.model = world_model
        self.context = int(world_model.context_length)
        self.rotary = bool(read_field(world_model.config, "rotary_emb", False))
        # Two ways in which the main branch can do without a shift: the window anew, or its last token alone.
        self.rebuilds = bool(getattr(world_model, "rebuild_kv_window_from_tokens", False))
        self.begins_anew = bool(getattr(world_model, "exact_kv_window_reset", False))

    def follow(self, chain: Chain | None, tokens: Sequence[Token], rows: int = 1) -> Chain:
        """Return a history with tokens appended, in so many equal rows, and its window cut where LightZero does."""
        return self.cut(self.extend(chain, tokens, rows=rows))

    def extend(
        self, chain: Chain | None, tokens: Sequence[Token], *, padding: int = 0, ahead: int = 0, rows: int = 1
    ) -> Chain:
        """Return a history with tokens appended and nothing cut.

        Args:
            chain: The history so far, None for none.
            tokens: What comes after it, one forward each.
            padding: Zeros before the history, as a batch of unequal lengths has, attended to as if they were of it.
            ahead: How far the new tokens' positions are off.
            rows: Size of the batch in which it is computed.
        """
        transformer, known = self.model.transformer, 0 if chain is None else chain.length
        past = transformer.generate_empty_keys_values(n=rows, max_tokens=padding + known + len(tokens))
        caches = [cache for layer in past._keys_values for cache in (layer._k_cache, layer._v_cache)]
        for cache, tensor in zip(caches, () if chain is None else chain.tensors, strict=False):
            cache._cache[:, :, :padding] = 0
            cache._cache[:, :, padding : padding + known] = tensor
            cache._size = padding + known
        for count, token in enumerate(tokens, start=known + ahead):
            embedding = token.embedding.expand(rows, -1, -1)
            if self.rotary:
                transformer(embedding, past, start_pos=[token.position + ahead] * rows)
            else:
                transformer(embedding + self._absolute(count), past)
        before = () if chain is None else chain.tokens
        return Chain([cache._cache[:, :, padding : cache._size] for cache in caches], (*before, *tokens),
                     chain is not None and chain.shifted)  # fmt: skip

    def cut(self, chain: Chain, set_back: Callable[[int, int, int, int], Any] | None = None) -> Chain:
        """Return a history cut to its window, where it has grown too long for another step.

        Args:
            chain: The history.
            set_back: Told layer, 0 for keys or 1 for values, how many tokens are dropped and how many are kept; returns
                what is added to these. None for what the weights, as they are now, make of the change of positions.
        """
        if chain.length < self.context - 1:
            return chain
        keep = self.context - 1 - _CUT
        if self.rebuilds or self.begins_anew:
            tokens = chain.tokens[-1:] if self.begins_anew else chain.tokens[-keep:]
            anew = tuple(Token(token.embedding, at) for at, token in enumerate(tokens))
            return self.extend(None, anew, rows=chain.tensors[0].shape[0])._replace(shifted=True)
        change = set_back or self.set_back
        drop = chain.length - keep
        tensors = [tensor[:, :, drop:] + change(at // 2, at % 2, drop, keep) for at, tensor in enumerate(chain.tensors)]
        return Chain(tensors, chain.tokens[-keep:], shifted=True)

    def shift_error(self, chain: Chain) -> float:
        """Return how far a shifted window is from one made of its tokens alone: the greatest distance of two vectors of
        one token, relative to their length."""
        exact = self.extend(None, chain.tokens)
        apart = [((one - other).norm(dim=-1) / other.norm(dim=-1).clamp_min(1e-12)).max()
                 for one, other in zip(chain.tensors, exact.tensors, strict=True)]  # fmt: skip
        return float(torch.stack(apart).max())

    def set_back(self, layer: int, which: int, drop: int, keep: int) -> Any:
        """Return what a shift adds to the keys (0) or values (1) of a layer: nothing to those that are turned."""
        if self.rotary:
            return 0
        attention = self.model.transformer.blocks[layer].attn
        made = (attention.value if which else attention.key)(self.model.pos_emb.weight[: keep + drop])
        return (made[:keep] - made[drop:]).view(1, keep, self.model.num_heads, -1).transpose(1, 2)

    def kept_set_back(self, layer: int, which: int, drop: int, keep: int) -> Any:
        """Return what the model itself adds: it is made in advance, of the weights as they were then."""
        made = (self.model.pos_emb_diff_k, self.model.pos_emb_diff_v)[which]
        return made[layer].get((drop, drop + keep), 0)

    def action(self, action: Any, position: int) -> Token:
        """Return an action as a token."""
        model = self.model
        if getattr(model, "continuous_action_space", False):
            given = torch.as_tensor(action, device=model.device, dtype=torch.float32).reshape(1, 1, -1)
        else:
            given = torch.as_tensor(action, device=model.device).reshape(1, 1).long()
        return Token(model.act_embedding_table(given).reshape(1, 1, -1), position)

    def latent(self, latent: Any, position: int) -> Token:
        """Return a latent state as a token."""
        return Token(torch.as_tensor(latent, device=self.model.device).detach().reshape(1, 1, -1), position)

    def _absolute(self, position: int) -> torch.Tensor:
        model = self.model
        look_up = getattr(model, "_lookup_position_embeddings", model.pos_emb)
        embedding: torch.Tensor = look_up(torch.tensor([position], device=model.device))
        return embedding


def not_judged(world_model: Any) -> str:
    """Say why a recomputation proves nothing of a model as it is now; empty where it does."""
    config = world_model.config
    if getattr(world_model, "reanalyze_phase", False):
        return "inferences for reanalysis"
    if world_model.training or world_model.transformer.training:
        return "inferences of a model in training mode, with its dropout"
    if any(read_field(config, name, False) for name in ("moe_in_transformer", "multiplication_moe_in_transformer")):
        return "inferences with a mixture of experts, which routes by batch"
    if getattr(world_model.transformer, "use_register_token", False):
        return "inferences with register tokens"
    if int(read_field(config, "task_num", 1) or 1) > 1:
        return "inferences for several tasks, whose embeddings are part of the tokens"
    return ""


def check(world_model: Any) -> None:
    """Look for everything that a recomputation stands on.

    Raises:
        UnknownModel: Naming what was looked for.
    """
    transformer = getattr(world_model, "transformer", None)
    blocks = list(getattr(transformer, "blocks", ()))
    problems = [f"a method {name}" for name in ("forward_initial_inference", "forward_recurrent_inference")
                if not callable(getattr(world_model, name, None))]  # fmt: skip
    problems += [name for name in ("context_length", "num_heads", "act_embedding_table", "tokenizer", "device")
                 if not hasattr(world_model, name)]  # fmt: skip
    if not callable(getattr(transformer, "generate_empty_keys_values", None)):
        problems.append("a method transformer.generate_empty_keys_values")
    if not blocks or not all(callable(getattr(getattr(block, "attn", None), name, None))
                             for block in blocks for name in ("key", "value")):  # fmt: skip
        problems.append("attn.key and attn.value in each of transformer.blocks")
    if not read_field(world_model.config, "rotary_emb", False) and not hasattr(world_model, "pos_emb"):
        problems.append("pos_emb, or rotary_emb in its config")
    if getattr(world_model, "num_observations_tokens", None) != 1:
        problems.append("one token per observation (num_observations_tokens)")
    if problems:
        where = f"{type(world_model).__module__}.{type(world_model).__qualname__}"
        raise UnknownModel(
            f"the oracle does not know this LightZero: {where} should have {', '.join(problems)}; known are release "
            "0.2.0 and the main branch of 2026-08. Nothing of the host would be judged, so nothing is trained; leave "
            "'oracle' out of cache_validation to train without it"
        )

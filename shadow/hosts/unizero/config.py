"""What a person can set about the embedded host."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shadow.interface import positive
from shadow.settings import SettingsError, from_mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes of the world model and of its caches. Names follow LightZero's ``world_model_cfg`` where it has one.

    Attributes:
        embed_dim: Width of latents and tokens.
        num_heads: Attention heads; divides ``embed_dim``.
        num_layers: Transformer layers.
        hidden_dim: Hidden width of encoder and heads.
        group_size: Latents are softmax-normalised in groups of this many (SimNorm, Lavoie et al. 2022).
        value_bound: Values are classified over ``[-value_bound, value_bound]``, after MuZero's scaling.
        max_tokens: Longest sequence the transformer knows positions for, tokens; two per env step.
        context_length: Tokens an entry can hold; even, because tokens come in (latent, action) pairs.
        num_simulations: Simulations of a search, which also sizes the recurrent pool.
        max_cache_size: Upper bound of an init pool under rule ``2026-08``.
        game_segment_length: Env steps of a replay segment, and size of an init pool under rule ``2025-10``.
        cache_capacity_rule: How init pools are sized; see ``shadow.interface.CacheCapacities``.
        cache_eviction_strategy: Which entry the new manager drops from a full pool.
        key_buckets: 0 hashes a latent's exact bytes; n > 0 first rounds each component to n levels, so keys repeat.
        use_new_cache_manager: The candidate's answers reach the model.
        cache_validation_mode: Both caches run in lockstep.
        cache_validation: Settings of the validation.
    """

    embed_dim: int = 64
    num_heads: int = 4
    num_layers: int = 2
    hidden_dim: int = 128
    group_size: int = 8
    value_bound: int = 20
    max_tokens: int = 20
    context_length: int = 12
    num_simulations: int = 10
    max_cache_size: int = 5000
    game_segment_length: int = 50
    cache_capacity_rule: Literal["2026-08", "2025-10"] = "2026-08"
    cache_eviction_strategy: Literal["fifo", "lru", "priority"] = "fifo"
    key_buckets: int = 0
    use_new_cache_manager: bool = False
    cache_validation_mode: bool = False
    cache_validation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        widths = ("embed_dim", "num_heads", "num_layers", "hidden_dim", "group_size", "value_bound")
        for name in (*widths, "num_simulations", "max_cache_size", "game_segment_length"):
            positive(name, getattr(self, name))
        if self.embed_dim % self.num_heads or self.embed_dim % self.group_size:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads and of group_size, got {self.embed_dim} with "
                f"{self.num_heads} and {self.group_size}"
            )
        if self.context_length < 4 or self.context_length % 2 or self.context_length > self.max_tokens:
            raise ValueError(
                f"context_length must be an even number of tokens from 4 to max_tokens ({self.max_tokens}), "
                f"got {self.context_length}"
            )
        if self.key_buckets < 0 or self.key_buckets > 255:
            raise ValueError(f"key_buckets must be 0 (exact keys) or 1 to 255 levels, got {self.key_buckets}")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        env_id: Gymnasium environment with a flat observation and discrete actions.
        env_num: Environments stepped side by side.
        seed: Every random number of the run derives from it.
        total_env_steps: The run ends after this many env steps, at the end of a burst.
        max_seconds: It also ends after this wall time; 0 for no limit. Only without a limit is a run reproducible.
        collect_steps: Vector steps of one burst of collection.
        updates_per_collect: Optimizer steps after each burst.
        learning_starts: Env steps before the first update.
        batch_size: Sequences per update.
        unroll: Env steps per sequence.
        replay_size: Env steps kept for replay.
        lr: Learning rate.
        weight_decay: AdamW's weight decay.
        grad_clip: Largest norm of a gradient.
        discount: Discount per env step.
        trace_decay: Lambda of the value targets.
        target_rate: Share of the weights that moves into the target network per update.
        latent_weight: Weight of the latent prediction in the loss; policy and reward weigh 1.
        value_weight: Weight of the value in the loss.
        search_simulations: Simulations of a search where they must differ from what sizes the pools; 0 for the same.
        noise_alpha: Dirichlet noise at the root, concentration.
        noise_share: Dirichlet noise at the root, share.
        temperature_start: Temperature of the visit counts when the run starts.
        temperature_end: Temperature when half of the env steps are done, and from then on.
        torch_threads: Threads torch computes with during the run; 0 leaves them alone.
        device: Where networks and entries live.
        world_model_cfg: World model and caches.
    """

    env_id: str = "CartPole-v1"
    env_num: int = 8
    seed: int = 0
    total_env_steps: int = 20_000
    max_seconds: float = 0.0
    collect_steps: int = 25
    updates_per_collect: int = 20
    learning_starts: int = 200
    batch_size: int = 64
    unroll: int = 8
    replay_size: int = 20_000
    lr: float = 1e-3
    weight_decay: float = 1e-4
    grad_clip: float = 5.0
    discount: float = 0.99
    trace_decay: float = 0.9
    target_rate: float = 0.02
    latent_weight: float = 2.0
    value_weight: float = 0.5
    search_simulations: int = 0
    noise_alpha: float = 0.3
    noise_share: float = 0.25
    temperature_start: float = 1.0
    temperature_end: float = 0.25
    torch_threads: int = 1
    device: str = "cpu"
    world_model_cfg: WorldModelConfig = field(default_factory=WorldModelConfig)

    def __post_init__(self) -> None:
        for name in ("env_num", "total_env_steps", "collect_steps", "batch_size", "unroll", "replay_size"):
            positive(name, getattr(self, name))
        for name in ("seed", "updates_per_collect", "learning_starts", "search_simulations", "torch_threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {getattr(self, name)}")
        for name in ("lr", "grad_clip", "noise_alpha", "temperature_start", "temperature_end"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("max_seconds", "weight_decay", "latent_weight", "value_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("discount", "trace_decay", "target_rate", "noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if 2 * self.unroll + 1 > self.world_model_cfg.max_tokens:
            raise ValueError(
                f"unroll of {self.unroll} env steps takes {2 * self.unroll + 1} tokens, "
                f"more than max_tokens ({self.world_model_cfg.max_tokens}) of the world model"
            )

    @property
    def simulations(self) -> int:
        """Simulations of a search."""
        return self.search_simulations or self.world_model_cfg.num_simulations


def load_config(path: str | Path, **overrides: Any) -> TrainConfig:
    """Read a training run from a TOML file such as those in ``configs/``.

    Args:
        path: TOML file; its table ``world_model_cfg`` becomes the ``WorldModelConfig``.
        **overrides: Settings that replace those of the file, such as ``seed=3``. A mapping for ``world_model_cfg``
            replaces only the settings it names.

    Returns:
        The run.

    Raises:
        SettingsError: If the file is no TOML, or a setting is unknown or impossible.
        OSError: If it can't be read.
    """
    try:
        mapping = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise SettingsError(f"{path}: not a TOML file: {problem}") from None
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(mapping.get(key), dict)
        mapping[key] = {**mapping[key], **value} if nested else value
    return from_mapping(TrainConfig, mapping, str(path))

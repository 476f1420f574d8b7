"""Which cache is control, which is candidate, and how large: read from a world model's own settings."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NamedTuple

from shadow.hosts.lightzero.errors import LightZeroMismatch
from shadow.hosts.lightzero.package import PackageStore
from shadow.interface import CacheCapacities, read_field
from shadow.switch import implementation

OWN_INLINE = "legacy"
OWN_MANAGER = "package"


class Choice(NamedTuple):
    """Who is compared with whom.

    Attributes:
        control: Name of the trusted implementation.
        candidate: Name of the new one.
        primary: Whose answers the model receives.
    """

    control: str
    candidate: str
    primary: str


class AlignedConfig:
    """A world model's config with the sizes that its own store really has.

    In 0.2.0 the store is far smaller than any field of the config says. A candidate built from this has the same
    capacities, so that what differs is behaviour and not a size.

    Args:
        config: The world model's; only read.
        capacities: What its store holds.
        env_num: Number of envs.
    """

    def __init__(self, config: Any, capacities: CacheCapacities, env_num: int) -> None:
        self._config = config
        self.num_simulations = max(1, capacities.recur // env_num)
        self.max_cache_size = capacities.init
        self.game_segment_length = capacities.init
        self.cache_capacity_rule = "2025-10"  # init pools of game_segment_length, exactly

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_config":
            raise AttributeError(name)
        missing = object()
        value = read_field(self._config, name, missing)
        if value is missing:
            raise AttributeError(name)
        return value


def choose(config: Any, own: str) -> Choice:
    """Read who is compared with whom.

    Args:
        config: World model config with ``cache_validation`` (``control``, ``candidate``) and ``use_new_cache_manager``.
        own: What the world model itself uses: ``legacy`` (its inline dicts) or ``package`` (its manager object).

    Returns:
        The choice. Unsaid, the control is ``legacy``; the candidate is the manager in use, or else ours (``new``).

    Raises:
        ValueError: If a world model with inline dicts would be served without them.
    """
    settings = read_field(config, "cache_validation", None) or {}
    control = read_field(settings, "control", None) or OWN_INLINE
    candidate = read_field(settings, "candidate", None) or ("new" if own == OWN_INLINE else OWN_MANAGER)
    primary = "candidate" if read_field(config, "use_new_cache_manager", False) else "control"
    if own == OWN_INLINE and own not in (control, candidate):
        raise ValueError(
            f"control={control!r} against candidate={candidate!r}: with LightZero's inline store one of them has to be "
            "'legacy', which is that store; set use_new_cache_manager=True where LightZero has a manager"
        )
    return Choice(control, candidate, primary)


def build(name: str, world_model: Any, capacities: CacheCapacities, env_num: int) -> Any:
    """Build a cache beside the world model's own, of the same capacities.

    Args:
        name: ``legacy``, ``new``, ``package`` (LightZero's manager) or ``module:Class``.
        world_model: LightZero's.
        capacities: What its own store holds.
        env_num: Number of envs.

    Returns:
        The cache.

    Raises:
        LightZeroMismatch: If this LightZero has no manager.
        ValueError: If there is no such implementation.
    """
    config = AlignedConfig(world_model.config, capacities, env_num)
    if name == OWN_MANAGER:
        return PackageStore(_manager_class(world_model)(config=config, env_num=env_num))
    return implementation(name)(config=config, env_num=env_num)


def _manager_class(world_model: Any) -> Any:
    modules = [sys.modules.get(cls.__module__) for cls in type(world_model).__mro__]
    for package in filter(None, (getattr(module, "__package__", None) for module in modules)):
        try:
            return import_module(f"{package}.kv_cache_manager").KVCacheManager
        except (ImportError, AttributeError):
            continue
    raise LightZeroMismatch(
        "this LightZero has no manager of its own (looked for kv_cache_manager.KVCacheManager beside its world model); "
        "choose control or candidate 'new', which is ours"
    )

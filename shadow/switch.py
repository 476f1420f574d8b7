"""Which cache a world model gets, read from the two switches of its config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol

from shadow.interface import CacheStore, read_field
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.named import named
from shadow.recompute import Recomputer

logger = logging.getLogger(__name__)

IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {"legacy": LegacyKVCache, "new": KVCacheManager}


@dataclass(frozen=True, slots=True)
class HostPromises:
    """What a host promises about its own clears. What it does not promise is no fault of it, and is only counted.

    Attributes:
        episode_end_clears: An episode end clears the init pool of its env and no other.
        weight_update_clears: What was stored before a weight update is not asked for after it.
        search_start_clears: A search begins with an empty recurrent pool.
    """

    episode_end_clears: bool = True
    weight_update_clears: bool = True
    search_start_clears: bool = True


class LifeCycle(Protocol):
    """What a host tells about itself beside its cache operations; None stands for nobody listening.

    ``cache`` names the shadow that something happened to, where a host has several; None means all of them.
    """

    def weights_updated(self, cache: Any = None) -> None:
        """The weights moved: entries computed before are of an older version."""

    def episode_ended(self, env_id: int, cache: Any = None) -> None:
        """An env's episode is over and its cleanup is done: nothing of it may be alive any more."""

    def search_started(self, cache: Any = None) -> None:
        """A new tree search begins, and its recurrent pool has just been cleared."""

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None:
        """Where the training stands; stamped on what is recorded from here on."""


class Validation(LifeCycle, Protocol):
    """A validation session, as far as a host needs to know one."""

    def shadow(
        self,
        *,
        control: Any,
        candidate: Any,
        primary: str = "control",
        name: str = "",
        copies: str = "",
        promises: HostPromises | None = None,
    ) -> Any:
        """Return a cache that runs both sides in lockstep."""

    def recompute(self, cache: Any, recomputer: Recomputer) -> None:
        """Follow what the host stores in a shadowed cache and recompute it without one, if the settings ask for it."""

    def event(self, name: str, detail: str = "") -> None:
        """Write that something happened in the life of the host."""

    def host_failed(self, error: BaseException) -> None:
        """The training ended by an error, whatever the host does with it."""

    def live(self, tb_logger: Any) -> None:
        """Show what is counted in the host's own TensorBoard writer."""


class BuiltCache(NamedTuple):
    """What a world model gets.

    Attributes:
        cache: The cache to use.
        validation: Whom to tell about the life cycle, or None without validation.
        system: One line that names the system in use.
    """

    cache: CacheStore
    validation: Validation | None
    system: str


def build_cache(config: Any, env_num: int, validation: Validation | None = None, name: str = "") -> BuiltCache:
    """Build the cache that the switches of a world model config ask for.

    Args:
        config: World model config. Read with defaults: ``use_new_cache_manager`` (False), ``cache_validation_mode``
            (False) and ``cache_validation`` (settings of the validation, whose ``control`` and ``candidate`` name
            ``legacy``, ``new`` or ``package.module:Class``, with validation and without: what was on trial is what
            runs once it is over).
        env_num: Number of environments.
        validation: Running session to join. None opens the installed one, if the config asks for validation.
        name: Which copy of a model this cache serves, such as ``collect``.

    Returns:
        The cache, whom to tell about the life cycle, and a line that names the system. The line is logged as well.

    Raises:
        ValueError: If a setting is impossible or an implementation can't be found.
    """
    use_new = _switch(config, "use_new_cache_manager")
    settings = read_field(config, "cache_validation", None) or {}
    build_control = implementation(read_field(settings, "control", "legacy"))
    build_candidate = implementation(read_field(settings, "candidate", "new"))
    if not _switch(config, "cache_validation_mode"):
        cache = (build_candidate if use_new else build_control)(config=config, env_num=env_num)
        system = f"Using {'NEW KV cache manager' if use_new else 'OLD cache system'} ({type(cache).__name__})"
        logger.info(system)
        return BuiltCache(cache, None, system)

    control = build_control(config=config, env_num=env_num)
    candidate = build_candidate(config=config, env_num=env_num)
    session = validation if validation is not None else installed_validation(settings)
    primary = "candidate" if use_new else "control"
    cache = session.shadow(control=control, candidate=candidate, primary=primary, name=name)
    stage = "canary" if use_new else "shadow"
    system = (
        f"Validating KV caches in lockstep, {stage} stage: control {type(control).__name__}, "
        f"candidate {type(candidate).__name__}, the model receives the {primary}'s answers"
    )
    logger.info(system)
    return BuiltCache(cache, session, system)


def implementation(name: str) -> Callable[..., Any]:
    """Find a cache class by ``legacy``, ``new`` or ``package.module:Class``.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, str) and name in IMPLEMENTATIONS:
        return IMPLEMENTATIONS[name]
    try:
        return named(name)
    except ValueError as problem:
        raise ValueError(
            f"no cache implementation {name!r}: expected 'legacy', 'new' or 'package.module:Class' ({problem})"
        ) from None


def _switch(config: Any, name: str) -> bool:
    # Not bool(): bool("False") is True, and a mistyped switch would turn the new cache on.
    value = read_field(config, name, False)
    if value is not None and value not in (True, False):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def installed_validation(settings: Any, about: Mapping[str, Any] | None = None) -> Validation:
    """Open the session of the installed validator.

    Args:
        settings: The ``cache_validation`` table of a world model config.
        about: What the host wants in the manifest.

    Raises:
        ValueError: If no validator is installed.
    """
    # The arrow points from host to validator, so the validator is found by name and never imported from here.
    for point in entry_points(group="kv_lockstep.validation", name="default"):
        opened = point.load()
        session: Validation = opened(settings) if about is None else opened(settings, about)
        return session
    raise ValueError(
        "cache_validation_mode is on but no validator is installed; run 'pip install kv-lockstep', or pass a Lockstep"
    )

"""One cache alone, its lookups counted: as a wrapper, and as a session that compares nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LOOKUPS = ("get_init_cache", "get_recur_cache", "get_wm_cache", "hierarchical_get")


class Counted:
    """A cache whose lookups are counted where the model makes them; implementations' own counters disagree.

    Args:
        cache: The cache.

    Attributes:
        lookups: Lookups so far.
        hits: Lookups that were answered.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.lookups = 0
        self.hits = 0
        for name in _LOOKUPS:
            setattr(self, name, self._counting(getattr(cache, name)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_cache":  # while a copy of this is under construction
            raise AttributeError(name)
        return getattr(self._cache, name)

    @property
    def kind(self) -> type:
        """Class of the cache."""
        return type(self._cache)

    def _counting(self, lookup: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            entry = lookup(*args, **kwargs)
            self.lookups += 1
            self.hits += entry is not None
            return entry

        return counted


class AloneSession:
    """Stands where a validation session would, and hands out the primary alone: nothing is compared or recorded.

    It is how one cache serves a host that has no switch for it.

    Args:
        on_cache: Called with each cache that is handed out.
        on_progress: Called with the env steps that the host tells of.

    Attributes:
        env_steps: Env steps told of last.
        updates: Weight updates told of.
        faults: What could not be watched, one sentence each.
    """

    def __init__(self, on_cache: Callable[[Counted], None], on_progress: Callable[[int], None]) -> None:
        self._on_cache = on_cache
        self._on_progress = on_progress
        self.env_steps = 0
        self.updates = 0
        self.faults: list[str] = []

    def shadow(self, *, control: Any, candidate: Any, primary: str = "control", **_: Any) -> Any:
        """Return the primary, counted; the other side is let go of."""
        cache = Counted(candidate if primary == "candidate" else control)
        cache.observer = self  # type: ignore[attr-defined]  # where attachments tell of faults
        self._on_cache(cache)
        return cache

    def harness_failed(self, step: str, error: Exception) -> None:
        """Hear that an operation did not reach the cache."""
        self.faults.append(str(error))

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None:
        """Hear where the training stands."""
        self.updates = max(self.updates, train_iter or 0)
        if env_step is not None and env_step > self.env_steps:
            self.env_steps = env_step
            self._on_progress(env_step)

    def _hear_nothing(self, *_: Any, **__: Any) -> None: ...

    weights_updated = episode_ended = search_started = event = live = host_failed = recompute = _hear_nothing

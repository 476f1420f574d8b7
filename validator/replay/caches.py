"""Building the two caches of a trace again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from shadow.interface import CacheCapacities
from shadow.switch import implementation
from validator.errors import LockstepError

Make = Callable[[Mapping[str, Any], int], Any]  # (config, env_num) -> cache

_SIZES = {"num_simulations", "max_cache_size", "game_segment_length", "cache_capacity_rule"}


class CannotBuild(LockstepError):
    """A cache of a trace can't be built here."""


class Sides:
    """Both caches of a trace, to be built as often as they are wanted.

    Args:
        about: First line of the trace's index.
        control: ``legacy``, ``new`` or ``package.module:Class`` in place of the control that was recorded.
        candidate: The same in place of the candidate.
        primary: ``control`` or ``candidate`` in place of the one that was recorded.

    Attributes:
        config: What the sizes of pools follow from.
        env_num: Number of environments.
        primary: Whose answers a host received.
        classes: What stands on each side, as ``package.module:Class``.
        same: Whether these are the classes that were recorded.

    Raises:
        CannotBuild: If a class can't be imported, or the trace does not say what it was built of.
    """

    def __init__(self, about: Mapping[str, Any], control: str = "", candidate: str = "", primary: str = "") -> None:
        recorded = about.get("classes")
        recorded = recorded if isinstance(recorded, Mapping) else {}
        given = {"control": control, "candidate": candidate}
        self._makes = {side: _found(side, name, str(recorded.get(side, ""))) for side, name in given.items()}
        self.classes = {side: name for side, (name, _) in self._makes.items()}
        self.same = not (control or candidate)
        self.primary = primary or ("candidate" if about.get("primary") == "candidate" else "control")
        env_num, config = about.get("env_num"), about.get("config")
        self.env_num = env_num if type(env_num) is int and 0 < env_num <= 1 << 20 else 1
        self.config: dict[str, Any] = dict(config) if isinstance(config, Mapping) else {}
        if not _SIZES & self.config.keys():
            self.config |= _config_of(about.get("policy"), self.env_num)

    def build(self, config: Mapping[str, Any] | None = None, env_num: int | None = None) -> tuple[Any, Any]:
        """Build control and candidate, of the recorded sizes or of others.

        Raises:
            CannotBuild: If one raises.
        """
        built = []
        for side, (name, make) in self._makes.items():
            try:
                built.append(make(config=dict(config or self.config), env_num=env_num or self.env_num))
            except Exception as problem:
                raise CannotBuild(
                    f"the {side} {name} can't be built by {name}(config=..., env_num=...) "
                    f"({type(problem).__name__}: {problem!s:.200}); name one that can: --{side} package.module:Class"
                ) from None
        return built[0], built[1]


def _found(side: str, given: str, recorded: str) -> tuple[str, Callable[..., Any]]:
    """Find the class that is asked for, else that which was recorded; its name is split where a module ends."""
    names = [given] if given else _names(recorded)
    for name in names:
        try:
            return name, implementation(name)
        except ValueError as problem:
            said = problem
    if given:
        raise CannotBuild(str(said)) from None
    shown = recorded or "which the trace does not name"
    raise CannotBuild(
        f"the {side}, {shown}, can't be imported here; name what stands in its place: --{side} package.module:Class"
    )


def _names(recorded: str) -> list[str]:
    """Return how a class may be asked for: a module's name has no capital letters, mostly, but nobody has to."""
    if ":" in recorded:
        return [recorded]
    module, _, kind = recorded.rpartition(".")
    if not module or "<" in recorded:
        return []
    try:
        find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return []
    return [f"{module}:{kind}"]


def _config_of(policy: Any, env_num: int) -> dict[str, Any]:
    """Return a config that asks for the capacities that a side declared, if one can."""
    for side in ("control", "candidate"):
        try:
            sizes = CacheCapacities(**policy[side]["capacities"])
            config = {"num_simulations": max(1, sizes.recur // env_num), "max_cache_size": sizes.init}
            if CacheCapacities.from_config(config, env_num) == sizes:
                return config
        except (KeyError, TypeError, ValueError):
            continue
    return {}

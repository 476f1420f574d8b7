"""Settings put over a LightZero script's own, without a change of the script."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping, MutableMapping
from functools import wraps
from importlib import import_module
from typing import Any

from shadow.settings import SettingsError, nearest

_SHORT = {
    "world_model_cfg": "policy.model.world_model_cfg",
    "cache_validation": "policy.model.world_model_cfg.cache_validation",
}
_OF_CREATION = "create"
_SWITCHES = ("use_new_cache_manager", "cache_validation_mode")


def override(settings: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Let every training entry of LightZero see other settings than its script gives it.

    Args:
        settings: Values by dotted name: of the main config (``policy.num_simulations``; ``world_model_cfg.`` and
            ``cache_validation.`` stand for their long names), of the create config (``create.env_manager.type``), or an
            argument of the entry (``seed``, ``max_env_step``, ``max_train_iter``).
        say: Told of settings that the config did not have before.

    Raises:
        SettingsError: From the entry itself, before it trains, if a table on the way does not exist.
    """
    entries = import_module("lzero.entry")
    for name, entry in list(vars(entries).items()):
        if name.startswith(("train_", "eval_")) and inspect.isfunction(entry):
            _replace(entry, _overriding(entry, settings, say))


def _replace(old: Any, new: Any) -> None:
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old and (name != "__wrapped__"):
                setattr(module, name, new)


def _overriding(entry: Callable[..., Any], settings: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    parameters = inspect.signature(entry).parameters
    first = next(iter(parameters))

    @wraps(entry)
    def overridden(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(entry).bind(*args, **kwargs)
        configs = bound.arguments[first]
        if isinstance(configs, (list, tuple)) and len(configs) == 2:
            main, create = (copy.deepcopy(config) for config in configs)
            for key, value in settings.items():
                if "." not in key and key in parameters and key != first:
                    bound.arguments[key] = value
                elif key.split(".")[0] == _OF_CREATION:
                    _put(create, key.split(".")[1:], value, key, say)
                else:
                    head, _, tail = key.partition(".")
                    _put(main, f"{_SHORT.get(head, head)}.{tail}".strip(".").split("."), value, key, say)
            bound.arguments[first] = [main, create] if isinstance(configs, list) else (main, create)
        return entry(*bound.args, **bound.kwargs)

    return overridden


def _put(config: Any, path: list[str], value: Any, key: str, say: Callable[[str], None]) -> None:
    table = config
    for name in path[:-1]:
        if name == "cache_validation" and name not in table:
            table[name] = {}
        if not isinstance(table, MutableMapping) or name not in table:
            known = list(table) if isinstance(table, MutableMapping) else []
            raise SettingsError(f"--set {key}: the script's config has no table {name!r}; {nearest(name, known)}")
        table = table[name]
    if not isinstance(table, MutableMapping):
        raise SettingsError(f"--set {key}: {path[-2] if len(path) > 1 else key!r} is no table but {table!r:.60}")
    if path[-1] not in table and path[-2:-1] != ["cache_validation"] and path[-1] not in _SWITCHES:
        say(f"--set {key}: new in the script's config; {nearest(path[-1], [str(name) for name in table])}")
    table[path[-1]] = value

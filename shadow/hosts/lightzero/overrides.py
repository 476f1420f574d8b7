"""Settings put over a LightZero script's own, without a change of the script."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from functools import wraps
from typing import Any

from shadow.hosts.lightzero.install import replace_everywhere, training_entries
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
    for entry in training_entries():
        replace_everywhere(entry, _overriding(entry, settings, say))


def _overriding(entry: Callable[..., Any], settings: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    signature = inspect.signature(entry)
    first = next(iter(signature.parameters))
    arguments = {key: value for key, value in settings.items() if key in signature.parameters and key != first}
    of_configs = {key: value for key, value in settings.items() if key not in arguments}

    @wraps(entry)
    def overridden(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments[first]
        if _is_pair(given):
            bound.arguments[first] = _changed(given, of_configs, say)
        elif _is_tasks(given):
            tasks = [type(task)((task[0], _changed(task[1], of_configs, say))) for task in given]
            bound.arguments[first] = type(given)(tasks)
        elif of_configs:
            raise SettingsError(
                f"--set {next(iter(of_configs))}: {entry.__name__} was given {type(given).__name__} {given!r:.60}; "
                "expected (main_config, create_config), or (task_id, (main_config, create_config)) for each of several "
                "tasks, so nothing can be set in it"
            )
        bound.arguments.update(arguments)
        return entry(*bound.args, **bound.kwargs)

    return overridden


def _is_pair(given: Any) -> bool:
    """Tell whether this is (main_config, create_config)."""
    return isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(x, MutableMapping) for x in given)


def _is_tasks(given: Any) -> bool:
    """Tell whether this is what multi-task entries take: (task_id, (main_config, create_config)) for each task."""
    return isinstance(given, (list, tuple)) and all(
        isinstance(task, (list, tuple)) and len(task) == 2 and _is_pair(task[1]) for task in given
    )


def _changed(pair: Any, settings: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    """Return changed copies of both configs; the script's own stay as they are."""
    main, create = (copy.deepcopy(config) for config in pair)
    for key, value in settings.items():
        head, _, tail = key.partition(".")
        if head == _OF_CREATION:
            _put(create, tail.split("."), value, key, say)
        else:
            _put(main, f"{_SHORT.get(head, head)}.{tail}".strip(".").split("."), value, key, say)
    return type(pair)((main, create))


def _put(config: Any, path: list[str], value: Any, key: str, say: Callable[[str], None]) -> None:
    table = config
    for depth, name in enumerate(path[:-1], start=1):
        if "cache_validation" in path[:depth] and isinstance(table, MutableMapping) and table.get(name) is None:
            table[name] = {}
        if not isinstance(table, MutableMapping) or name not in table:
            known = list(table) if isinstance(table, MutableMapping) else []
            raise SettingsError(f"--set {key}: the script's config has no table {name!r}; {nearest(name, known)}")
        table = table[name]
    if not isinstance(table, MutableMapping):
        raise SettingsError(f"--set {key}: {path[-2] if len(path) > 1 else key!r} is no table but {table!r:.60}")
    if path[-1] not in table and "cache_validation" not in path and path[-1] not in _SWITCHES:
        say(f"--set {key}: new in the script's config; {nearest(path[-1], [str(name) for name in table])}")
    table[path[-1]] = value

"""What two caches of four pools promise: how large they are, and whom they evict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from operator import index
from typing import Any, get_args

from shadow.interface import CacheCapacities, CachePolicy, PolicyKind, offered, read_field
from validator.judge import words
from validator.judge.shape import Promised
from validator.judge.side import Report, Unreadable, tried

_UNDECLARED = CachePolicy("undeclared", CacheCapacities(0, 0, 0), live_results=None)
_SIZES = ("num_simulations", "max_cache_size", "game_segment_length", "cache_capacity_rule")
_MOST_ENVS = 1 << 20  # of which a model is made each


def promised(control: Any, candidate: Any, report: Report) -> Promised:
    """Find out what both sides promise.

    The kind of eviction is what each side declares. The capacities are one yardstick for both: what the shared config
    asks for where a side carries one, else what the control declares. A side that differs is off, not excused. Of a
    side that says nothing, presence is judged by agreement only.

    Args:
        control: Trusted cache.
        candidate: New cache.
        report: Told of a side that raises, or answers what can't be, when it is asked for any of this.

    Returns:
        What both promise.
    """
    sides = {"control": control, "candidate": candidate}
    asks = {name: partial(_asked, name, cache, report) for name, cache in sides.items()}
    assumed: list[str] = []
    declared = {name: _declared(name, cache, report, assumed) for name, cache in sides.items()}
    envs = next((n for n in [ask("env_num", _env_num) for ask in asks.values()] if n), None)
    asked = {name: ask("config", partial(_asked_for, envs=envs)) for name, ask in asks.items()}
    wanted = asked["control"] or asked["candidate"]
    stated = [policy.capacities for policy in declared.values() if policy is not None and policy.kind != "undeclared"]
    if stated and wanted not in stated:
        wanted = stated[0]
    found = []
    for name, policy in declared.items():
        if policy is None and asked[name] is not None and wanted is not None:
            assumed.append(f"{name} declares no policy; FIFO with {wanted} is assumed")
            policy = CachePolicy("fifo", wanted, live_results=None)
        elif policy is None or policy.kind == "undeclared":
            assumed.append(
                f"presence is judged by agreement only: {name} ({type(sides[name]).__name__}) declares no policy(), so "
                "whom it evicts is its own business; declare one by a method policy() that returns shadow.CachePolicy"
            )
            policy = policy or _UNDECLARED
        elif policy.capacities != wanted:
            assumed.append(f"{name} declares {policy.capacities}, but {wanted} is what both are held to")
        found.append(policy if wanted is None or policy.kind == "undeclared" else replace(policy, capacities=wanted))
    sizes = tuple(asdict(policy.capacities) for policy in found)
    return Promised(found[0], found[1], (sizes[0], sizes[1]), envs, assumed)


def _asked(name: str, cache: Any, report: Report, what: str, question: Callable[[Any], Any]) -> Any:
    """Ask a side for something; what it raises is charged to it, and counts as nothing."""
    found = tried(report, name, question, cache)
    return report.misbehaved(name, what, found.error) if type(found) is Unreadable else found


def _declared(name: str, cache: Any, report: Report, assumed: list[str]) -> CachePolicy | None:
    """Return what a side declares. What else its policy() may be is its own business, and said."""
    policy = tried(report, name, _policy, cache)
    known = type(policy) is CachePolicy and policy.kind in get_args(PolicyKind)
    if known and (policy.kind == "undeclared" or _are_sizes(policy.capacities)):
        declared: CachePolicy = policy
        return declared
    if policy is not None:
        raised = type(policy) is Unreadable
        said = f"raised {type(policy.error).__name__}" if raised else f"answered {words.told(policy, repr, 200)}"
        assumed.append(f"{name}: policy() {said}, which is no shadow.CachePolicy of a kind that is known")
    return None


def _policy(cache: Any) -> Any:
    declare = offered(cache, "policy")
    return declare() if callable(declare) else None


def _are_sizes(capacities: Any) -> bool:
    return type(capacities) is CacheCapacities and all(
        type(size) is int and 0 < size < 1 << 40 for size in (capacities.init, capacities.recur, capacities.wm)
    )


def _env_num(cache: Any) -> int | None:
    number = offered(cache, "env_num")
    with suppress(TypeError):
        return index(number) if not isinstance(number, bool) and 0 < index(number) <= _MOST_ENVS else None
    return None


def _asked_for(cache: Any, envs: int | None) -> CacheCapacities | None:
    """Return what the config that a side carries asks for, if that says anything of sizes."""
    config = offered(cache, "config")
    if config is None or envs is None:
        return None
    with suppress(ValueError, TypeError):
        if any(read_field(config, name) is not None for name in _SIZES):
            return CacheCapacities.from_config(config, envs)
    return None

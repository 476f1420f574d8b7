"""What both sides promise: how large they are, and whom they evict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from operator import index
from typing import Any, get_args

from shadow.interface import CacheCapacities, CachePolicy, PolicyKind, offered, read_field

_UNDECLARED = CachePolicy("undeclared", CacheCapacities(0, 0, 0), live_results=None)
_SIZES = ("num_simulations", "max_cache_size", "game_segment_length", "cache_capacity_rule")


def policies(control: Any, candidate: Any) -> tuple[CachePolicy, CachePolicy, int | None, list[str]]:
    """Find out what both sides promise.

    The kind of eviction is what each side declares. The capacities are one yardstick for both: what the shared config
    asks for where a side carries one, else what the control declares. A side that differs is off, not excused. Of a
    side that says nothing, presence is judged by agreement only.

    Args:
        control: Trusted cache.
        candidate: New cache.

    Returns:
        Policy of the control, of the candidate, number of envs if either says it, and what had to be assumed, one
        sentence each.
    """
    sides = {"control": control, "candidate": candidate}
    assumed: list[str] = []
    declared = {name: _declared(name, cache, assumed) for name, cache in sides.items()}
    envs = next((n for n in map(_env_num, sides.values()) if n), None)
    asked = {name: _asked_for(cache, envs) for name, cache in sides.items()}
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
    return found[0], found[1], envs, assumed


def _declared(name: str, cache: Any, assumed: list[str]) -> CachePolicy | None:
    declare = offered(cache, "policy")
    if not callable(declare):
        return None
    try:
        policy = declare()
        if isinstance(policy, CachePolicy) and policy.kind in get_args(PolicyKind):
            return policy
        said = f"answered {policy!r}"[:200]
    except Exception as error:
        said = f"raised {type(error).__name__}"
    assumed.append(f"{name}: policy() {said}, which is no shadow.CachePolicy of a kind that is known")
    return None


def _env_num(cache: Any) -> int | None:
    number = offered(cache, "env_num")
    with suppress(TypeError):
        return None if isinstance(number, bool) or index(number) < 1 else index(number)
    return None


def _asked_for(cache: Any, envs: int | None) -> CacheCapacities | None:
    """Return what the config that a side carries asks for, if that says anything of sizes."""
    config = offered(cache, "config")
    if config is None or envs is None:
        return None
    with suppress(Exception):  # a stranger's config may be anything
        if any(read_field(config, name) is not None for name in _SIZES):
            return CacheCapacities.from_config(config, envs)
    return None

"""What both sides promise: how large they are, and whom they evict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from shadow.interface import CacheCapacities, CachePolicy


def policies(control: Any, candidate: Any) -> tuple[CachePolicy, CachePolicy, int, list[str]]:
    """Find out what both sides promise.

    The kind of eviction is what each side declares. The capacities are one yardstick for both: what the shared config
    asks for where a side carries one, else what the control declares. A side that differs is off, not excused.

    Args:
        control: Trusted cache.
        candidate: New cache.

    Returns:
        Policy of the control, of the candidate, number of envs, and what had to be assumed, one sentence each.

    Raises:
        ValueError: If nothing says how large either side is.
    """
    declared = {name: _declared(cache) for name, cache in (("control", control), ("candidate", candidate))}
    envs = next((n for n in (getattr(side, "env_num", None) for side in (control, candidate)) if isinstance(n, int)), 0)
    wanted = None
    for side in (control, candidate):
        if wanted is None and envs and getattr(side, "config", None) is not None:
            with suppress(ValueError):
                wanted = CacheCapacities.from_config(side.config, envs)
    stated = [policy.capacities for policy in declared.values() if policy is not None]
    if wanted is None or (stated and wanted not in stated):
        wanted = stated[0] if stated else wanted
    if wanted is None:
        raise ValueError(
            "neither control nor candidate says how many entries it may hold; give one of them a policy() method that "
            "returns shadow.CachePolicy, or the attributes config and env_num"
        )
    assumed = []
    found = []
    for name, policy in declared.items():
        if policy is None:
            assumed.append(f"{name} declares no policy; FIFO with {wanted} is assumed")
        elif policy.capacities != wanted:
            assumed.append(f"{name} declares {policy.capacities}, but {wanted} is what both are held to")
        found.append(
            CachePolicy("fifo", wanted, live_results=None) if policy is None else replace(policy, capacities=wanted)
        )
    return found[0], found[1], envs or wanted.wm, assumed


def _declared(cache: Any) -> CachePolicy | None:
    declare = getattr(cache, "policy", None)
    policy = declare() if callable(declare) else None
    return policy if isinstance(policy, CachePolicy) else None

"""Faults planted in hosts, which both caches share: each is charged to the host, by recomputing without a cache."""

from __future__ import annotations

from importlib.util import find_spec

from validator.proof.hosts.planted import PlantedInHost
from validator.proof.hosts.unizero import PLANTED_IN_UNIZERO


def planted_in_hosts() -> tuple[PlantedInHost, ...]:
    """List the faults of all hosts that are installed here."""
    if find_spec("transformers") is None:
        return PLANTED_IN_UNIZERO
    from validator.proof.hosts.transformers import PLANTED_IN_TRANSFORMERS

    return (*PLANTED_IN_UNIZERO, *PLANTED_IN_TRANSFORMERS)

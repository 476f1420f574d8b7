"""Which faults could a host show, and which would it never? Read from what an unfaulted, watched run exercised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from reports.record.run import Run
from reports.record.words import Outcome
from validator.proof.appends.faults import PlantedAppend
from validator.proof.faults.planted import Planted
from validator.proof.hosts.planted import PlantedInHost

AnyPlanted: TypeAlias = Planted | PlantedAppend | PlantedInHost

_LAYERS = re.compile(r"sets_of_(\d{1,6})_layers")
NEVER = {
    "evictions": "never evicts",
    "overwrites": "never sets a key that is alive",
    "hits": "never finds what it looks up",
    "misses": "never misses",
    "lookups_of_both_pools": "never looks up in two pools at once",
    "clears_all": "never clears everything",
    "clears_recur": "never clears the recurrent pool",
    "clears_init_env": "never clears one env's init pool",
    "envs": "has no second env",
    "layers": "has no second layer",
    "keys_alike_in_32_bits": "has no two keys alike in 32 bits, as far as anybody counts",
    "removals": "never removes an entry",
    "clears": "never clears",
    "crop": "never crops",
    "reset": "never resets",
    "reorder_cache": "never reorders beams",
    "batch_repeat_interleave": "never repeats rows",
    "batch_select_indices": "never selects rows",
}
"""What a host did not exercise, by what a fault needs; what a run counts in its coverage has the same name there."""


def exercised(runs: Iterable[Run]) -> frozenset[str]:
    """Return the names of ``NEVER`` that runs did exercise."""
    found: set[str] = set()
    for run in runs:
        totals = run.totals
        found |= {name for name, count in totals.coverage.items() if count}
        outcomes = totals.outcomes()
        found |= {"hits"} if outcomes[Outcome.BOTH_HIT_EQUAL.value] else set()
        found |= {"misses"} if outcomes[Outcome.BOTH_MISS.value] else set()
        found |= {"envs"} if sum(map(bool, totals.envs.values())) > 1 else set()
        found |= {"layers" for name in found if (match := _LAYERS.fullmatch(name)) and int(match[1]) > 1}
        found |= {"clears" for name in found if name.startswith("clears_")}
    return frozenset(found & NEVER.keys())


def lacking(planted: AnyPlanted, done: frozenset[str]) -> str:
    """Say why a host would never show a fault, or nothing."""
    return ", ".join(NEVER[need] for need in planted.needs if need not in done)


def handful(planted: Sequence[AnyPlanted], done: frozenset[str]) -> Iterator[AnyPlanted]:
    """Choose of what a host could show: a fault of each family, and one for each thing that it does."""
    seen: set[tuple[str, str]] = set()
    for each in planted:
        kinds = {(each.shape, kind) for kind in (each.family, *each.needs)}
        if not kinds <= seen and not lacking(each, done):
            seen |= kinds
            yield each

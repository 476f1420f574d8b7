"""Trainings with one cache alone, as ``kv-lockstep ab`` records them, that a policy passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.record.trainings import Training, Trainings

CONTROL, CANDIDATE = "shadow.legacy.LegacyKVCache", "shadow.manager.KVCacheManager"
DIGESTS = {"actions": "aa", "weights": "bb"}


def training(seed: int, side: str, **changes: Any) -> Training:
    about: dict[str, Any] = {
        "cache": CONTROL if side == "control" else CANDIDATE,
        "source": "1234",
        "env_steps": 1000,
        "updates": 50,
        "episodes": 40,
        "cpu_s": 5.0 + seed / 10,
        "wall_s": 9.0,
        "peak_bytes": 300_000_000 + seed,
        "lookups": 10_000,
        "hits": 9_900 - seed,
        "mean_return": 20.0 + seed,
        "mean_loss": 4.0 + seed / 10,
        "digests": DIGESTS | {"seed": str(seed)},
    }
    return Training(seed, side, **{**about, **changes})


def trainings_of(*changed: Training, seeds: int = 3, **changes: Any) -> Trainings:
    """An A/B that the policy passes, unless trainings or changes say otherwise."""
    sound = [training(seed, side) for seed in range(seeds) for side in ("control", "candidate")]
    instead = {(each.seed, each.side): each for each in changed}
    listed = [instead.get((each.seed, each.side), each) for each in sound]
    about: dict[str, Any] = {"path": Path("runs/ab-one"), "state": "complete", "manifest": {"repeatable": True}}
    return Trainings(**{**about, "trainings": listed, **changes})

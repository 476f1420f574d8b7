"""Trainings with one cache alone, as they were recorded: what ``kv-lockstep ab`` writes and the gate judges.

On disk, one JSON file ``ab.json`` in a directory of its own beside the runs: ``schema, kind`` ("ab"), ``ab_id, created,
state, host, ran`` (what was run, in words), ``repeatable, seeds, config`` and more of what ran as in ``run.json``, then
``trainings`` (each a ``Training``) and ``first_differences`` (each a ``FirstDifference``). What else it holds
(``verdict, demands``) was derived from these and is for people; the gate derives it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

AB_FILE: Final = "ab.json"
AB_KIND: Final = "ab"
SIDES: Final = ("control", "candidate")


@dataclass(frozen=True, slots=True)
class Training:
    """One training with one cache alone, in a process of its own.

    Attributes:
        seed: Its seed.
        side: ``control`` or ``candidate``.
        cache: Class of the cache that served the model, as constructed.
        source: Digest of the source of that class, as ``sources`` in a run's ``cache`` lines; empty without source.
        device: ``cuda`` if the process computed there, else ``cpu``.
        env_steps: Env steps it took.
        updates: Weight updates it took.
        episodes: Episodes it finished.
        cpu_s: Processor time from the moment the cache was built, seconds.
        wall_s: Wall time over the same.
        peak_bytes: Most memory the process held: of the device on ``cuda``, else resident.
        lookups: Lookups that the model made.
        hits: Lookups that were answered.
        mean_return: Mean undiscounted return of the last 20 finished episodes; None without any.
        mean_loss: Mean total loss of the last fifth of the updates; None without any.
        digests: Hash of everything of one kind that happened, by kind: ``searches, actions, rewards, returns, losses,
            weights``; empty if the host can't be followed that closely.
        error: Why it does not count; empty if it ended in order.
    """

    seed: int
    side: str
    cache: str = ""
    source: str = ""
    device: str = "cpu"
    env_steps: int = 0
    updates: int = 0
    episodes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    lookups: int = 0
    hits: int = 0
    mean_return: float | None = None
    mean_loss: float | None = None
    digests: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def s_per_env_step(self) -> float | None:
        """Seconds per env step: of the processor where it computes, of the wall where it waits for a device."""
        return (self.cpu_s if self.device == "cpu" else self.wall_s) / self.env_steps if self.env_steps else None

    @property
    def hit_rate(self) -> float | None:
        """Share of the lookups that were answered; None without any."""
        return self.hits / self.lookups if self.lookups else None


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where two trainings of one seed parted.

    Attributes:
        seed: Their seed.
        quantity: What differed first: ``searches, actions, rewards, returns, losses, weights``, or ``length``.
        env_step: Env steps before it.
        train_iter: Weight updates before it.
        control: What it was with the control.
        candidate: What it was with the candidate.
    """

    seed: int
    quantity: str
    env_step: int
    train_iter: int
    control: str
    candidate: str

    def __str__(self) -> str:
        at = f"seed {self.seed}: {self.quantity} differ first at env step {self.env_step}, iteration {self.train_iter}"
        return f"{at} ({self.control:.60} with the control, {self.candidate:.60} with the candidate)"


@dataclass(slots=True)
class Trainings:
    """One ``ab.json``, read or about to be written.

    Attributes:
        path: The directory it lies in.
        state: ``complete`` once every training was run, ``running`` before, ``interrupted`` if someone stopped it.
        manifest: Everything in it beside the following.
        trainings: The trainings, in the order they ran.
        differences: Where trajectories of one seed parted, if they did.
        problems: What could not be read, one sentence each.
    """

    path: Path
    state: str
    manifest: dict[str, Any] = field(default_factory=dict)
    trainings: list[Training] = field(default_factory=list)
    differences: list[FirstDifference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def repeatable(self) -> bool:
        """Whether two trainings of one seed with one cache are the same on this host."""
        return self.manifest.get("repeatable") is True

    def pairs(self) -> list[tuple[Training, Training]]:
        """Return control and candidate of every seed that has one of each, whether or not they count."""
        by: dict[str, dict[int, Training]] = {side: {} for side in SIDES}
        for training in self.trainings:
            if training.side in by:
                by[training.side][training.seed] = training
        control, candidate = (by[side] for side in SIDES)
        return [(control[seed], candidate[seed]) for seed in control if seed in candidate]

    def caches(self, side: str) -> set[tuple[str, str]]:
        """Return class and source digest of every cache that served a side."""
        return {(each.cache, each.source) for each in self.trainings if each.side == side and each.cache}

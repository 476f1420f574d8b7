"""What a gate policy demands of trainings with one cache alone: its table ``[training]``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class TrainingPolicy:
    """What ``kv-lockstep ab`` must have shown. Margins are shares of the control's mean: 0.05 allows 5 % worse.

    A margin of ``inf`` demands nothing of that kind.

    Attributes:
        seeds: Seeds with which both sides must have trained to the end.
        trajectories: Whether both sides must have done the same to the last bit, on a host that repeats itself. Of one
            that does not (LightZero seeds its tree search from the clock) it is not demanded.
        returns: Margin of the mean return of the last episodes.
        loss: Margin of the mean loss of the last updates.
        time: Margin of the time per env step.
        memory: Margin of the peak memory of the process.
        hit_rate: Margin of the share of lookups that were answered.
    """

    seeds: int = 3
    trajectories: bool = True
    returns: float = 0.05
    loss: float = 0.05
    time: float = 0.05
    memory: float = 0.05
    hit_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, got {self.seeds}: one pair gives no interval")
        margins = {field.name: getattr(self, field.name) for field in fields(self) if field.type == "float"}
        for name, margin in margins.items():
            if not margin >= 0:
                raise ValueError(f"{name} must be a margin of at least 0, such as 0.05 for 5 %, got {margin}")
        if not self.trajectories and all(map(math.isinf, margins.values())):
            raise ValueError("it demands nothing: give at least one margin below inf, or trajectories = true")

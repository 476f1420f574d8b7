"""Holds two append caches against what was appended, on adversarial streams without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from validator.proof.appends.proof import AppendTrial
from validator.proof.appends.stream import calls
from validator.proof.conformance import Conformance
from validator.proof.shrink import shortest
from validator.proof.stream import Step

Make = Callable[[], Any]
_CHUNK = 300  # calls on one pair of fresh caches
_CANT = "not comparable: "  # before what a side declares that it can't do; later streams are without it
_ROOM = 64  # tokens that every cache must have room for


def append_conformance(
    control: Make,
    candidate: Make,
    operations: int,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Conformance:
    """Play streams on both caches under both primaries, and judge every answer.

    Args:
        control: Makes a trusted cache, of 2 layers at least and with room for 64 tokens.
        candidate: Makes a new one.
        operations: Calls in all.
        seed: Same seed, same streams.
        on_progress: Told now and then how many calls are done.

    Returns:
        What was charged, with a shortest stream for each cause and side; ``expected`` stays empty.
    """
    result = Conformance()
    dropped: Counter[str] = Counter()
    for number in range(-(-operations // _CHUNK)):
        primary = ("control", "candidate")[number % 2]
        made = calls(_windows(control), seed + number, _ROOM, {name.removeprefix(_CANT) for name in dropped})
        stream = list(islice(made, min(_CHUNK, operations - result.operations)))
        trial = _played(control, candidate, primary, stream)
        result.operations += trial.operations
        result.charges.update(trial.causes())
        result.harness_faults += [repr(each) for each in trial.failures]
        result.compared += trial.compared
        dropped.update({name: count for name, count in trial.pair.counters.coverage.items() if name.startswith(_CANT)})
        for divergence in trial.divergences:
            group = divergence.cause, divergence.fault
            if group not in result.programs:

                def shows(part: Sequence[Step], primary: str = primary, group: Any = group) -> bool:
                    return group in _played(control, candidate, primary, part).causes()

                result.programs[group] = (shortest(stream, shows), divergence.explanation)
        if on_progress is not None:
            on_progress(result.operations)
    result.not_exercised = [f"{name} ({count:,} times)" for name, count in dropped.items()]
    return result


def _windows(make: Make) -> tuple[int | None, ...]:
    """Return the windows of a new cache; two layers that keep everything where it makes its layers later."""
    layers = list(getattr(make(), "layers", ()))
    found = []
    for layer in layers:
        window = getattr(layer, "sliding_window", None)
        found.append(
            getattr(layer, "max_cache_len", None) if window is None and getattr(layer, "is_sliding", False) else window
        )
    return tuple(found) or (None, None)


def _played(control: Make, candidate: Make, primary: str, stream: Sequence[Step]) -> AppendTrial:
    trial = AppendTrial(control(), candidate(), primary)
    trial.play(stream)
    trial.finish()
    return trial

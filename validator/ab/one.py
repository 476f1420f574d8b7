"""One training with one cache alone: ``python -m validator.ab.one SPECIFICATION``, a process of its own each.

The specification is JSON: ``host`` (``unizero`` or ``lightzero``), ``side``, ``seed``, and what the host needs. Told on
standard output, a JSON object a line: ``env_steps`` as it goes, and at the end ``training`` and ``trajectory``. What
the training itself prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from validator.ab.alone import AloneSession, Counted
from validator.ab.meter import Meter

_TELL_EVERY_S = 0.5

Tell = Callable[..., None]


def main(specification: str) -> None:
    """Train as the specification says, and tell."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**what: Any) -> None:
        told.write(json.dumps(what) + "\n")
        told.flush()

    spec = json.loads(specification)
    (_lightzero if spec["host"] == "lightzero" else _embedded)(spec, tell)


def _embedded(spec: Mapping[str, Any], tell: Tell) -> None:
    from shadow.hosts.unizero import Progress, TrainConfig, train
    from shadow.settings import from_mapping
    from validator.ab.trajectory import Trajectory

    config = from_mapping(TrainConfig, spec["config"], "ab")
    meter, trajectory, stepped = Meter(), Trajectory(), _seldom(tell)

    def progressed(now: Progress) -> None:
        trajectory.learned(now.env_steps, now.train_iter, now.losses)
        stepped(now.env_steps)

    def built(cache: Any) -> Any:
        counted = Counted(cache)
        meter.built(counted)
        return counted

    result = train(config, on_progress=progressed, on_step=trajectory.stepped, on_cache=built)
    found = meter.read([episode.value for episode in result.episode_returns], [each.total for each in result.losses])
    trajectory.ended(result)
    found |= {"env_steps": result.env_steps, "updates": result.train_iters, "digests": trajectory.digests()}
    tell(training=found, trajectory=trajectory.happened)


def _lightzero(spec: Mapping[str, Any], tell: Tell) -> None:
    from shadow.hosts.lightzero import LightZeroMismatch, LightZeroMissing, install
    from shadow.hosts.lightzero.outcomes import listen
    from shadow.hosts.lightzero.overrides import override
    from shadow.settings import SettingsError
    from validator.script import run_script

    meter = Meter()
    session = AloneSession(meter.built, _seldom(tell))
    returns: list[float] = []
    losses: list[float] = []
    refusals = (LightZeroMismatch, LightZeroMissing, SettingsError)
    try:
        install(lambda settings, about: session, force=True)
        listen(returns.append, losses.append)
        override(spec["settings"], lambda text: print(text, file=sys.stderr))
        ending = run_script(Path(spec["script"]), spec["args"], passed_on=refusals)
    except refusals as refused:
        tell(refused=str(refused))
        return
    found = meter.read(returns, losses)
    if ending.code:
        found["error"] = f"{spec['script']} ended with exit code {ending.code}"
    elif session.faults and not found["error"]:
        found["error"] = f"{len(session.faults)} operations did not reach the cache: {session.faults[0]:.200}"
    tell(training={**found, "env_steps": session.env_steps, "updates": len(losses)}, trajectory=[])


def _seldom(tell: Tell) -> Callable[[int], None]:
    told_at = 0.0

    def progressed(env_steps: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            tell(env_steps=env_steps)

    return progressed


if __name__ == "__main__":
    main(sys.argv[1])

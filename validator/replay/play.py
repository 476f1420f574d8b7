"""Plays traces under the whole harness, as a run of its own."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shadow.switch import HostPromises
from validator.proof.stream import Player
from validator.replay.bodies import Bodies
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.session import Lockstep

_AT_ONCE = 2048  # records between two looks at who wants to know


class _Host:
    """Tells a session what was recorded of one pair's life cycle."""

    def __init__(self, lockstep: Lockstep, cache: Any) -> None:
        self._lockstep = lockstep
        self._cache = cache

    def weights_updated(self) -> None:
        self._lockstep.weights_updated(self._cache)

    def episode_ended(self, env_id: int) -> None:
        self._lockstep.episode_ended(env_id, self._cache)

    def search_started(self) -> None:
        self._lockstep.search_started(self._cache)


class Replay:
    """Plays the traces of one run into a session, originals before their copies.

    Args:
        lockstep: The session.
        on_progress: Told how many records are played.

    Attributes:
        operations: Cache operations played.
        left_out: What could not be played, with how often.
        names: Name of each pair as it was recorded, with its rank, to its name now.
    """

    def __init__(self, lockstep: Lockstep, on_progress: Callable[[int], None] | None = None) -> None:
        self.operations = 0
        self.left_out: Counter[str] = Counter()
        self.names: dict[tuple[int, str], str] = {}
        self._lockstep = lockstep
        self._tell = on_progress
        self._done = 0
        self._copies: dict[tuple[int, str], list[tuple[Any, str]]] = {}
        self._bodies: dict[str, Bodies] = {}  # shared, so that what was equal in two pairs stays equal

    def play(self, program: Program, sides: Sides) -> None:
        """Play one trace to its end."""
        about = program.about
        rank, name, original = int(about.get("rank", 0)), str(about.get("cache", "cache")), about.get("copy_of")
        copies = self._copies.get((rank, str(original)), []) if original else []
        own = promises if _are_promises(promises := about.get("promises")) else None
        if copies:
            cache, self.names[rank, name] = copies.pop(0)
        else:
            control, candidate = sides.build()
            cache = self._lockstep.shadow(
                control=control,
                candidate=candidate,
                primary=sides.primary,
                name=name,
                promises=None if own is None else HostPromises(**own),
                shape=sides.kind.shape(sides.config),
            )
            if original:
                self.left_out["pairs that began as a copy, and begin empty here"] += 1
            self.names[rank, name] = self._lockstep.pairs[-1].name
        self.left_out.update(program.left_out)
        bodies = self._bodies.setdefault(sides.kind.name, sides.kind.bodies({}))
        bodies.kept.update(program.kept)
        player = sides.kind.player(cache, _Host(self._lockstep, cache), bodies)
        copied = self._copies.setdefault((rank, name), [])
        begin = 0
        for end in (*program.copied_at.tolist(), len(program)):
            self._play(program, player, begin, end)
            if end < len(program):
                copied.append((copy.deepcopy(cache), self._lockstep.pairs[-1].name))
            begin = end
        if bodies.stand_ins:
            named = ", ".join(sorted(bodies.stand_ins))
            self.left_out[f"classes of entries, for which others stand in ({named:.200})"] = len(bodies.stand_ins)

    def _play(self, program: Program, player: Player, begin: int, end: int) -> None:
        """Play a stretch; where the training stood is told wherever that was recorded."""
        told = np.flatnonzero(program.is_life[begin:end]) + begin
        cuts = np.unique(np.concatenate([told, np.arange(begin, end, _AT_ONCE), [end]]))
        is_told = set(told.tolist())
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            if start in is_told:
                iteration, step = program.progress_at(start)
                self._lockstep.progress(train_iter=iteration, env_step=step)
            self.operations += player.play_all(program.steps(np.arange(start, stop)))
            self._done += stop - start
            if self._tell is not None:
                self._tell(self._done)


def settings_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a replay takes over from the run that it plays; its looks do not depend on the clock."""
    said = manifest.get("validation")
    kept = ("rtol", "atol", "history", "max_divergences", "audit_share", "digest_share", "deferred", "selftest", "seed")
    settings = {name: said[name] for name in kept if name in said} if isinstance(said, Mapping) else {}
    return {**settings, "overhead_budget": 0.0, "stall_warning_s": 0.0}


def about_replay(manifest: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return what the manifest of a replay says: what the gate asks of a run, and that this one was replayed."""
    kept = ("num_layers", "env_num", "seed", "switches")
    return {name: manifest[name] for name in kept if name in manifest} | {"host": "replay", "replayed": more}


def _are_promises(found: Any) -> bool:
    names = set(HostPromises.__dataclass_fields__)
    return isinstance(found, Mapping) and set(found) <= names and all(type(value) is bool for value in found.values())

"""What happened in a training, step by step and cheaply, and where two of them parted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from reports.record.trainings import FirstDifference
from shadow.hosts.unizero import TrainResult, VectorStep
from shadow.hosts.unizero.learner import Losses

KINDS = ("searches", "actions", "rewards", "returns", "losses", "weights")


class Happened(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: One of ``KINDS``.
        env_step: Env steps before it.
        train_iter: Weight updates before it.
        value: What it was, exactly: text in which every bit of a number shows, or a hash.
    """

    kind: str
    env_step: int
    train_iter: int
    value: str


class Trajectory:
    """Records an embedded training as it goes.

    Attributes:
        happened: Everything so far, in order.
    """

    def __init__(self) -> None:
        self.happened: list[Happened] = []
        self._train_iter = 0

    def stepped(self, step: VectorStep) -> None:
        """Record a vector step: what the searches came to, what was done, what the envs answered."""
        digest = xxhash.xxh64()
        for env_id, searched in step.searched.items():
            digest.update(f"{env_id} {searched.value!r}".encode())
            digest.update(searched.visits.tobytes())
        self._add("searches", step.env_steps, digest.hexdigest())
        self._add("actions", step.env_steps, str(step.actions))
        rewards = {env_id: answer.reward for env_id, answer in step.answers.items()}
        self._add("rewards", step.env_steps, str(rewards))

    def learned(self, env_steps: int, train_iter: int, losses: Losses | None) -> None:
        """Record a burst of updates, if there was one since the last call."""
        if losses is not None and train_iter > self._train_iter:
            self._add("losses", env_steps, " ".join(map(repr, losses)))
        self._train_iter = train_iter

    def ended(self, result: TrainResult) -> None:
        """Record what is only known at the end: returns and weights."""
        for episode in result.episode_returns:
            self._add("returns", episode.env_step, f"{episode.value!r} in env {episode.env_id}")
        self._add("weights", result.env_steps, result.weights_digest)

    def digests(self) -> dict[str, str]:
        """Return a hash of everything of each kind."""
        digests = {kind: xxhash.xxh64() for kind in KINDS}
        for one in self.happened:
            digests[one.kind].update(f"{one.env_step} {one.train_iter} {one.value};".encode())
        return {kind: digest.hexdigest() for kind, digest in digests.items()}

    def _add(self, kind: str, env_step: int, value: str) -> None:
        self.happened.append(Happened(kind, env_step, self._train_iter, value))


def first_difference(seed: int, control: Sequence[Happened], candidate: Sequence[Happened]) -> FirstDifference | None:
    """Find where two trajectories of one seed parted.

    Args:
        seed: Their seed.
        control: What happened with the control, in order.
        candidate: What happened with the candidate.

    Returns:
        The first thing that differs, or None if everything is the same.
    """
    for one, other in zip(control, candidate, strict=False):
        if one != other:
            # Where one side did another kind of thing, the earlier of the two is where they parted.
            at = min(one, other, key=lambda each: (each.env_step, each.train_iter))
            return FirstDifference(seed, at.kind, at.env_step, at.train_iter, one.value, other.value)
    if len(control) != len(candidate):
        longer = max(control, candidate, key=len)
        at = longer[min(len(control), len(candidate))]
        return FirstDifference(seed, "length", at.env_step, at.train_iter, str(len(control)), str(len(candidate)))
    return None

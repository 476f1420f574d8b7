"""Which actions a tree search prefers: pUCT over the trees of several envs, all advancing together.

Formulas follow MuZero (Schrittwieser et al. 2020, appendix B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shadow.hosts.unizero.config import TrainConfig
from shadow.hosts.unizero.world_model import Inferred, Latents

C_INIT = 1.25
C_BASE = 19652.0
SMALLEST_SPREAD = 0.01  # below this, differences between values are noise and are not blown up to [0, 1]


class Model(Protocol):
    """What the search needs of a world model."""

    def recurrent_inference(self, env_ids: Sequence[int], latents: Latents, actions: Sequence[int]) -> Inferred: ...


class Searched(NamedTuple):
    """What the search found out about one root.

    Attributes:
        visits: Visits per action ``(num_actions,)``.
        value: Mean value of the root.
    """

    visits: NDArray[np.float32]
    value: float


class Node:
    """One node: an action taken from its parent. It has children once it was expanded."""

    __slots__ = ("children", "latent", "prior", "reward", "value_sum", "visits")

    def __init__(self, prior: float) -> None:
        self.prior = prior
        self.visits = 0
        self.value_sum = 0.0
        self.reward = 0.0
        self.latent: Latents | None = None
        self.children: list[Node] = []

    def expand(self, latent: Latents, reward: float, priors: Sequence[float]) -> None:
        """Give the node its latent and one child per action."""
        self.latent = latent
        self.reward = reward
        self.children = [Node(prior) for prior in priors]


class Tree:
    """The tree of one env.

    Args:
        latent: Latent of the root.
        priors: Probability per action, noise mixed in.
        discount: Discount per step.
    """

    def __init__(self, latent: Latents, priors: Sequence[float], discount: float) -> None:
        self.discount = discount
        self.root = Node(1.0)
        self.root.expand(latent, 0.0, priors)
        self.lowest = math.inf
        self.highest = -math.inf

    def descend(self) -> list[Node]:
        """Follow the best children down to a node without any; the path starts at the root."""
        node = self.root
        path = [node]
        while node.children:
            node = node.children[self._best(node)]
            path.append(node)
        return path

    def back_up(self, path: list[Node], value: float) -> None:
        """Credit the value of the last node of a path to all of it."""
        for node in reversed(path):
            node.value_sum += value
            node.visits += 1
            value = node.reward + self.discount * value
            if node is not self.root:
                mean = node.reward + self.discount * node.value_sum / node.visits
                self.lowest = min(self.lowest, mean)
                self.highest = max(self.highest, mean)

    def _best(self, node: Node) -> int:
        """Pick the action of the highest pUCT score, the first of equals; actions not tried count as average."""
        explore = (math.log((node.visits + C_BASE + 1) / C_BASE) + C_INIT) * math.sqrt(node.visits or 1)
        spread = max(self.highest - self.lowest, SMALLEST_SPREAD)
        means = [
            (child.reward + self.discount * child.value_sum / child.visits - self.lowest) / spread
            if child.visits
            else None
            for child in node.children
        ]
        tried = [mean for mean in means if mean is not None]
        average = sum(tried) / len(tried) if tried else 0.0
        best, highest = 0, -math.inf
        for action, (child, mean) in enumerate(zip(node.children, means, strict=True)):
            score = (average if mean is None else mean) + child.prior * explore / (1 + child.visits)
            if score > highest:
                best, highest = action, score
        return best


def search(
    model: Model, env_ids: Sequence[int], roots: Inferred, config: TrainConfig, rng: np.random.Generator
) -> list[Searched]:
    """Search from the roots of several envs; each simulation is one batched step of the model.

    Args:
        model: World model that holds the roots' entries.
        env_ids: B envs.
        roots: What the model said of the B roots.
        config: Simulations, discount, and the noise at the root.
        rng: Where the noise is drawn from.

    Returns:
        Visits and value per root.
    """
    num_actions = len(roots.priors[0])
    noise = rng.dirichlet([config.noise_alpha] * num_actions, size=len(env_ids))
    mixed = (1 - config.noise_share) * np.asarray(roots.priors) + config.noise_share * noise
    trees = [
        Tree(latent, priors, config.discount) for latent, priors in zip(roots.latents, mixed.tolist(), strict=True)
    ]
    for tree, value in zip(trees, roots.values, strict=True):
        tree.back_up([tree.root], value)
    for _ in range(config.simulations):
        paths = [tree.descend() for tree in trees]
        parents = [path[-2] for path in paths]
        latents = np.stack([parent.latent for parent in parents if parent.latent is not None])
        actions = [parent.children.index(path[-1]) for parent, path in zip(parents, paths, strict=True)]
        step = model.recurrent_inference(env_ids, latents, actions)
        for row, (tree, path) in enumerate(zip(trees, paths, strict=True)):
            path[-1].expand(step.latents[row], step.rewards[row], step.priors[row])
            tree.back_up(path, step.values[row])
    return [
        Searched(
            np.array([child.visits for child in tree.root.children], dtype=np.float32),
            tree.root.value_sum / tree.root.visits,
        )
        for tree in trees
    ]

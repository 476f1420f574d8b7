"""Values as classes: MuZero's invertible scaling, and scalars spread over two neighbouring atoms."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 0.001


def scale(value: Tensor) -> Tensor:
    """Compress values: ``sign(x) (sqrt(|x| + 1) - 1) + eps x`` (MuZero, appendix F; Pohlen et al. 2018)."""
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + EPSILON * value


def unscale(scaled: Tensor) -> Tensor:
    """Invert ``scale``."""
    root = (1 + 4 * EPSILON * (scaled.abs() + 1 + EPSILON)).sqrt()
    return scaled.sign() * (((root - 1) / (2 * EPSILON)) ** 2 - 1)


def two_hot(value: Tensor, bound: int) -> Tensor:
    """Spread scaled values over the two atoms next to them.

    Args:
        value: Any shape ``S``.
        bound: Atoms are the whole numbers of ``[-bound, bound]``.

    Returns:
        Probabilities ``(*S, 2 * bound + 1)``.
    """
    position = scale(value).clamp(-bound, bound) + bound
    lower = position.floor().clamp(max=2 * bound - 1)
    weight = (position - lower)[..., None]
    index = lower.long()[..., None]
    probabilities = torch.zeros(*value.shape, 2 * bound + 1, device=value.device)
    probabilities.scatter_(-1, index, 1 - weight)
    return probabilities.scatter_(-1, index + 1, weight)


def expected(logits: Tensor, bound: int) -> Tensor:
    """Return the value that logits ``(*S, 2 * bound + 1)`` stand for, shape ``S``."""
    atoms = torch.arange(-bound, bound + 1, device=logits.device, dtype=logits.dtype)
    return unscale(logits.softmax(-1) @ atoms)

"""What a host's recomputation and the oracle say to each other: what was stored, and what it would be without a cache.

A host that can recompute implements ``Recomputer``; whoever judges, elsewhere, hands it an ``Oracle`` to talk to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from shadow.entries import leaves
from shadow.lent import readable
from shadow.wrapper import process_state

Tensors = Sequence[
    Tensor
]  # keys, then values, of each layer in turn: ``(rows, num_heads, T, head_dim)``, all of it valid
Chosen = Literal["envs", "searches", "sequences"]
# What may explain that something else was stored; the judge has a sentence and a cause for each.
Suspicion = Literal[
    "another env",
    "another row",
    "padded length",
    "padding attended",
    "position off",
    "begins elsewhere",
    "stale",
    "another token",
    "layers mixed",
]


class UnknownModel(ValueError):
    """Says in one sentence what a recomputation looked for in a model and did not find."""


class Suspect(NamedTuple):
    """What would have been stored, had the host made one mistake.

    Attributes:
        what: Which.
        tensors: What would then have been stored.
        detail: What is to be said of it, such as ``env 3``.
    """

    what: Suspicion
    tensors: Tensors
    detail: str = ""


class Place(NamedTuple):
    """Where something is stored: of an operation, its own words.

    Attributes:
        op_index: Ordinal of the operation.
        operation: ``kind.pool``.
        pool: Pool.
        env_id: Environment, or None.
        key: Cache key, or None.
        row: Row of the batch, or None where the entry has one sample.
    """

    op_index: int
    operation: str
    pool: str
    env_id: int | None = None
    key: int | None = None
    row: int | None = None


def no_suspects() -> Iterator[Suspect]:
    """Suspect nothing."""
    return iter(())


class Recomputed(NamedTuple):
    """What should be stored somewhere, computed without any cache.

    Attributes:
        tensors: Valid regions alone, of batch 1.
        again: Computes the same again in a batch of so many equal rows; by it the oracle knows how exact it is.
        suspects: Asked only if something else is stored: what the host may have done, the likeliest first. Each is
            computed when it is drawn.
        first: Position of the first column, for whoever reads of it.
        tokens_alone: Whether values of the first layer depend on the token of their column and on nothing else.
    """

    tensors: Tensors
    again: Callable[[int], Tensors]
    suspects: Callable[[], Iterable[Suspect]] = no_suspects
    first: int = 0
    tokens_alone: bool = False


class Oracle(Protocol):
    """Who judges; a host's recomputation calls it from its own hooks, always inside ``contained``."""

    def choose(self, what: Chosen, count: int) -> frozenset[int]:
        """Choose by a private generator which of so many envs or sequences are followed; none where none is asked."""

    def search_is_followed(self) -> bool:
        """Draw whether the search that begins now is followed whole."""

    def affords(self) -> bool:
        """Tell whether there is time left for a recomputation; if not, that is counted as not judged."""

    def contained(self, step: str, module: nn.Module | None = None) -> AbstractContextManager[None]:
        """Do what the host must never notice: without gradient, the module's hooks off, generators as they were.

        What is raised inside is counted, named and gone: the host goes on. The time it takes is counted too.
        """

    def judge(self, place: Place, held: dict[str, Tensors], expected: Recomputed) -> bool | None:
        """Compare what is stored with what should be, and charge whoever is wrong.

        Args:
            place: Where.
            held: By ``host``, what it gave to store; or by ``control`` and ``candidate``, what these hold.
            expected: What should be there.

        Returns:
            Whether all agree; None if it can't be told.
        """

    def not_judged(self, why: str, count: int = 1) -> None:
        """Count what was left out, and why."""

    def measured(self, what: str, value: float) -> None:
        """Keep a number that is no verdict, such as how inexact a shift of a window is; the greatest is reported."""


class Recomputer(Protocol):
    """What a host implements. It is told of the cache's operations, and hooks into whatever else it must see.

    Attributes:
        host: The object whose methods it hooks into, such as a world model.
    """

    host: Any

    def attach(self, oracle: Oracle) -> None:
        """Hook into the host, before it begins.

        Raises:
            UnknownModel: If this is not what it knows how to recompute; nothing is hooked then.
        """

    def stored(self, place: Place, entry: Any) -> None:
        """See what the host is about to store, before either side does; the entry is its own, only to be read."""

    def looked_up(self, place: Place, answer: Any) -> None:
        """See what the host is answered, None for a miss."""

    def detach(self) -> None:
        """Take all hooks off again."""


def regions(entry: Any) -> list[Tensor]:
    """List the valid regions of an entry, keys and values of each layer in turn, as views of it."""
    found = leaves(readable(entry))
    return [
        tensor.detach()[:, :, :size] if tensor.ndim == 4 and 0 <= size < tensor.shape[2] else tensor.detach()
        for tensor, size in found
    ]


@contextmanager
def undisturbed(module: nn.Module | None) -> Iterator[None]:
    """Compute without gradient and with no hook of the module's called, and leave all generators as they were."""
    before = process_state.state(process_state.GENERATORS)
    hooks = [
        (each, name, kept)
        for each in (module.modules() if module is not None else ())
        for name in ("_forward_hooks", "_forward_pre_hooks")
        if (kept := getattr(each, name))
    ]
    for each, name, kept in hooks:
        setattr(each, name, type(kept)())
    try:
        with torch.no_grad():
            yield
    finally:
        for each, name, kept in hooks:
            setattr(each, name, kept)
        process_state.put_back(before, process_state.GENERATORS)

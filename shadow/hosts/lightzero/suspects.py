"""What an entry of LightZero would be after one mistake; the first that it equals names what the host did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from shadow.hosts.lightzero.lineage import Chain, Lineage, Token
from shadow.interface import read_field
from shadow.recompute import Suspect

_MOST_ACTIONS = 32


class Step(NamedTuple):
    """One step of one row of a batch.

    Attributes:
        before: The history before it, None where it begins one.
        tokens: What it appends.
        row: The row.
        slots: The number of each row's env, as the store counts them.
        found: By that number, what the model found in its cache and put into its batch.
        tokens_of: Makes what other rows append.
    """

    before: Chain | None
    tokens: tuple[Token, ...]
    row: int
    slots: Sequence[int]
    found: Mapping[int, Chain]
    tokens_of: Callable[[int], tuple[Token, ...]]

    @property
    def padding(self) -> int:
        """How many cells its history is padded by in its batch."""
        own = self.found.get(self.slots[self.row])
        return 0 if own is None else max(chain.length for chain in self.found.values()) - own.length


def suspects(lineage: Lineage, step: Step, stored: int) -> Iterator[Suspect]:
    """List what would have been stored after each mistake that is known, the likeliest first.

    Args:
        lineage: Computes it.
        step: The step.
        stored: How many tokens were stored.
    """
    if step.padding and step.before is not None:
        yield from _padded(lineage, step, stored)
    yield from _of_others(lineage, step)
    own = step.found.get(step.slots[step.row])
    if own is not None:  # which is another one than this step should go on from
        yield Suspect("stale", lineage.follow(own, step.tokens_of(step.row)).tensors, "the model went on from it")
        yield Suspect("stale", own.tensors, "nothing was appended to it")
    if step.before is not None:
        yield Suspect("begins elsewhere", lineage.follow(None, step.tokens[-1:]).tensors, "at this very step")
    yield from _elsewhere(lineage, step)
    yield from _after_other_actions(lineage, step)


def _padded(lineage: Lineage, step: Step, stored: int) -> Iterator[Suspect]:
    assert step.before is not None
    detail = f"{step.padding} cells"
    zeros = [_after_zeros(tensor, step.padding) for tensor in step.before.tensors]
    attended = lineage.extend(step.before, step.tokens, padding=step.padding)
    wide = (
        lineage.extend(Chain(zeros, step.before.tokens), step.tokens),
        Chain([_after_zeros(tensor, step.padding) for tensor in attended.tensors], attended.tokens),
    )
    as_history = [Suspect("padded length", lineage.cut(chain).tensors, detail) for chain in wide]
    if stored > lineage.cut(attended).length:
        yield from as_history
    yield Suspect("padding attended", lineage.cut(attended).tensors, detail)
    yield from as_history


def _after_zeros(tensor: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, count, 0))


def _of_others(lineage: Lineage, step: Step) -> Iterator[Suspect]:
    for other, slot in enumerate(step.slots):
        if other == step.row:
            continue
        theirs, chain = step.tokens_of(other), step.found.get(slot)
        if chain is not None:
            for tokens in (step.tokens, theirs):
                yield Suspect("another env", lineage.follow(chain, tokens).tensors, f"env {slot}")
        yield Suspect("another env", lineage.follow(None, theirs[-1:]).tensors, f"env {slot}")
        if step.before is not None:
            yield Suspect("another row", lineage.follow(step.before, theirs).tensors, f"row {other}")


def _elsewhere(lineage: Lineage, step: Step) -> Iterator[Suspect]:
    grown = lineage.extend(step.before, step.tokens)
    if lineage.cut(grown) is not grown:
        yield Suspect("begins elsewhere", grown.tensors, "its window was not cut")
        if not (lineage.rotary or lineage.rebuilds or lineage.begins_anew):
            for detail, change in (
                ("the window was cut, its positions were not set back", lambda *_: 0),
                ("positions were set back twice", lambda *at: 2 * lineage.set_back(*at)),
                ("positions were set back as older weights would", lineage.kept_set_back),
            ):
                yield Suspect("position off", lineage.cut(grown, change).tensors, detail)
    for ahead in (1, -1, 2, -2):
        if lineage.rotary or (0 if step.before is None else step.before.length) + ahead >= 0:
            moved = lineage.extend(step.before, step.tokens, ahead=ahead)
            yield Suspect("position off", lineage.cut(moved).tensors, f"the new tokens stand {ahead:+d}")


def _after_other_actions(lineage: Lineage, step: Step) -> Iterator[Suspect]:
    space = read_field(lineage.model.config, "action_space_size", 0)
    discrete = not getattr(lineage.model, "continuous_action_space", False)
    if step.before is None or len(step.tokens) != 2 or not discrete or space > _MOST_ACTIONS:
        return
    for action in range(space):
        taken = lineage.action(action, step.tokens[0].position)
        yield Suspect("another token", lineage.follow(step.before, (taken, step.tokens[1])).tensors, f"action {action}")

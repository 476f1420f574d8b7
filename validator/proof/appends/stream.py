"""Adversarial streams for append caches: what a host may do, at the edges of windows, batches and resets."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import torch

HEADS, WIDTH = 2, 4
_KINDS = ("reorder_cache", "batch_repeat_interleave", "batch_select_indices", "crop")


class Call(NamedTuple):
    """One call of the host.

    Attributes:
        method: What is called.
        args: With what.
    """

    method: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        shown = ", ".join(
            f"tensor{tuple(each.shape)}" if isinstance(each, torch.Tensor) and each.ndim > 1 else f"{each}"
            for each in self.args
        )
        return f"{self.method}({shown})"


def calls(
    windows: tuple[int | None, ...], seed: int = 0, room: int = 1 << 30, without: Container[str] = ()
) -> Iterator[Call]:
    """Make calls without end: a prefill of every edge, tokens, what rearranges, and a reset before the room is full.

    Args:
        windows: The window of each layer.
        seed: Same seed, same calls.
        room: Tokens that fit.
        without: What is not done, since a side can't: methods, and ``rows`` for another number of rows.
    """
    draw = torch.Generator().manual_seed(seed)
    edges = sorted({each for window in windows if window for each in (window - 1, window, window + 1)}) or [3, 5]
    narrowest = min((window for window in windows if window), default=None)

    def below(most: int) -> int:
        return int(torch.randint(most, (), generator=draw))

    def appended(tokens: int) -> Iterator[Call]:
        for layer in range(len(windows)):
            keys, values = (torch.randn(rows, HEADS, tokens, WIDTH, generator=draw) for _ in range(2))
            yield Call("update", (keys, values, layer))

    rows = 2
    while True:
        rows, seen = 1 + below(3) if "rows" not in without else rows, 0
        for _ in range(2 + below(3)):
            tokens = ([0, 1, *edges])[below(2 + len(edges))]
            for each in (tokens, *[1] * (1 + below(3))):
                if seen + each <= room:
                    yield from appended(each)
                    seen += each
            kind = below(4)
            if not seen:
                continue
            if _KINDS[kind] in without or (kind in (1, 2) and "rows" in without):
                pass
            elif kind == 0:
                yield Call("reorder_cache", (torch.randint(rows, (rows,), generator=draw),))
            elif kind == 1 and rows <= 3:
                yield Call("batch_repeat_interleave", (2,))
                rows *= 2
                yield from appended(1)
                seen += 1
            elif kind == 2 and rows > 1:
                kept = torch.randperm(rows, generator=draw)[: 1 + below(rows)].sort(descending=True).values
                yield Call("batch_select_indices", (kept,))
                rows = len(kept)
            elif narrowest is None or seen < narrowest:
                gone = seen if below(3) == 0 else 1 + below(seen)
                yield Call("crop", (-gone,))
                seen -= gone
            if seen + 1 <= room:
                yield from appended(1)
                seen += 1
        yield Call("reset", ())

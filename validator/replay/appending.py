"""What of the calls of an append cache goes into its trace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from shadow.entries import TENSOR, leaves
from shadow.memory.buffers import WHOLE
from shadow.operation import Given, make
from validator.entries.digest import Digest, digest

WITH_MORE = 1  # in the place of an env, of a call that passes more than is recorded
KEYS_AND_VALUES = (("", "tuple"), ("0", TENSOR), ("1", TENSOR))  # the form of what ``update`` appends


def appended(token: Any) -> Digest | None:
    """Return the digest of what is appended, of digests that were taken where it is keys and values.

    Args:
        token: The ``Pending`` of an ``update``; else the arguments; None for what can't be told.
    """
    hashed = getattr(token, "digests", None)
    if hashed is not None:
        layout = tuple([(tuple(t.shape), t.dtype, t.device, WHOLE) for t in token.staged])
        made: Digest = make(Digest, ((), layout, xxh3_64_intdigest(hashed), KEYS_AND_VALUES))
        return made
    tensors = tuple(value for value in token or () if isinstance(value, Tensor))
    return digest(leaves(tensors)) if tensors else None


def plain(args: Any, method: Callable[..., Any]) -> Given:
    """Return the arguments of what rearranges as they can be recorded; of others it is told that they differ, no more.

    Args:
        args: As they were passed; perhaps ``Arguments``.
        method: Of the class, by whose signature those that are named come in order.
    """
    named, values = getattr(args, "named", {}), tuple(args or ())
    if named:
        with suppress(TypeError, ValueError):
            values = signature(method).bind(None, *args, **named).args[1:]
    return Given(map(_plain, values))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.ndim <= 1 and not value.is_floating_point():
        found = value.tolist()
        return found if value.ndim == 0 else tuple(found)
    return str(value) if isinstance(value, (torch.dtype, torch.device)) else value

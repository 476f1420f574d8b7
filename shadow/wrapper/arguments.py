"""The arguments of a call that passes more than the interface asks for: the host's own, for both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from shadow.wrapper.staging import copied


class Arguments(tuple[Any, ...]):
    """Positional arguments, and those passed by name. A call with none beyond those asked for has a plain tuple.

    Attributes:
        asked: How many of them the interface asks for.
        named: What is passed by name.
    """

    asked: int
    named: Mapping[str, Any]

    @classmethod
    def of(cls, asked: tuple[Any, ...], more: tuple[Any, ...], named: Mapping[str, Any]) -> Arguments:
        """Put together what the interface asks for and what is passed beside it."""
        made = cls((*asked, *more))
        made.asked, made.named = len(asked), named
        return made


def asked_for(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments that the interface asks for."""
    return args[: args.asked] if isinstance(args, Arguments) else args


def for_secondary(args: tuple[Any, ...], staged: Any) -> tuple[Any, ...]:
    """Return the arguments of the secondary's set: its own entry, and copies of what is passed beside it."""
    if not isinstance(args, Arguments):
        return (*args[:-1], staged)
    own = (*args[: args.asked - 1], staged)
    return Arguments.of(own, copied(args[args.asked :]), copied(args.named))


def with_own_tensors(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of the secondary's call where tensors are passed: the same, with a copy of each tensor."""
    if not isinstance(args, Arguments):
        return tuple(map(_own, args))
    made = Arguments(map(_own, args))
    made.asked, made.named = args.asked, {name: _own(value) for name, value in args.named.items()}
    return made


def _own(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (value.detach() if value.requires_grad else value).clone()
    if type(value) in (tuple, list):
        return type(value)(map(_own, value))
    if type(value) is dict:
        return {name: _own(each) for name, each in value.items()}
    return value

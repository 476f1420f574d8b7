"""Append caches: per layer ``update(k, v, layer)`` appends tokens and answers all it holds, as in transformers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from shadow.hosts.transformers.generate import Asked, every_cache
from shadow.hosts.transformers.oracle import SequencesRecomputer
from shadow.interface import offered
from shadow.operation import Operation
from shadow.recompute import Recomputer
from shadow.wrapper.both import LOOK_FIRST
from shadow.wrapper.doors.append import OPERATIONS, Door, door_of
from validator.judge.case import Pairing
from validator.observe.append_pair import AppendPair
from validator.observe.pair import Pair, Session

_ASKED = ("update", "get_seq_length", "get_mask_sizes")


class AppendShape:
    """Append caches; see ``Shape``.

    Args:
        windows: The window of each layer where the model's configuration says it, None for a layer that keeps
            everything; None where nobody says it.
        strict: Whether a primary that holds what the secondary can't be given is refused; else it is not comparable.
    """

    name = "append"
    operations: tuple[Operation, ...] = tuple(OPERATIONS.values())

    def __init__(self, windows: tuple[int | None, ...] | None = None, strict: bool = True) -> None:
        self._windows, self._strict = windows, strict

    def takes(self, cache: Any) -> bool:
        return all(callable(offered(cache, name)) for name in _ASKED)

    def pair(self, pairing: Pairing, session: Session) -> Pair:
        """Make the observer; refuse what can't be compared.

        Raises:
            ValueError: If a side is no append cache, is watched already, or holds something.
        """
        for side, cache in (("control", pairing.control), ("candidate", pairing.candidate)):
            if not self.takes(cache):
                raise ValueError(
                    f"the {side} is a {type(cache).__name__}, which has no {', '.join(_ASKED)}: give a Cache of "
                    "transformers, or an object with these methods"
                )
            if door_of(cache) is not None:
                raise ValueError(f"the {side}, a {type(cache).__name__}, is watched already: shadow each cache once")
        return AppendPair(pairing, session, self._windows, self._strict)

    def door(self, pairing: Pairing, pair: Pair, seed: int, look_first: int = LOOK_FIRST) -> Any:
        """Make the primary a watched one, and return it."""
        assert isinstance(pair, AppendPair)
        control_is_primary = pairing.primary == "control"
        sides = (pairing.control, pairing.candidate)
        first, second = sides if control_is_primary else sides[::-1]
        Door(first, second, pair, control_is_primary, seed)
        return first

    def let_be(self, cache: Any) -> None:
        door = door_of(cache)
        assert door is not None
        door.in_forked_child()


def watched_generation(
    shadow: Callable[..., Any],
    candidate: Callable[[Asked], Any],
    primary: str,
    name: str,
    recompute: Callable[[Any, Recomputer], None] | None = None,
) -> AbstractContextManager[None]:
    """Shadow every cache that ``generate`` makes or is given; see ``Lockstep.shadow_generate``.

    Args:
        shadow: Puts two caches behind one, as ``Lockstep.shadow``; its ``shape`` may be a shape.
        candidate: Makes the candidate; None for a cache that is to be left alone.
        primary: Whose answers the model receives.
        name: What the report calls the pairs, with the role of each behind it.
        recompute: Follows what a cache that ``shadow`` returned is given, as ``Lockstep.recompute``; None for nothing.
    """
    followed: list[SequencesRecomputer] = []

    def meet(asked: Asked) -> Any:
        control = asked.control
        followed[:] = [each for each in followed if each.is_alive]
        if door_of(control) is not None:  # given again
            for each in followed:
                if each.follows(control):
                    each.begin(asked)
            return control
        made = candidate(asked)
        if made is None:
            return control
        if asked.role.startswith("assistant") and hasattr(made, "activate_past_recording"):
            made.activate_past_recording()  # as ``generate`` has done with its own by then
        if primary == "candidate" and "_is_user_defined" in vars(control):
            made._is_user_defined = True
        shape = AppendShape(asked.windows, strict=False)
        label = f"{name} {asked.role}" if asked.role != "decoder" else name
        watched = shadow(control=control, candidate=made, primary=primary, name=label, shape=shape)
        if recompute is not None:
            recomputer = SequencesRecomputer(control, made, asked.model)
            recompute(watched, recomputer)
            recomputer.begin(asked)
            followed.append(recomputer)
        return watched

    def ended(model: Any) -> None:
        for each in followed:
            each.end(model)

    return every_cache(meet, None if recompute is None else ended)

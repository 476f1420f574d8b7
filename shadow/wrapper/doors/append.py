"""What the host of an append cache holds: the primary cache itself, watched.

A proxy would change what a model computes: ``generate`` and the mask builder ask for the class of a cache. So the
primary object is given a dynamic subclass of its own class, whose methods are the watched ones.
"""

from __future__ import annotations

import copy
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

import torch

from shadow.operation import Observer, Operation
from shadow.wrapper.both import LOOK_FIRST, Both
from shadow.wrapper.forks import tell_in_children

_APPENDING: Final = ("update", "update_conv_state", "update_recurrent_state", "update_indexer")
_REARRANGING: Final = (
    *("reset", "reorder_cache", "crop", "batch_repeat_interleave", "batch_select_indices"),
    *("activate_past_recording", "early_initialization"),
)
NOT_IN_A_GRAPH: Final = (
    "kv-lockstep can't watch a cache inside a model that is compiled with fullgraph=True, since what it compares "
    "depends on data: compile with fullgraph=False, which is watched"
)
OPERATIONS: Final = {
    **{method: Operation(method, "append", "layers", f"append.{method}") for method in _APPENDING},
    **{method: Operation(method, "rearrange", "layers", f"rearrange.{method}") for method in _REARRANGING},
}


class Unwatchable(TypeError):
    """Says why a cache can't be watched, in one sentence."""


class Held:
    """A cache by a weak reference, as its own class has it: the host alone keeps it alive.

    Args:
        cache: The cache, not watched yet.

    Attributes:
        own: Its class before it was watched.
    """

    def __init__(self, cache: Any) -> None:
        self.alive: Callable[[], Any] = weakref.ref(cache)  # the cache itself, or None once its host let it go
        self.own = type(cache)

    def __getattr__(self, name: str) -> Any:
        cache = self.alive()
        if cache is None:
            raise ReferenceError("the cache is gone: its host let it go")
        watched = type(cache)
        return getattr(super(watched, cache) if name in OPERATIONS and watched is not self.own else cache, name)


class AppendObserver(Observer, Protocol):
    """What a door needs of its observer beyond what every observer is.

    Attributes:
        held: The primary, as it was given to the observer.
    """

    held: Held

    def watched_by(self, door: Door) -> None:
        """Learn which door watches the primary."""

    def end(self) -> None:
        """Look at everything once more: the host lets go of the primary, and nothing happens after this."""


class Door:
    """Sends every operation of one watched cache to both sides.

    Args:
        primary: Whose object the host goes on using.
        secondary: The other one.
        observer: Told of every operation.
        control_is_primary: Which of them is the control.
        seed: Seed of the private generator that draws which side is called first.

    Raises:
        Unwatchable: If the class of the primary can't be subclassed.
    """

    def __init__(
        self,
        primary: Any,
        secondary: Any,
        observer: AppendObserver,
        control_is_primary: bool,
        seed: int = 0,
    ) -> None:
        self.held = observer.held
        self.own = self.held.own
        self.secondary = secondary
        self.observer = observer
        self._control_is_primary = control_is_primary
        self._seed = seed
        self._both = Both(self.held, secondary, observer, control_is_primary, OPERATIONS.values(), seed, LOOK_FIRST)
        self._run: Callable[..., Any] = self._both.run
        self._inside: int | None = None  # the thread that is inside an operation: what a side calls of itself is none
        _give_class(primary, self)
        observer.watched_by(self)
        tell_in_children(self)

    def call(self, method: str, key: int | None, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Do one operation on both sides; return the primary's own answer."""
        thread = threading.get_ident()
        if self._inside == thread:
            return getattr(self.held, method)(*args, **named)
        self._inside = thread
        try:
            return self._run(OPERATIONS[method], None, key, args, (), named)
        finally:
            self._inside = None

    def copied(self, cache: Any, memo: dict[int, Any]) -> Any:
        """Return a deep copy of the watched cache: with a copy of the secondary, it is a pair of its own."""
        with self.observer.lock:
            watched = type(cache)
            cache.__class__ = self.own
            try:
                primary = copy.deepcopy(cache, memo)
            finally:
                cache.__class__ = watched
            secondary, error = self._both.aside(copy, "deepcopy", (self.secondary, memo))
            if error is not None:
                self.observer.misbehaved("__deepcopy__", error)
                return primary
            sides = (primary, secondary) if self._control_is_primary else (secondary, primary)
            observer: Any = self.observer.copied(*sides)
            Door(primary, secondary, observer, self._control_is_primary, self._seed)
            return primary

    def let_go(self) -> None:
        """Give the primary its own class back, and let the secondary go: from here on nothing is watched."""
        cache = self.held.alive()
        if cache is not None and type(cache) is not self.own:
            cache.__class__ = self.own
        self._run = self._run_alone
        del self._both, self.secondary

    def _run_alone(
        self, operation: Operation, env_id: None, key: int | None, args: tuple[Any, ...], more: Any, named: Any
    ) -> Any:
        """Do one operation on the primary alone: a method that somebody kept of a cache that was watched."""
        return getattr(self.held, operation.method)(*args, **named)

    def in_forked_child(self) -> None:
        """Watch nothing in a forked child."""
        self._run = self._both.run_alone


def _keep_out_of_graphs(function: Any, why: str) -> None:
    """Let torch's compiler neither trace a function nor compile what it calls.

    As ``torch.compiler.disable`` does, but without its wrapper, which costs every call, and without importing the
    compiler, which takes seconds.
    """
    function._torchdynamo_disable, function._torchdynamo_disable_msg = True, why
    frames: Any = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):  # before it could, what is called is compiled one by one
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))


_keep_out_of_graphs(Door.call, NOT_IN_A_GRAPH)


def door_of(cache: Any) -> Door | None:
    """Return the door of a watched cache, or None of one that is not watched."""
    door = type(cache).__dict__.get("_kv_lockstep_door")
    return door if isinstance(door, Door) else None


def _give_class(primary: Any, door: Door) -> None:
    """Make a cache one of a subclass of its own class, whose methods are the watched ones."""
    own = door.own
    methods: dict[str, Any] = {
        name: made for name, made in _METHODS.items() if name not in OPERATIONS or callable(getattr(own, name, None))
    }
    body = {"__slots__": (), "__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    try:
        primary.__class__ = type(own.__name__, (own,), {**body, "_kv_lockstep_door": door, **methods})
    except TypeError as problem:
        raise Unwatchable(
            f"kv-lockstep can't watch a {own.__name__}: the cache itself is given a subclass of its class, and this "
            f"one can't have any ({problem}); make it an ordinary class, or the other side the primary"
        ) from None


def _appending(method: str, layer_at: int) -> Any:
    """Make a watched method that appends to one layer, whose index stands at ``layer_at`` or is named ``layer_idx``."""

    def append(self: Any, *args: Any, **named: Any) -> Any:
        layer_idx = args[layer_at] if len(args) > layer_at else named.get("layer_idx")
        return self._kv_lockstep_door.call(method, layer_idx, args, named)

    return append


def _rearranging(method: str) -> Any:
    def rearrange(self: Any, *args: Any, **named: Any) -> Any:
        return self._kv_lockstep_door.call(method, None, args, named)

    return rearrange


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    return self._kv_lockstep_door.copied(self, memo)


def _copy(self: Any) -> Any:
    watched, door = type(self), self._kv_lockstep_door
    self.__class__ = door.own
    try:
        return copy.copy(self)  # its layers are this one's: what is done through it is seen when these are read
    finally:
        self.__class__ = watched


def _refuse_pickling(self: Any, protocol: Any) -> Any:
    name = type(self).__name__
    raise TypeError(
        f"a {name} that kv-lockstep watches can't be pickled: it is one of two caches in lockstep, which belong to "
        "this process; pickle it before it is watched, or copy.deepcopy it, which makes a pair of its own"
    )


def _gone(self: Any) -> None:
    door = self._kv_lockstep_door
    if not sys.is_finalizing():  # the session has seen to it by then, and modules are gone
        door.held.alive = lambda: self  # a weak reference may be dead by now
        door.observer.end()
        door.held.alive = lambda: None
    parent = getattr(door.own, "__del__", None)
    if parent is not None:
        parent(self)


_METHODS: Final[dict[str, Any]] = {
    **{method: _appending(method, 2 if method == "update" else 1) for method in _APPENDING},
    **{method: _rearranging(method) for method in _REARRANGING},
    "__deepcopy__": _deepcopy,
    "__copy__": _copy,
    "__reduce_ex__": _refuse_pickling,
    "__del__": _gone,
}

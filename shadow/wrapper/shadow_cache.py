"""The lockstep wrapper: one cache to the host, two underneath."""

from __future__ import annotations

import copy
import random
import threading
from operator import index
from time import perf_counter_ns
from typing import Any

from torch import is_grad_enabled, is_inference_mode_enabled

from shadow.memory.regions import NOWHERE
from shadow.operation import (
    CLEAR_ALL,
    CLEAR_INIT,
    CLEAR_INIT_ENV,
    CLEAR_RECUR,
    GET_HIERARCHICAL,
    GET_INIT,
    GET_RECUR,
    GET_WM,
    OPERATIONS,
    SET_INIT,
    SET_RECUR,
    SET_WM,
    Observation,
    Observer,
    Operation,
    make,
)
from shadow.wrapper import process_state
from shadow.wrapper.arguments import Arguments, asked_for, for_secondary
from shadow.wrapper.clock import Call, Contained, DeviceClock, called
from shadow.wrapper.forks import tell_in_children
from shadow.wrapper.likeness import Likeness
from shadow.wrapper.staging import AN_ENTRY, Staging, copied, unfit
from shadow.wrapper.unpicklable import Unpicklable

LOOK_FIRST = 32  # operations of each kind around which all state of the process is looked at; of later ones some:
LOOK_EVERY = 1024  # one operation in so many on average, which costs under 2 %
MODES_EVERY = 256  # the same for modes alone, which cost a fraction of what generators do
_PRIMARY: Contained = (Exception,)  # what the primary raises of these, the host receives after it was observed
_SECONDARY: Contained = (BaseException,)  # but for what came from outside, which is the host's


class ShadowCache(Unpicklable, Likeness):
    """Sends every operation to both sides and answers with the primary's own object.

    The host can't tell it from the primary alone: it receives the very object the primary returned and the exception
    the primary raised. The secondary works on private copies of what the host stores; what it raises is recorded and
    goes no further, and neither does a failure of the observer. Which side is called first is drawn for each operation
    from a private generator, so that neither always finds the processor's caches warm.

    Made by ``Lockstep.shadow``; the interface is that of ``CacheStore``.

    Args:
        control: The trusted cache.
        candidate: The new one.
        observer: Told of every operation.
        primary: ``control`` or ``candidate``: whose answers the host receives.
        seed: Seed of the private generator.
        look_first: Operations of each kind around which all state of the process is looked at.

    Raises:
        ValueError: If ``primary`` is neither, or both sides are one object.
    """

    def __init__(
        self,
        control: Any,
        candidate: Any,
        observer: Observer,
        primary: str = "control",
        seed: int = 0,
        look_first: int = LOOK_FIRST,
    ) -> None:
        if primary not in ("control", "candidate"):
            raise ValueError(f"primary must be 'control' or 'candidate', got {primary!r}")
        if control is candidate:
            raise ValueError("control and candidate are the same object; it would only be compared with itself")
        self._control = control
        self._candidate = candidate
        self._observer = observer
        self._control_is_primary = primary == "control"
        self._primary = control if self._control_is_primary else candidate
        self._secondary = candidate if self._control_is_primary else control
        self._seed = seed
        self._lock = observer.lock
        # What is hot is in a plain object: looking up attributes of one that passes them on is slow.
        self._look_first = look_first
        self._both = Both(self._primary, self._secondary, observer, self._control_is_primary, seed, look_first)
        self._run = self._both.run
        tell_in_children(self)
        self._made = True  # from here on what the host sets is the primary's

    def get_init_cache(self, env_id: int, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a root entry of one env on both sides; return the primary's answer."""
        return self._run(GET_INIT, env_id, cache_key, (env_id, cache_key), more, named)

    def get_recur_cache(self, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a search node's entry on both sides; return the primary's answer."""
        return self._run(GET_RECUR, None, cache_key, (cache_key,), more, named)

    def get_wm_cache(self, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look up a batch copy on both sides; return the primary's answer."""
        return self._run(GET_WM, None, cache_key, (cache_key,), more, named)

    def hierarchical_get(self, env_id: int, cache_key: int, *more: Any, **named: Any) -> Any:
        """Look in the init pool of an env, then in the recurrent pool, on both sides; return the primary's answer."""
        return self._run(GET_HIERARCHICAL, env_id, cache_key, (env_id, cache_key), more, named)

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a root entry of one env on both sides; return the primary's answer."""
        return self._run(SET_INIT, env_id, cache_key, (env_id, cache_key, kv_cache), more, named)

    def set_recur_cache(self, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a search node's entry on both sides; return the primary's answer."""
        return self._run(SET_RECUR, None, cache_key, (cache_key, kv_cache), more, named)

    def set_wm_cache(self, cache_key: int, kv_cache: Any, *more: Any, **named: Any) -> Any:
        """Store a batch copy on both sides; return the primary's answer."""
        return self._run(SET_WM, None, cache_key, (cache_key, kv_cache), more, named)

    def clear_all(self, *more: Any, **named: Any) -> Any:
        """Clear every pool of both sides."""
        return self._run(CLEAR_ALL, None, None, (), more, named)

    def clear_init_caches(self, *more: Any, **named: Any) -> Any:
        """Clear the init pools of all envs on both sides."""
        return self._run(CLEAR_INIT, None, None, (), more, named)

    def clear_init_cache(self, env_id: int, *more: Any, **named: Any) -> Any:
        """Clear the init pool of one env on both sides."""
        return self._run(CLEAR_INIT_ENV, env_id, None, (env_id,), more, named)

    def clear_recur_cache(self, *more: Any, **named: Any) -> Any:
        """Clear the recurrent pool of both sides."""
        return self._run(CLEAR_RECUR, None, None, (), more, named)

    def get_stats_summary(self) -> dict[str, Any]:
        """Return the primary's own statistics; hit rates of both sides are in the run directory."""
        found: dict[str, Any] = self._primary.get_stats_summary()
        return found

    def reset_stats(self) -> None:
        """Reset the statistics of both sides."""
        self._primary.reset_stats()
        with self._lock:
            _, error = self._both.aside(self._secondary, "reset_stats", ())
            if error is not None:
                self._observer.misbehaved("reset_stats", error)

    @property
    def observer(self) -> Observer:
        """Who is told of every operation."""
        told: Observer = self._observer
        return told

    def __copy__(self) -> ShadowCache:
        return self  # a shallow copy of a cache has the same pools

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with self._lock:
            own = copy.deepcopy(self._primary, memo)
            if own is self._primary:  # one for all: then the host has this shadow in its copy too
                return self
            other, problem = self._both.aside(copy, "deepcopy", (self._secondary, dict(memo)))
            what = "itself" if other is self._secondary else "nothing" if other is None else ""
            if problem is not None or what:
                self._observer.misbehaved("__deepcopy__", problem or what)
                return own
            sides = (own, other) if self._control_is_primary else (other, own)
            try:
                observer = self._observer.copied(*sides)
                primary = "control" if self._control_is_primary else "candidate"
                clone = ShadowCache(*sides, observer, primary, self._seed, self._look_first)
            except Exception as error:
                self._observer.harness_failed("copied", error)
                return own
            if self._run == self._both.run_alone:
                clone.in_forked_child()
            return clone

    def in_forked_child(self) -> None:
        """Become the primary alone: nobody watches in a forked child, and the first operation there says so."""
        self._lock = self._observer.lock = threading.RLock()
        self._run = self._both.run_alone

    def __repr__(self) -> str:
        names = (type(self._control).__name__, type(self._candidate).__name__)
        return f"ShadowCache(control={names[0]}, candidate={names[1]}, primary={type(self._primary).__name__})"


class Both:
    """Does one operation on both sides; arguments as for ``ShadowCache``."""

    def __init__(
        self,
        primary: Any,
        secondary: Any,
        observer: Observer,
        control_is_primary: bool,
        seed: int,
        look_first: int = LOOK_FIRST,
    ) -> None:
        self._primary = primary
        self._secondary = secondary
        self._observer = observer
        self._control_is_primary = control_is_primary
        self._draw = random.Random(seed).random
        self._staging = Staging()
        self._call = called  # from the first entry on a CUDA device on: by events
        self._meddled = False  # from the first change of the process's state on, every operation is looked at
        self._fresh = dict.fromkeys((operation.method for operation in OPERATIONS), look_first)
        self._parts = process_state.EVERYTHING  # what is looked at around the operation that is looked at
        self._between: tuple[Any, ...] | None = None  # the state between the two calls of one that is looked at
        self._lock = observer.lock
        self._accepted = False  # whether the host was seen to store what can be compared
        self._index = 0

    def run(
        self,
        operation: Operation,
        env_id: int | None,
        key: int | None,
        args: tuple[Any, ...],
        more: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Any:
        """Do one operation; ``more`` and ``named`` are arguments beyond those that the interface asks for."""
        if type(env_id) is not int and env_id is not None:
            env_id = _whole(env_id)
        if not self._accepted and operation.kind == "set":
            self._accept(args[-1])
        if more or named:
            args = Arguments.of(args, more, named)
        with self._lock:
            began = perf_counter_ns()
            try:
                theirs, token = self._prepare(operation, env_id, key, args)
                op_index = self._index
                self._index = op_index + 1
                primary, secondary = self._call_both(operation.method, args, theirs)
                (value, error, ns), (other, other_error, other_ns) = primary, secondary
                seen = (
                    (op_index, operation, env_id, key, value, other, error, other_error, ns, other_ns)
                    if self._control_is_primary
                    else (op_index, operation, env_id, key, other, value, other_error, error, other_ns, ns)
                )
                try:
                    self._observer.observed(make(Observation, seen), token)
                except Exception as failure:
                    self._observer.harness_failed("observed", failure)
            except BaseException as cut:  # an interrupt, and nobody knows what was done by then
                self._observer.torn(cut)
                raise
            self._observer.harness_ns += perf_counter_ns() - began - ns
        if error is not None:
            raise error
        return value

    def run_alone(
        self,
        operation: Operation,
        env_id: int | None,
        key: int | None,
        args: tuple[Any, ...],
        more: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Any:
        """Do one operation on the primary alone, in a forked child, and say so."""
        self._observer.used_in_fork()
        return getattr(self._primary, operation.method)(*args, *more, **named)

    def _prepare(
        self, operation: Operation, env_id: int | None, key: int | None, args: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], Any]:
        """Copy what is stored and tell what is about to be done; return the secondary's arguments, and a token."""
        theirs, entry, staged, regions, step = args, None, None, NOWHERE, "stage"
        try:
            if operation.kind == "set":
                plain = type(args) is tuple
                entry = args[-1] if plain else asked_for(args)[-1]
                staged, regions = self._staging.stage(entry)
                theirs = (*args[:-1], staged) if plain else for_secondary(args, staged)
                if self._staging.device is not None and self._call is called:
                    self._call = DeviceClock(self._staging.device).called
                if not plain:
                    self._observer.advised(operation, env_id)
            step = "before"
            return theirs, self._observer.before(operation, env_id, key, entry, staged, regions)
        except Exception as error:
            why = unfit(entry) if operation.kind == "set" else ""
            if why:
                self._observer.passed_over(why)
            else:
                self._observer.harness_failed(step, error)
            if step == "stage":  # the secondary must not see the host's own
                theirs = for_secondary(args, copied(entry))
            return theirs, None

    def _accept(self, entry: Any) -> None:
        """Refuse the first set if what it stores can't be compared: nothing was done yet, and nothing is counted."""
        why = unfit(entry)
        if why:
            raise TypeError(f"kv-lockstep can't compare what this host stores: {why}. {AN_ENTRY}")
        self._accepted = True

    def _call_both(self, method: str, args: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Call, Call]:
        """Call both sides, in an order that is drawn; return what came of the primary's call, and of the other."""
        drawn = self._draw()
        first = drawn < 0.5
        luck = 2 * drawn if first else 2 * drawn - 1
        call = self._call
        if luck < 1 / MODES_EVERY or method in self._fresh or self._meddled:
            call = self._looking(method, luck)
        if first:
            own = call(self._primary, method, args, _PRIMARY)
            return own, self._called_secondary(call, method, theirs)
        other = self._called_secondary(call, method, theirs)
        return call(self._primary, method, args, _PRIMARY), other

    def _looking(self, method: str, luck: float) -> Any:
        """Prepare to look at the state of the process around an operation; both calls share the look in between."""
        fresh = self._fresh.pop(method, 0)
        if fresh > 1:
            self._fresh[method] = fresh - 1
        everything = fresh or self._meddled or luck < 1 / LOOK_EVERY
        self._parts = process_state.EVERYTHING if everything else process_state.MODES
        self._between = None
        self._observer.state_looks += 1
        return self._looked_at

    def _called_secondary(self, call: Any, method: str, args: tuple[Any, ...]) -> Call:
        """Call the secondary; a mode of this thread that it leaves behind would meet the primary, or the host."""
        grad, inference = is_grad_enabled(), is_inference_mode_enabled()
        result: Call = call(self._secondary, method, args, _SECONDARY)
        if is_grad_enabled() is not grad or is_inference_mode_enabled() is not inference:
            parts, before = process_state.THREAD, (inference, grad)
            self._put_back(process_state.changed(before, process_state.state(parts), parts), before, parts)
        return result

    def aside(self, side: Any, method: str, args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """Call what is no operation of the secondary, and look at the state of the process around it."""
        self._parts, self._between = process_state.EVERYTHING, None
        value, error, _ = self._looked_at(side, method, args, _SECONDARY)
        return value, error

    def _looked_at(self, side: Any, method: str, args: tuple[Any, ...], contained: Contained) -> Call:
        """Call one side, and look whether it changed what the whole process stands on."""
        parts = self._parts
        before = self._between or process_state.state(parts)
        result = self._call(side, method, args, contained)
        self._between = now = process_state.state(parts)
        changed = process_state.changed(before, now, parts)
        if changed and contained is _PRIMARY:
            self._meddled = True
            self._observer.meddled(changed, True, [])
        elif changed:
            self._put_back(changed, before, parts)
            self._between = process_state.state(parts)
        return result

    def _put_back(self, changed: list[str], before: process_state.State, parts: tuple[process_state.Part, ...]) -> None:
        """Make the state of the process what it was before the secondary was called."""
        self._meddled = True
        self._observer.meddled(changed, False, process_state.put_back(before, parts))


def _whole(env_id: Any) -> Any:
    """Return an env id as an int if it is NumPy's or a tensor's whole number, and as it is if it is none."""
    try:
        return int(index(env_id))
    except TypeError:
        return env_id

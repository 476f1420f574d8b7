"""The lockstep wrapper: one cache to the host, two underneath."""

from __future__ import annotations

import copy
import random
import threading
from time import perf_counter_ns
from typing import Any

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
    SET_INIT,
    SET_RECUR,
    SET_WM,
    Observation,
    Observer,
    Operation,
    make,
)
from shadow.wrapper import process_state
from shadow.wrapper.clock import Call, Contained, DeviceClock, called
from shadow.wrapper.forks import tell_in_children
from shadow.wrapper.staging import Staging, copied
from shadow.wrapper.unpicklable import Unpicklable

LOOK_FIRST = 32  # operations around which all state of the process is looked at, before that is done for one in:
LOOK_EVERY = 997  # a prime: hosts alternate between a few kinds of operation, and each kind must have its turn
_PRIMARY: Contained = (Exception,)  # what the primary raises of these, the host receives after it was observed
_SECONDARY: Contained = (BaseException,)  # but for an interrupt, which is the host's


class ShadowCache(Unpicklable):
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

    Raises:
        ValueError: If ``primary`` is neither, or both sides are one object.
    """

    def __init__(
        self, control: Any, candidate: Any, observer: Observer, primary: str = "control", seed: int = 0
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
        self._draw = random.Random(seed).random
        self._staging = Staging()
        self._call = called  # from the first entry on a CUDA device on: by events
        self._meddled = False  # from the first change of the process's state on, every operation is looked at
        self._between: tuple[Any, ...] | None = None  # the state between the two calls of one that is looked at
        self._lock = observer.lock
        self._index = 0
        tell_in_children(self)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        """Look up a root entry of one env on both sides; return the primary's answer."""
        return self._run(GET_INIT, env_id, cache_key, (env_id, cache_key))

    def get_recur_cache(self, cache_key: int) -> Any:
        """Look up a search node's entry on both sides; return the primary's answer."""
        return self._run(GET_RECUR, None, cache_key, (cache_key,))

    def get_wm_cache(self, cache_key: int) -> Any:
        """Look up a batch copy on both sides; return the primary's answer."""
        return self._run(GET_WM, None, cache_key, (cache_key,))

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        """Look in the init pool of an env, then in the recurrent pool, on both sides; return the primary's answer."""
        return self._run(GET_HIERARCHICAL, env_id, cache_key, (env_id, cache_key))

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> Any:
        """Store a root entry of one env on both sides; return the primary's answer."""
        return self._run(SET_INIT, env_id, cache_key, (env_id, cache_key, kv_cache))

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> Any:
        """Store a search node's entry on both sides; return the primary's answer."""
        return self._run(SET_RECUR, None, cache_key, (cache_key, kv_cache))

    def set_wm_cache(self, cache_key: int, kv_cache: Any) -> Any:
        """Store a batch copy on both sides; return the primary's answer."""
        return self._run(SET_WM, None, cache_key, (cache_key, kv_cache))

    def clear_all(self) -> None:
        """Clear every pool of both sides."""
        self._run(CLEAR_ALL, None, None, ())

    def clear_init_caches(self) -> None:
        """Clear the init pools of all envs on both sides."""
        self._run(CLEAR_INIT, None, None, ())

    def clear_init_cache(self, env_id: int) -> None:
        """Clear the init pool of one env on both sides."""
        self._run(CLEAR_INIT_ENV, env_id, None, (env_id,))

    def clear_recur_cache(self) -> None:
        """Clear the recurrent pool of both sides."""
        self._run(CLEAR_RECUR, None, None, ())

    def get_stats_summary(self) -> dict[str, Any]:
        """Return the primary's own statistics; hit rates of both sides are in the run directory."""
        found: dict[str, Any] = self._primary.get_stats_summary()
        return found

    def reset_stats(self) -> None:
        """Reset the statistics of both sides."""
        self._primary.reset_stats()
        try:
            self._secondary.reset_stats()
        except Exception as error:
            self._observer.harness_failed("reset_stats", error)

    @property
    def observer(self) -> Observer:
        """Who is told of every operation."""
        return self._observer

    @property
    def keys_values_wm_list(self) -> list[Any]:
        """The primary's scratch list of batch entries."""
        found: list[Any] = self._primary.keys_values_wm_list
        return found

    @property
    def keys_values_wm_size_list(self) -> list[int]:
        """The primary's scratch list of batch lengths."""
        found: list[int] = self._primary.keys_values_wm_size_list
        return found

    def __copy__(self) -> ShadowCache:
        return self  # a shallow copy of a cache has the same pools

    def __deepcopy__(self, memo: dict[int, Any]) -> ShadowCache:
        with self._lock:
            control, candidate = copy.deepcopy(self._control, memo), copy.deepcopy(self._candidate, memo)
            primary = "control" if self._control_is_primary else "candidate"
            observer = self._observer.copied(control, candidate)
            clone = ShadowCache(control, candidate, observer, primary, self._seed)
            if self._run == self._run_alone:
                clone.in_forked_child()
            return clone

    def in_forked_child(self) -> None:
        """Become the primary alone: nobody watches in a forked child, and the first operation there says so."""
        self._lock = self._observer.lock = threading.RLock()
        self._run = self._run_alone  # type: ignore[method-assign]

    def __repr__(self) -> str:
        names = (type(self._control).__name__, type(self._candidate).__name__)
        return f"ShadowCache(control={names[0]}, candidate={names[1]}, primary={type(self._primary).__name__})"

    def _run(self, operation: Operation, env_id: int | None, key: int | None, args: tuple[Any, ...]) -> Any:
        with self._lock:
            began = perf_counter_ns()
            try:
                theirs, token = self._prepare(operation, env_id, key, args)
                index = self._index
                self._index = index + 1
                primary, secondary = self._call_both(index, operation.method, args, theirs)
                (value, error, ns), (other, other_error, other_ns) = primary, secondary
                seen = (
                    (index, operation, env_id, key, value, other, error, other_error, ns, other_ns)
                    if self._control_is_primary
                    else (index, operation, env_id, key, other, value, other_error, error, other_ns, ns)
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

    def _run_alone(self, operation: Operation, env_id: int | None, key: int | None, args: tuple[Any, ...]) -> Any:
        self._observer.used_in_fork()
        return getattr(self._primary, operation.method)(*args)

    def _prepare(
        self, operation: Operation, env_id: int | None, key: int | None, args: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], Any]:
        """Copy what is stored and tell what is about to be done; return the secondary's arguments, and a token."""
        theirs, entry, staged, regions, step = args, None, None, NOWHERE, "stage"
        try:
            if operation.kind == "set":
                entry = args[-1]
                staged, regions = self._staging.stage(entry)
                theirs = (*args[:-1], staged)
                if self._staging.device is not None and self._call is called:
                    self._call = DeviceClock(self._staging.device).called
            step = "before"
            return theirs, self._observer.before(operation, env_id, key, entry, staged, regions)
        except Exception as error:
            self._observer.harness_failed(step, error)
            if step == "stage":  # the secondary must not see the host's own
                theirs = (*args[:-1], copied(entry))
            return theirs, None

    def _call_both(self, index: int, method: str, args: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Call, Call]:
        """Call both sides, in an order that is drawn; return what came of the primary's call, and of the other."""
        # Looking at the process's state costs more than all else here; both calls share the look in between.
        looked = index < LOOK_FIRST or index % LOOK_EVERY == 0 or self._meddled
        call = self._looked_at if looked else self._call
        self._between = None
        if self._draw() < 0.5:
            own = call(self._primary, method, args, _PRIMARY)
            other = call(self._secondary, method, theirs, _SECONDARY)
        else:
            other = call(self._secondary, method, theirs, _SECONDARY)
            own = call(self._primary, method, args, _PRIMARY)
        error = other[1]
        if error is not None and not isinstance(error, Exception):
            other = None, RuntimeError(f"raised what is no Exception: {error!r}"), other[2]
        return own, other

    def _looked_at(self, side: Any, method: str, args: tuple[Any, ...], contained: Contained) -> Call:
        """Call one side, and look whether it changed what the whole process stands on."""
        before = self._between or process_state.state()
        result = self._call(side, method, args, contained)
        self._between = now = process_state.state()
        changed = process_state.changed(before, now)
        if changed:
            primary = contained is _PRIMARY
            if not primary:
                process_state.put_back(before)
                self._between = before
            self._meddled = True
            self._observer.meddled(changed, primary)
        return result

"""Does one operation on both sides of a shadow: prepares it, calls both, and tells the observer."""

from __future__ import annotations

import random
from collections.abc import Iterable
from operator import index
from time import perf_counter_ns
from typing import Any

from torch import is_grad_enabled, is_inference_mode_enabled

from shadow.memory.regions import NOWHERE
from shadow.operation import Observation, Observer, Operation, make
from shadow.wrapper import process_state
from shadow.wrapper.arguments import Arguments, asked_for, for_secondary, with_own_tensors
from shadow.wrapper.clock import Call, Contained, DeviceClock, called
from shadow.wrapper.staging import AN_ENTRY, Staging, copied, unfit

LOOK_FIRST = 32  # operations of each kind around which all state of the process is looked at; of later ones some:
LOOK_EVERY = 1024  # one operation in so many on average, which costs under 2 %
MODES_EVERY = 256  # the same for modes alone, which cost a fraction of what generators do
_STORING = frozenset(("set", "append", "rearrange"))  # kinds of which something goes into the cache
_PRIMARY: Contained = (Exception,)  # what the primary raises of these, the host receives after it was observed
_SECONDARY: Contained = (BaseException,)  # but for what came from outside, which is the host's


class Both:
    """Does one operation on both sides; arguments as for ``Door``, and which operations there are."""

    def __init__(
        self,
        primary: Any,
        secondary: Any,
        observer: Observer,
        control_is_primary: bool,
        operations: Iterable[Operation],
        seed: int,
        look_first: int = LOOK_FIRST,
        reuses: bool = True,
    ) -> None:
        self._primary = primary
        self._secondary = secondary
        self._observer = observer
        self._control_is_primary = control_is_primary
        self._draw = random.Random(seed).random
        self._staging = Staging(reuses)
        self._call = called
        self._clock: DeviceClock | None = None  # from the first entry on a CUDA device on
        self._share = 0.5 / MODES_EVERY  # of a half; 1 from the first change of the process's state on
        self._fresh = dict.fromkeys((operation.method for operation in operations), look_first)
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
        method, kind, _, _, absent = operation
        if not self._accepted and kind == "set":
            self._accept(args[-1])
        if more or named:
            args = Arguments.of(args, more, named)
        observer = self._observer
        with self._lock:
            began = perf_counter_ns()
            try:
                theirs, token = args, None
                if kind in _STORING:
                    theirs, token = self._prepare(operation, env_id, key, args)
                elif kind != "get" or observer.watching:
                    try:
                        token = observer.before(operation, env_id, key, None, None, NOWHERE)
                    except Exception as failure:
                        observer.harness_failed("before", failure)
                op_index = self._index
                self._index = op_index + 1
                (value, error, ns), (other, other_error, other_ns) = self._call_both(method, args, theirs)
                raised, other_raised = error, other_error
                if absent:
                    raised, other_raised = (None if isinstance(each, absent) else each for each in (error, other_error))
                seen = (
                    (op_index, operation, env_id, key, value, other, raised, other_raised, ns, other_ns)
                    if self._control_is_primary
                    else (op_index, operation, env_id, key, other, value, other_raised, raised, other_ns, ns)
                )
                try:
                    observer.observed(make(Observation, seen), token)
                except Exception as failure:
                    observer.harness_failed("observed", failure)
            except BaseException as cut:  # an interrupt, and nobody knows what was done by then
                observer.torn(cut)
                raise
            observer.harness_ns += perf_counter_ns() - began - ns
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
        theirs, entry, staged, regions, step = args, args, None, NOWHERE, "stage"
        try:
            if operation.kind == "set":
                plain = type(args) is tuple
                entry = args[-1] if plain else asked_for(args)[-1]
                staged, regions = self._staging.stage(entry)
                theirs = (*args[:-1], staged) if plain else for_secondary(args, staged)
                if self._staging.device is not None and self._clock is None:
                    self._clock = DeviceClock(self._staging.device)
                    self._call = self._clock.called
                if not plain:
                    self._observer.advised(operation, env_id)
            else:
                staged = theirs = with_own_tensors(args)
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
        luck = self._draw()
        is_first = luck < 0.5
        if not is_first:
            luck -= 0.5
        call = self._call
        if self._clock is not None:
            self._clock.next()
        if luck < self._share or method in self._fresh:
            call = self._looking(method, luck)
        own = call(self._primary, method, args, _PRIMARY) if is_first else None
        # A mode of this thread that the secondary leaves behind would meet the primary, or the host.
        grad, inference = is_grad_enabled(), is_inference_mode_enabled()
        other = call(self._secondary, method, theirs, _SECONDARY)
        if is_grad_enabled() is not grad or is_inference_mode_enabled() is not inference:
            parts, before = process_state.THREAD, (inference, grad)
            self._put_back(process_state.changed(before, process_state.state(parts), parts), before, parts)
        return own or call(self._primary, method, args, _PRIMARY), other

    def _looking(self, method: str, luck: float) -> Any:
        """Prepare to look at the state of the process around an operation; both calls share the look in between."""
        fresh = self._fresh.pop(method, 0)
        if fresh > 1:
            self._fresh[method] = fresh - 1
        everything = fresh or self._share == 1 or luck < 0.5 / LOOK_EVERY
        self._parts = process_state.EVERYTHING if everything else process_state.MODES
        self._between = None
        self._observer.state_looks += 1
        return self._looked_at

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
            self._share = 1.0
            self._observer.meddled(changed, True, [])
        elif changed:
            self._put_back(changed, before, parts)
            self._between = process_state.state(parts)
        return result

    def _put_back(self, changed: list[str], before: process_state.State, parts: tuple[process_state.Part, ...]) -> None:
        """Make the state of the process what it was before the secondary was called."""
        self._share = 1.0
        self._observer.meddled(changed, False, process_state.put_back(before, parts))


def _whole(env_id: Any) -> Any:
    """Return an env id as an int if it is NumPy's or a tensor's whole number, and as it is if it is none."""
    try:
        return int(index(env_id))
    except TypeError:
        return env_id

"""Puts the shadow into one world model that keeps its store inline, and takes it out again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from shadow.hosts.lightzero.inline import COPY_INIT, COPY_RECUR, ROOTS, SEARCH, InlineStore
from shadow.hosts.lightzero.taps import Answer, AnsweringPool, PendingCopy, Tap

ATTRIBUTE = "_kv_lockstep"
_HEX_DIGITS = "0123456789abcdef"


class InlineAttachment:
    """The shadow of one inline store, and everything that was put into the world model for it.

    Args:
        store: The store, which is the control.
        wake: Makes the shadow of the store. Called at the first lookup or set: a copy of a model whose cache is never
            used (a target network, mostly) is no cache to judge.
        reads_other: Whether the model is to read the other side's entries instead of its own store's.
        on_search: Called after each initial inference of a model whose cache is in use.
        on_fault: Told of what could not be watched.
    """

    def __init__(
        self,
        store: InlineStore,
        wake: Callable[[InlineStore], Any],
        reads_other: bool,
        on_search: Callable[[Any], None],
        on_fault: Callable[[Any, Exception], None],
    ) -> None:
        self.store = store
        self.shadow: Any = None
        self.model = store.world_model
        self._wake = wake
        self._reads_other = reads_other
        self._on_search = on_search
        self._on_fault = on_fault
        self._searching = False
        # What the search's second question (the recurrent dict, after the init dict had nothing) will be answered.
        self._second: tuple[Any, Any] | None = None
        self._pending: PendingCopy | None = None
        self._own_names: list[str] = []
        self._told_of_replacement = False
        self.put_in()

    # -- in and out ---------------------------------------------------------------------------------------------------

    def put_in(self) -> None:
        """Put taps in the place of the dicts, and wrap the four methods that tell what a dict access means."""
        model, store = self.model, self.store
        self._recur_tap = Tap(store.recur_dict, self, None)
        self._init_taps = [Tap(raw, self, env_id) for env_id, raw in enumerate(store.init_dicts)]
        model.past_kv_cache_init_infer_envs = self._init_taps
        model.past_kv_cache_recurrent_infer = self._recur_tap
        if self._reads_other:
            model.shared_pool_init_infer = [AnsweringPool(pool) for pool in model.shared_pool_init_infer]
            model.shared_pool_recur_infer = AnsweringPool(model.shared_pool_recur_infer)
        wrappers = {
            COPY_INIT: lambda src_kv, env_id: self._copying(src_kv, lambda entry: store.copy_init(entry, env_id)),
            COPY_RECUR: lambda src_kv: self._copying(src_kv, store.copy_recur),
            SEARCH: partial(self._searched, getattr(model, SEARCH)),
            ROOTS: partial(self._rooted, getattr(model, ROOTS)),
        }
        self._own_names = [name for name in wrappers if name not in model.__dict__]
        for name, wrapper in wrappers.items():
            model.__dict__[name] = wrapper
        model.__dict__[ATTRIBUTE] = self

    def take_out(self) -> None:
        """Leave the world model as LightZero built it."""
        model, store = self.model, self.store
        model.past_kv_cache_init_infer_envs = list(store.init_dicts)
        model.past_kv_cache_recurrent_infer = store.recur_dict
        if self._reads_other:
            model.shared_pool_init_infer = [list(pool) for pool in model.shared_pool_init_infer]
            model.shared_pool_recur_infer = list(model.shared_pool_recur_infer)
        for name in (*self._own_names, ATTRIBUTE):
            model.__dict__.pop(name, None)

    def copied_to(self, clone: Any, name_copy: Callable[[InlineStore], Any]) -> None:
        """Attach to a deep copy of the world model: a store, a shadow and a recorder of its own.

        Args:
            clone: The copy, made while this attachment was taken out.
            name_copy: Makes the shadow of a copy that holds nothing yet, when it is first used.
        """
        store = InlineStore(clone)
        store.text_keys = self.store.text_keys
        twin = InlineAttachment(store, name_copy, self._reads_other, self._on_search, self._on_fault)
        if self.shadow is not None and (store.recur_dict or any(store.init_dicts)):
            twin.shadow = copy.deepcopy(self.shadow, {id(self.store): store})

    # -- what taps see ------------------------------------------------------------------------------------------------

    def looked_up(self, tap: Tap, key: Any) -> Any:
        """Run one lookup of the model; the search's two questions are one hierarchical lookup."""
        if self._pending is not None:
            self._settle()
        if not self._intact():
            return tap.raw.get(key)
        second, self._second = self._second, None
        if tap.env_id is None and second is not None and second[0] == key:
            return second[1]
        number = self._number(key)
        if number is None:
            return tap.raw.get(key)
        shadow = self.shadow if self.shadow is not None else self.wake()
        store = self.store
        store.asked = True
        if tap.env_id is None:
            entry = shadow.get_recur_cache(number)
        elif self._searching:
            entry = shadow.hierarchical_get(tap.env_id, number)
        else:
            entry = shadow.get_init_cache(tap.env_id, number)
        if self._reads_other:
            if entry is not None:
                return Answer(entry)
            if self._searching:
                self._second = (key, Answer(None) if store.raises_on_miss else None)
            return None
        # The model goes on from the slot number, and takes that from its own dicts alone: a lookup changes none.
        slot = tap.raw.get(key)
        if slot is None and self._searching and tap.env_id is not None:
            self._second = (key, store.recur_dict.get(key))
        return slot

    def stored(self, tap: Tap, key: Any, slot: Any) -> None:
        """Run one set of the model: its copy, put off until now, and its entry in the dict."""
        pending, self._pending = self._pending, None
        self._second = None
        number = self._number(key)
        if pending is None or slot is not pending or number is None:
            if pending is not None:
                pending.make(pending.entry)
            tap.raw[key] = slot.__index__() if isinstance(slot, PendingCopy) else slot
            if self._intact():
                self._fault(f"a slot number came into a dict of {type(self.model).__name__} without a copy before it")
            return
        # That the taps are in their places was made sure of when the copy was put off, a moment ago.
        shadow = self.shadow if self.shadow is not None else self.wake()
        store = self.store
        store.hosts_copy = pending.make
        try:
            if tap.env_id is None:
                shadow.set_recur_cache(number, pending.entry)
            else:
                shadow.set_init_cache(tap.env_id, number, pending.entry)
        finally:
            store.hosts_copy = None

    def cleared(self, tap: Tap) -> None:
        """Run one clear of the model."""
        self._settle()
        self._second = None
        if self.shadow is None or not self._intact():
            tap.raw.clear()
        elif tap.env_id is None:
            self.shadow.clear_recur_cache()
        else:
            self.shadow.clear_init_cache(tap.env_id)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def wake(self) -> Any:
        """Make the shadow, if there is none yet, and return it."""
        if self.shadow is None:
            self.shadow = self._wake(self.store)
        return self.shadow

    def _copying(self, entry: Any, copy_entry: Callable[[Any], int]) -> PendingCopy | int:
        if self._pending is not None:
            self._settle()
        if not self._intact():
            return copy_entry(entry)
        self._pending = PendingCopy(entry, copy_entry)
        return self._pending

    def _settle(self) -> None:
        """Make a copy that no dict was told of, as LightZero would have by now."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.make(pending.entry)
            self._fault(f"{type(self.model).__name__} copied an entry into its pool and named no key for it")

    def _searched(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._searching = True
        try:
            return method(*args, **kwargs)
        finally:
            self._searching = False

    def _rooted(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        self._intact()
        if self.shadow is not None:
            self._on_search(self.shadow)
        return result

    def _intact(self) -> bool:
        """Look whether the taps are still in their places; where not, the host goes its way unwatched."""
        own = self.model.__dict__
        recur, roots = own.get("past_kv_cache_recurrent_infer"), own.get("past_kv_cache_init_infer_envs")
        if recur is self._recur_tap and roots is self._init_taps:
            return True
        if not self._told_of_replacement:
            self._told_of_replacement = True
            self._fault(f"{type(self.model).__name__} replaced its dicts, so nothing of them is watched any more")
        return False

    def _number(self, key: Any) -> int | None:
        if isinstance(key, str):
            # Of no two texts the same number: the store turns it into the text again.
            if len(key) == 16 and not key.strip(_HEX_DIGITS):
                number = int(key, 16)
                self.store.text_keys = True
                self.store.named = number, key
                return number
        elif hasattr(key, "__index__"):
            return int(key)
        self._fault(f"a key of {type(self.model).__name__} is neither a number nor 16 hex digits: {key!r:.60}")
        return None

    def _fault(self, text: str) -> None:
        self._on_fault(self.wake(), RuntimeError(text))

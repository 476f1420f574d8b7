"""What can't be pickled, and what a host is to do instead."""

from __future__ import annotations

from typing import Any, NoReturn


class Unpicklable:
    """A part of a validation: two live caches, locks, a run directory that one process writes."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be pickled: it belongs to the validation that runs in this process; save "
            "model.state_dict() instead of the model; in another process build the cache anew, with a session there"
        )

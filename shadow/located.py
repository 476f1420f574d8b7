"""Where entries lie: looked up once, remembered while they live, and made sure of whenever it is used."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from shadow.lent import readable
from shadow.memory.dense import placed
from shadow.memory.regions import Region, find
from shadow.outside import from_outside

# By id, since a host's class may define equality as it likes. An entry that goes takes its id out of both, before that
# can be another's.
_known: dict[int, Region] = {}
_living: dict[int, weakref.ref[Any]] = {}
# By the id of what ``readable`` returns of any object: where it lay when it was looked at last. That it still does has
# to be made sure of.
known = _known.get


def region(entry: Any) -> Region | None:
    """Return where a dense entry of host memory lies, for reading it at once; None where that can't be said.

    Args:
        entry: Any object. A lent entry stays as it is.

    Returns:
        The region with the valid length of this moment, or None.
    """
    found = anywhere(entry)
    return found if found is not None and found.layout.in_host else None


def anywhere(entry: Any) -> Region | None:
    """Return the same of an entry on any device, where addresses only say which memory it is."""
    try:
        entry = readable(entry)
        layers = getattr(entry, "_keys_values", None)
        if layers is None:  # mostly a nest; to tell where an exception came from would take longer than all else
            return None
        found = known(id(entry))
        if found is not None:
            size = placed(layers, found.tensors, found.addresses)
            if 0 <= size <= found.layout.tokens:
                found.size = size
                return found
    except BaseException as raised:  # whatever a foreign object raises, it is no entry
        if from_outside(raised):
            raise
        return None
    return _found(entry, layers, found, anywhere=True)


def overwrite(entry: Any, source: Region) -> bool:
    """Give an entry the values and the length of a region if its buffers are of that layout, and tell whether they are.

    Args:
        entry: An entry of ours.
        source: Where the values lie.
    """
    layers, own = entry._keys_values, known(id(entry))
    if own is not None and own.layout is source.layout and own.fill(layers, source):
        return True
    own = _found(entry, layers, own, any_size=True)
    return own is not None and own.layout is source.layout and own.fill(layers, source)


def _found(
    entry: Any, layers: Any, before: Region | None, any_size: bool = False, anywhere: bool = False
) -> Region | None:
    """Find where an entry lies now, and remember it while the entry lives."""
    found, at = find(layers, before, any_size, anywhere), id(entry)
    if found is None:
        _known.pop(at, None)
    elif found is not before:
        if at not in _living:
            try:
                _living[at] = weakref.ref(entry, partial(_forget, at))
            except TypeError:  # not every class can be referred to weakly
                return found
        _known[at] = found
    return found


def _forget(at: int, gone: weakref.ref[Any]) -> None:
    del _living[at]
    _known.pop(at, None)

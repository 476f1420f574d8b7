"""Where entries lie: looked up once, remembered while they live, and made sure of whenever it is used."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

from shadow.lent import readable
from shadow.memory.dense import placed
from shadow.memory.regions import Region, find

# By id, since a host's class may define equality as it likes; the reference tells whether that is still its id.
_known: dict[int, tuple[weakref.ref[Any], Region]] = {}


def region(entry: Any) -> Region | None:
    """Return where the bytes of a dense entry lie, for reading them at once; None where that can't be said.

    Args:
        entry: Any object. A lent entry stays as it is.

    Returns:
        The region with the valid length of this moment, or None.
    """
    entry = readable(entry)
    found = known(entry)
    try:
        layers = entry._keys_values
        if found is not None:
            size = placed(layers, found.tensors, found.addresses)
            if 0 <= size <= found.layout.tokens:
                found.size = size
                return found
    except (AttributeError, TypeError):  # no entry
        return None
    return _found(entry, layers, found)


def known(entry: Any) -> Region | None:
    """Return where an entry lay when it was last looked at; that it still does has to be made sure of.

    Args:
        entry: What ``readable`` returns of any object.
    """
    noted = _known.get(id(entry))
    return noted[1] if noted is not None and noted[0]() is entry else None


def overwrite(entry: Any, source: Region) -> bool:
    """Give an entry the values and the length of a region if its buffers are of that layout, and tell whether they are.

    Args:
        entry: An entry of ours.
        source: Where the values lie.
    """
    layers, own = entry._keys_values, known(entry)
    if own is not None and own.layout is source.layout and own.fill(layers, source):
        return True
    own = _found(entry, layers, own, any_size=True)
    return own is not None and own.layout is source.layout and own.fill(layers, source)


def _found(entry: Any, layers: Any, before: Region | None, any_size: bool = False) -> Region | None:
    """Find where an entry lies now, and remember it while the entry lives."""
    found, at = find(layers, before, any_size), id(entry)
    if found is None:
        _known.pop(at, None)
    elif found is not before:

        def forget(gone: weakref.ref[Any]) -> None:
            if at in _known and _known[at][0] is gone:
                del _known[at]

        with suppress(TypeError):  # not every class can be referred to weakly
            _known[at] = weakref.ref(entry, forget), found
    return found

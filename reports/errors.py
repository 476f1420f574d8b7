"""What can be wrong with a place on disk that was asked for.

* ``RunUnreadable``: nothing of a run, or one of a newer version, is there.
* ``RunDirectoryError``: a directory of runs can't be written.
"""

from __future__ import annotations


class RunUnreadable(Exception):
    """A path holds no run that this version reads: what was found, what was expected, and what to do."""


class RunDirectoryError(OSError):
    """A run directory can't be made: what was found, and what to do."""

"""The byte work of plain entries, from C where it could be compiled when the package was installed.

``COMPILED`` tells which; a run's manifest and the benchmarks say it, because times depend on it and results do not.
"""

from __future__ import annotations

try:
    from shadow._plain import equal, pack, placed, refill, restage, survey

    COMPILED = True
except ImportError:
    from shadow.plain_python import equal, pack, placed, refill, restage, survey

    COMPILED = False

__all__ = ["COMPILED", "equal", "pack", "placed", "refill", "restage", "survey"]

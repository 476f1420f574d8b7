"""The run directory on disk: writing it from the training process, reading it for people and machines.

PYTEST_DONT_REWRITE: else who imports this and then calls pytest is warned of it, since validator brings a plugin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.formats.tables import Tables
    from reports.record.run import Run


def load(run: Run | Path | str) -> Tables:
    """Load a run as pandas tables; see ``reports.formats.tables.Tables`` for columns and units.

    Args:
        run: A run, its directory, or a directory of runs for the latest one.
    """
    from reports.formats.tables import load as load_tables  # pandas stays out of whoever only writes

    return load_tables(run)

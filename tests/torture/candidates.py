"""Lets a host meet every hostile candidate: ``python -m tests.torture.candidates``."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tests.validator.hostile import CANDIDATES, is_right, meet


def main() -> int:
    """Print a row for each candidate and stage: what it does, what it was charged with, and what came of it."""
    logging.disable(logging.CRITICAL)
    wrong = rows = 0
    print(f"{'what the candidate does':54} {'primary':10} {'charged with':34} {'host, harness, verdict'}")
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        for hostile in CANDIDATES:
            for primary in ("control", "candidate") if hostile.answers else ("control",):
                rows += 1
                met = meet(hostile, Path(scratch) / str(rows), primary)
                right = is_right(hostile, met)
                wrong += not right
                causes = ", ".join(sorted(cause.value for cause in met.causes)) or "nothing"
                print(
                    f"{hostile.name[:54]:54} {primary:10} {causes[:34]:34} {'as it should' if right else met}",
                    flush=True,
                )
    print(f"{len(CANDIDATES)} candidates, {rows} rows, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

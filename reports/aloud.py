"""What a person at the terminal should hear at once, however the host configured its logging."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(text: str) -> None:
    """Write one line on standard error; where there is none, or it is broken, nothing happens."""
    with suppress(Exception):  # closed, a pipe that nobody reads, whatever the host put there
        print(f"kv-lockstep: {text}", file=sys.stderr, flush=True)

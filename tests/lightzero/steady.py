"""Makes two LightZero trainings of one seed the same training, bit for bit, where nothing else tells them apart.

Two things in a stock CartPole training come from outside the seed: the tree search breaks ties by a generator that it
seeds with the microseconds of the clock before every simulation, and gymnasium seeds an environment that is reset
without a seed from the system's entropy. The first is answered by a clock whose microseconds stand still, put before
the C library's (Linux), the second by a counter.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

COMPILER = shutil.which("cc") or shutil.which("gcc")
_STILL_CLOCK = """
#include <stddef.h>
#include <sys/time.h>
#include <time.h>
int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = time(NULL);
    now->tv_usec = 1;
    return 0;
}
"""


def still_clock(directory: Path) -> dict[str, str]:
    """Compile the clock; return the environment variables that put it in a process's way.

    Args:
        directory: Where to put it; it must be there while processes use it.

    Raises:
        RuntimeError: If there is no C compiler.
    """
    if COMPILER is None:
        raise RuntimeError("LightZero's tie-breaking can only be held still with a C compiler, and there is none")
    source, library = directory / "still_clock.c", directory / "still_clock.so"
    source.write_text(_STILL_CLOCK)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "PYTHONHASHSEED": "0"}


def seed_environments() -> None:
    """Seed every environment of this process that nobody else seeds: 0, 1, 2, ..."""
    from gymnasium.utils import seeding

    numbers, seeded = itertools.count(), seeding.np_random
    seeding.np_random = lambda seed=None: seeded(next(numbers) if seed is None else seed)


def weights(policy: Any) -> str:
    """Return a digest of every bit of the weights that a policy of LightZero has learned."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in policy._learn_model.state_dict().items():
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()

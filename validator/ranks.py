"""Which of how many ranks is this process, and which run do all ranks of its launch share?

Whoever comes first names the run and its place, in a store that all of them reach and nobody else does: the one that
torchrun keeps for its workers, or that of the process group. It lives as long as the launch, so that a name which a
launcher uses again never leads into an old run, and nobody waits for anybody. Where there is no such store, ranks find
a name by ``reports.disk.run_id``.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from reports.aloud import say
from reports.disk import run_id as names
from reports.disk.ranks import claimed_again

_PATIENCE = timedelta(seconds=10)
_SESSIONS = itertools.count(1)  # of this process


class Joined(NamedTuple):
    """Where a rank writes.

    Attributes:
        out: Directory of runs.
        run_id: Name of the run.
        about: What the manifest says of it: ``launch``, ``meeting`` (the same for all ranks that agreed, and for no
            others; absent where there was no store) and ``process_group``.
    """

    out: Path
    run_id: str
    about: dict[str, Any]


def has_group() -> bool:
    """Say whether this process is in a process group now."""
    return dist.is_available() and dist.is_initialized()


def place() -> tuple[int, int]:
    """Return this process's rank and the number of ranks: of its process group, else as the launcher says.

    Raises:
        RunDirectoryError: If the launcher's variables are no such numbers.
    """
    return (dist.get_rank(), dist.get_world_size()) if has_group() else names.place()


def in_group(rank: int, size: int) -> str:
    """Say of a session that closes what its process group is to it: empty for none; ``other_process_group`` is a fault.

    Args:
        rank: Rank under which it was opened.
        size: Number of ranks.
    """
    with suppress(Exception):  # one that is being taken down
        if has_group() and not place() == (rank, size) == (0, 1):
            return "process_group" if place() == (rank, size) else "other_process_group"
    return ""


def join(out: Path, wanted: str, rank: int, size: int) -> Joined:
    """Agree with all ranks of this launch on one run.

    Args:
        out: Directory of runs that this rank was given.
        wanted: Name that this rank was given for its run, or empty.
        rank: Its rank.
        size: Number of ranks.

    Returns:
        What whoever came first said; what this rank was given, where they have no store.
    """
    number = next(_SESSIONS)
    launcher, restart = names.launch()
    given = Joined(out, wanted or names.run_id(size, number), {"process_group": has_group()})
    again, joined = 0, given
    try:
        if size > 1 and (store := _store()) is not None:
            again, joined = _agreed(store, f"kv-lockstep/{restart}", given, wanted, rank, number)
    except Exception as problem:  # the training may get on without
        say(f"ranks can't agree on one run through the launcher's store: {type(problem).__name__}: {problem!s:.200}")
    if launcher:
        joined.about["launch"] = {"id": launcher, "session": number, "attempt": [restart, again]}
    return joined


def _agreed(store: Any, key: str, given: Joined, wanted: str, rank: int, number: int) -> tuple[int, Joined]:
    nth = store.add(f"{key}/rank-{rank}", 1)
    mine = json.dumps([str(given.out.absolute()), wanted or names.of_its_own(), secrets.token_hex(8)])
    out, run_id, meeting = json.loads(store.compare_set(f"{key}/{nth}", "", mine))
    again = nth - number
    if again:  # another process was this rank: a second one, or one before all began anew
        before = json.loads(store.get(f"{key}/{nth - 1}"))
        claimed_again(Path(before[0]) / before[1], rank)
        say(f"another process was rank {rank} of this launch before; what was begun with it can't pass")
    return again, Joined(Path(out), run_id, {**given.about, "meeting": meeting})


def _store() -> Any:
    if dist.is_available() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=_PATIENCE, wait_for_workers=False
        )
    return dist.distributed_c10d._get_default_store() if has_group() else None

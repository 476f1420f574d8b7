"""Do the records of a run agree with each other, and did it end? Disagreements become sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reports.disk.layout import RUN_FILE, SUMMARY_FILE, rank_file
from reports.disk.process import alive
from reports.read.lines import RankLines
from reports.record.codec import from_json
from reports.record.parted import parted
from reports.record.run import Run, State
from reports.record.totals import Timed, Totals, fold, summarise
from reports.record.words import READS, SCHEMA

_NAMED = 5


def schema_problems(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Name a schema that this version does not read; one that says none is of the first."""
    schema = content.get("schema", 1)
    if type(schema) is not int or schema not in READS:
        newer = type(schema) is int and schema > SCHEMA
        yield f"{name} is of schema {schema!r:.20}, this kv-lockstep reads up to {SCHEMA}{': upgrade it' * newer}"


def record(cls: type[Any], data: object, where: str, problems: list[str]) -> Any:
    """Rebuild a record; None, and a sentence in ``problems``, where the data is none."""
    try:
        if not isinstance(data, Mapping):
            raise ValueError("no object")
        return from_json(cls, data)
    except ValueError as fault:
        problems.append(f"{where}: {fault!s:.120}")
        return None


def absent_ranks(manifest: Mapping[str, Any], said: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """Name the ranks of which others speak and no file does, and those that are of another launch than the first.

    Args:
        manifest: ``run.json``.
        said: What each rank whose file is there says of itself.
    """
    size = world_size(manifest, said)
    if not size:
        yield f"{RUN_FILE} does not say how many ranks ran"
        return
    n_absent = size - sum(rank < size for rank in said)
    if n_absent:
        named = absent(size, said)
        more = f" and {n_absent - len(named)} more" if n_absent > len(named) else ""
        yield f"{n_absent} of {size} ranks left no file that can be read: rank {', '.join(map(str, named))}{more}"
    if beyond := sorted(rank for rank in said if rank >= size):
        yield f"{rank_file(beyond[0])} belongs to a rank beyond the {size} that {RUN_FILE} names"
    met = {rank: about.get("meeting") for rank, about in sorted(said.items())}
    if foreign := [str(rank) for rank, where in met.items() if where != next(iter(met.values()))]:
        yield f"rank {', '.join(foreign[:_NAMED])} did not agree on this run with rank {min(met)}: of another launch"


def absent(size: int, present: Collection[int]) -> list[int]:
    """Return the first ranks, of so many, that are not present."""
    # At most this many candidates need a look: every other one is present.
    return [rank for rank in range(min(size, len(present) + _NAMED)) if rank not in present][:_NAMED]


def world_size(manifest: Mapping[str, Any], said: Mapping[int, Mapping[str, Any]]) -> int:
    """Return how many ranks there are, as the manifest says, or where there is none, any rank; 0 for unknown."""
    sizes = [about.get("world_size") for about in (manifest, *said.values())]
    return next((size for size in sizes if type(size) is int and size > 0), 0)


def fate_of(lines: RankLines, about: Mapping[str, Any]) -> str:
    """Say how far one rank came, given what it says of itself."""
    if lines.close is not None:
        return "closed" if lines.close.get("state", "complete") == "complete" else "ended before its time"
    return {True: "not closed yet", False: "no close, process gone", None: "no close"}[alive(about)]


def state_of(
    manifest: Mapping[str, Any], summary: Mapping[str, Any] | None, ranks: list[RankLines], may_go_on: bool = True
) -> State:
    """Say how a run ended, or that it has not; see ``reports.reader.read_run``.

    Args:
        manifest: ``run.json``.
        summary: ``summary.json``, written by rank 0 alone.
        ranks: What the lines of each rank hold.
        may_go_on: Whether it can still come to a good end; else it is not worth waiting for.
    """
    closed = {lines.rank for lines in ranks if lines.close is not None}
    size = manifest.get("world_size")
    all_closed = type(size) is int and len(closed) >= size and all(rank in closed for rank in range(len(closed)))
    said = None if summary is None else summary.get("state")
    told = ((lines.close or {}).get("inventory") for lines in ranks)
    states = [each.get("state") for each in told if isinstance(each, Mapping) and each.get("counted")]
    # A close of before inventories says nothing of the state; of any other that says nothing, it was taken out.
    states += [
        lines.close.get("state", None if lines.close.get("inventory") else said)
        for lines in ranks
        if lines.close is not None
    ]
    ended_well = all(state == "complete" for state in states)  # each rank says how its own host ended
    if all_closed and ended_well and said == "complete":
        return "complete"
    open_ones = [alive(lines.about if lines.rank else manifest) for lines in ranks if lines.close is None]
    living = alive(manifest) or any(open_ones)  # a rank of which nothing is here may yet come, while others are
    if may_go_on and ended_well and not all_closed and said in (None, "complete") and living and False not in open_ones:
        return "in progress"
    return "crashed"


def disagreements(
    summary: Mapping[str, Any], manifest: Mapping[str, Any], totals: Totals, ranks: list[RankLines]
) -> Iterator[str]:
    """Hold the summary against the windows: of all ranks, or of rank 0, which wrote it."""
    if summary.get("run_id") != manifest.get("run_id"):
        yield f"{SUMMARY_FILE} belongs to run {summary.get('run_id')!r:.60}, {RUN_FILE} to another"
    for lines in ranks:
        if lines.close is not None and lines.close.get("run_id") != manifest.get("run_id"):
            yield f"{rank_file(lines.rank)} belongs to run {lines.close.get('run_id')!r:.60}, {RUN_FILE} to another"
    if len(ranks) > 1 and summary.get("ops") != totals.ops:
        totals = fold(ranks[0].windows())
    folded = json.loads(json.dumps(summarise(totals)))
    for name in ("ops", "lookups", "divergences", "coverage", "dropped", "lookups_by_pool", "hit_rate", "overhead"):
        said = summary.get(name)
        if not isinstance(said, dict):
            yield f"{SUMMARY_FILE} says nothing of {name}"
        elif difference := parted(said, folded[name]):
            where, in_summary, in_windows = difference
            found = f"{where} is {in_summary} in the summary, {in_windows} in the windows"
            yield f"{SUMMARY_FILE} and the windows disagree on {name}: {found}"
    first = next((lines.close for lines in ranks if lines.rank == 0 and lines.close), {})
    account = summary.get("writer")
    if isinstance(account, Mapping) and any(account.get(name) != first.get(name) for name in ("lost_lines", "faults")):
        yield f"{SUMMARY_FILE} and the close of rank 0 disagree on what was lost: {account.get('faults')!r:.200}"
    if (first.get("inventory") or "lines_digest" in summary) and summary.get("lines_digest") != first.get("digest"):
        yield f"{SUMMARY_FILE} was written beside another {rank_file(0)} than is here"


def contradictions(lines: RankLines, ran: Mapping[str, Any]) -> Iterator[str]:
    """Hold what one rank wrote against what its close says of it.

    Args:
        lines: Its lines.
        ran: What it says of itself: the manifest, or its ``rank`` line.
    """
    told = (lines.close or {}).get("inventory")
    if told is None:
        return  # of a version that took none
    if not isinstance(told, Mapping):
        yield f"{rank_file(lines.rank)}: the inventory in its close is none"
        return
    times = [sum(column) for column in zip((0.0, 0.0, 0), *lines.timed, strict=True)]
    counted = {**summarise(fold(lines.windows())), "timed": Timed(*times)._asdict()}
    found = json.loads(json.dumps(replace(lines.inventory, ran=ran).told(counted)))
    for name in found.keys() - ({"state"} if told.get("counted") else {"state", "counted"}):
        said, here = told.get(name), found[name]
        if difference := parted(said, here):
            where, in_close, elsewhere = difference
            yield (
                f"{rank_file(lines.rank)} contradicts its own close on what it {_SAYS[name]}: "
                f"{where or name} is {elsewhere}, and {in_close} by the close"
            )


_SAYS = {"ran": "is a run of", "caches": "shadowed", "lines": "wrote", "held": "held", "counted": "counted"}


def uncounted(run: Run) -> Iterator[str]:
    """Name divergences that were written but that no window counts: a sum of zero would hide them."""
    for group, count in _written(run).items():
        if count > (counted := run.totals.divergences.get(group, 0)):
            yield f"{count} divergences of {group!r} are written in full, but the windows count {counted}"


def count_what_was_written(run: Run) -> None:
    """Raise the totals to the divergences that were written: a killed process loses the window that counts them."""
    run.totals.divergences.update(Counter(run.totals.divergences) | _written(run))


def _written(run: Run) -> Counter[str]:
    return Counter(divergence.group for divergence in run.divergences)

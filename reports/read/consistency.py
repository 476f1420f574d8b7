"""Do the records of a run agree with each other, and did it end? Disagreements become sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from reports.disk.layout import RUN_FILE, SUMMARY_FILE, rank_file
from reports.disk.process import alive
from reports.read.lines import RankLines
from reports.record.run import Run, State
from reports.record.totals import Totals, fold, summarise
from reports.record.words import READS, SCHEMA

_NAMED = 5


def schema_problems(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Name a schema that this version does not read; one that says none is of the first."""
    schema = content.get("schema", 1)
    if type(schema) is not int or schema not in READS:
        newer = type(schema) is int and schema > SCHEMA
        yield f"{name} is of schema {schema!r:.20}, this kv-lockstep reads up to {SCHEMA}{': upgrade it' * newer}"


def absent_ranks(manifest: Mapping[str, Any], present: set[int]) -> Iterator[str]:
    """Name the ranks of which the manifest speaks and no file does."""
    size = manifest.get("world_size")
    if type(size) is not int or size < 1:
        yield f"{RUN_FILE} does not say how many ranks ran"
        return
    n_absent = size - sum(rank < size for rank in present)
    if n_absent:
        # At most this many candidates need a look: every other one is present.
        named = [str(rank) for rank in range(min(size, len(present) + _NAMED)) if rank not in present][:_NAMED]
        more = f" and {n_absent - len(named)} more" if n_absent > len(named) else ""
        yield f"{n_absent} of {size} ranks left no file that can be read: rank {', '.join(named)}{more}"
    if beyond := sorted(rank for rank in present if rank >= size):
        yield f"{rank_file(beyond[0])} belongs to a rank beyond the {size} that {RUN_FILE} names"


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
    ended_well = all(lines.close.get("state", said) == "complete" for lines in ranks if lines.close is not None)
    if all_closed and ended_well and said == "complete":
        return "complete"
    if may_go_on and ended_well and not all_closed and said in (None, "complete") and alive(manifest):
        return "in progress"
    return "crashed"


def disagreements(
    summary: Mapping[str, Any], manifest: Mapping[str, Any], totals: Totals, ranks: list[RankLines]
) -> Iterator[str]:
    """Hold the summary against the windows: of all ranks, or of rank 0, which wrote it."""
    if summary.get("run_id", manifest.get("run_id")) != manifest.get("run_id", summary.get("run_id")):
        yield f"{SUMMARY_FILE} belongs to run {summary.get('run_id')!r:.60}, {RUN_FILE} to another"
    for lines in ranks:
        if lines.close is not None and lines.close.get("run_id") != manifest.get("run_id"):
            yield f"{rank_file(lines.rank)} belongs to run {lines.close.get('run_id')!r:.60}, {RUN_FILE} to another"
    if len(ranks) > 1 and summary.get("ops") != totals.ops:
        totals = fold(ranks[0].windows())
    folded = json.loads(json.dumps(summarise(totals)))
    for name in ("ops", "lookups", "divergences", "coverage", "dropped"):
        said, counted = summary.get(name), folded[name]
        if said == counted:
            continue
        if not isinstance(said, dict):
            yield f"{SUMMARY_FILE} says nothing of {name}"
            continue
        part = next(part for part in (*said, *counted) if said.get(part) != counted.get(part))
        yield (
            f"{SUMMARY_FILE} and the windows disagree on {name}: "
            f"{part!s:.60} is {said.get(part)!r:.60} in the summary, {counted.get(part)!r:.60} in the windows"
        )


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

"""What a run directory holds: read as far as it can be read, with a sentence for everything that can't.

Nothing in a run directory is trusted. Links that leave it are not followed, counts are checked before they are added,
and a run whose records disagree with each other says so in ``problems``, with which no run passes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.disk.json_file import is_inside, json_file
from reports.disk.layout import (
    EVIDENCE_DIR,
    LOST_FILE,
    RANK_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    folders_in,
    forked_file,
    rank_file,
    twice_file,
)
from reports.disk.losses import noted, told
from reports.errors import RunUnreadable
from reports.read.campaign import is_campaign
from reports.read.consistency import (
    absent,
    absent_ranks,
    contradictions,
    count_what_was_written,
    disagreements,
    fate_of,
    schema_problems,
    state_of,
    uncounted,
    world_size,
)
from reports.read.course import course
from reports.read.lines import read_lines, read_open
from reports.read.windows import MOST
from reports.record.inventory import at_odds
from reports.record.records import Divergence
from reports.record.redaction import redacted
from reports.record.run import Run, created
from reports.record.totals import add_counts, fold


def read_run(path: Path | str, most_windows: int = MOST, with_latency: bool = True) -> Run:
    """Read one run directory.

    Args:
        path: The directory.
        most_windows: Half of how many windows of one pair are kept apart; beyond, neighbours are added up.
        with_latency: Whether windows, and totals, keep their latencies; else those are not even looked at where a
            window says what they add up to.

    Returns:
        The run. It is ``complete`` if every rank closed and the summary says so; else ``in progress`` if a rank has not
        closed and the process that the manifest names lives on this machine; else ``crashed``.

    Raises:
        RunUnreadable: If nothing of a run is there.
    """
    path = Path(path)
    problems: list[str] = []
    changed: list[str] = []
    files = _rank_files(path, problems)
    manifest = json_file(path, RUN_FILE, problems, changed)
    is_run = _is_of_a_run(manifest)
    if not files and not is_run:
        raise RunUnreadable(_no_run(path))
    if manifest is None:
        manifest = {}
        if not problems or RUN_FILE not in problems[-1]:
            problems.append(f"{RUN_FILE} is missing: what ran is unknown")
    elif not is_run:
        problems.append(f"{RUN_FILE} is not of a run: it lacks schema or run_id")
    problems += schema_problems(RUN_FILE, manifest)

    ranks = []
    for rank, file in sorted(files.items()):
        open_windows = read_open(path, rank, problems, changed)
        try:
            ranks.append(read_lines(file, rank, open_windows, most_windows, with_latency))
        except OSError as fault:
            problems.append(f"{file.name} can't be opened: {fault.strerror}")
    said = {lines.rank: lines.about if lines.rank else manifest for lines in ranks}
    problems += absent_ranks(manifest, said)
    summary = json_file(path, SUMMARY_FILE, problems, changed)
    told_of = sorted({int(match[1]) for name in _names(path) if (match := LOST_FILE.fullmatch(name))})
    lost = [_of_rank(rank, told(noted(path, rank))) for rank in told_of]
    state = state_of(manifest, summary, ranks, may_go_on=not any(lost))
    for lines in ranks:
        problems += lines.problems()
        if os.path.lexists(path / forked_file(lines.rank)) or (lines.close or {}).get("forked"):
            problems.append(_of_rank(lines.rank, "the cache was used in a forked process, not observed"))
        if os.path.lexists(path / twice_file(lines.rank)):
            problems.append(f"two processes called themselves rank {lines.rank}, and only one was observed")
        if lines.cut_off and state != "in progress":
            problems.append(f"{rank_file(lines.rank)}: the last line is cut off")
        if lines.close is None and state != "in progress":
            problems.append(f"{rank_file(lines.rank)}: no close, so rank {lines.rank} did not end in order")

    run = Run(path, state, manifest, summary, problems=problems)
    run.course = course(path)
    run.lost = "; ".join(filter(None, lost))
    run.ended = "; ".join(filter(None, (_of_rank(lines.rank, lines.ended) for lines in ranks)))
    for lines in ranks:
        run.caches += lines.caches
        run.windows += lines.windows()
        run.timed += lines.timed
        run.divergences += lines.divergences
        run.events += lines.events
        run.ranks[lines.rank] = said[lines.rank]
        run.fates[lines.rank] = fate_of(lines, said[lines.rank])
        run.digests[rank_file(lines.rank)] = str((lines.close or {}).get("digest", ""))
        for cache, sides in lines.inventory.held.items():
            run.most_held[lines.rank, cache] = {side: most for side, (most, _) in sides.items()}
        add_counts(run.n_events, lines.n_events)
        problems += contradictions(lines, run.ranks[lines.rank])
    run.fates |= dict.fromkeys(absent(world_size(manifest, said), said), "missing")
    run.totals = fold(run.windows)
    run.divergences = _with_evidence(path, run.divergences, problems)
    if summary is not None:
        problems += schema_problems(SUMMARY_FILE, summary)
        problems += disagreements(summary, manifest, run.totals, ranks)
    elif state != "in progress":
        problems.append(f"{SUMMARY_FILE} is missing or unreadable: the run did not end in order")
    if state == "complete":
        problems += uncounted(run)
        problems += at_odds(run.totals) if "validation" in manifest else ()  # counted by a session, each by itself
    else:
        count_what_was_written(run)
    run.manifest = redacted(run.manifest)  # of a version that wrote secrets too
    # Where something more telling is said of a file already, this adds nothing.
    problems += [one for one in changed if not any(said.startswith(one.split()[0]) for said in problems)]
    return run


def find_runs(path: Path | str) -> list[Path]:
    """Find runs.

    Args:
        path: A run directory, or a directory of run directories.

    Returns:
        The run itself, or all runs directly below, oldest first; never an empty list.

    Raises:
        RunUnreadable: If there is none.
    """
    path = Path(path)
    if _looks_like_run(path):
        return [path]
    below = [child for child in folders_in(path) if _looks_like_run(child)]
    if not below:
        raise RunUnreadable(_no_run(path))
    return sorted(below, key=lambda child: (_created(child), child.name)) if below[1:] else below


def unread_below(path: Path | str) -> list[str]:
    """Say what lies in a directory of runs that ``find_runs`` passes over, though it may hold runs."""
    path = Path(path)
    if _looks_like_run(path):
        return []
    links = [child for name in _names(path) if (child := path / name).is_symlink() and child.is_dir()]
    said = [f"{link} is a symbolic link, which is not followed" for link in links]
    for child in folders_in(path):
        if is_campaign(child):
            said.append(f"{child} is a campaign, whose runs were not read")
        elif not _looks_like_run(child) and any(map(_looks_like_run, folders_in(child))):
            said.append(f"{child} holds runs of its own, which were not read")
    return said


def _of_rank(rank: int, said: str) -> str:
    return f"{said}, on rank {rank}" if said and rank else said


def _no_run(path: Path) -> str:
    if not path.exists():
        found = "there is nothing"
    elif not path.is_dir():
        found = "found a file"
    else:
        found = f"found a directory with neither a {RUN_FILE} of a run nor rank-NNNN.jsonl"
    return f"{path}: {found}; expected a run directory, <out>/<run_id>/ of a validated training: check the path"


def _names(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path))
    except OSError:
        return []


def _looks_like_run(path: Path) -> bool:
    names = _names(path)
    if any(RANK_FILE.fullmatch(name) for name in names):
        return True
    return RUN_FILE in names and _is_of_a_run(json_file(path, RUN_FILE, [], []))


def _is_of_a_run(manifest: Mapping[str, Any] | None) -> bool:
    return manifest is not None and {"run_id", "schema"} <= manifest.keys()


def _created(path: Path) -> float:
    said = created(json_file(path, RUN_FILE, [], []) or {})
    return path.stat().st_mtime if said is None else said


def _rank_files(path: Path, problems: list[str]) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for name in _names(path):
        if match := RANK_FILE.fullmatch(name):
            if is_inside(path, name):
                files.setdefault(int(match[1]), path / name)
            else:
                problems.append(f"{name} is no plain file inside the run directory; not read")
    return files


def _with_evidence(path: Path, divergences: list[Divergence], problems: list[str]) -> list[Divergence]:
    """Blank evidence that is absent or lies elsewhere, so that nobody downstream opens it."""
    lost = {
        name
        for name in {one.evidence for one in divergences} - {""}
        if not (name.startswith(f"{EVIDENCE_DIR}/") and is_inside(path, name))
    }
    losing = [one.evidence for one in divergences if one.evidence in lost]
    if not losing:
        return divergences
    problems.append(f"evidence of {len(losing)} divergences is no file of this run, the first is {losing[0]!r:.100}")
    return [
        replace(one, evidence="", evidence_note=f"{one.evidence!r:.100} is no file of this run")
        if one.evidence in lost
        else one
        for one in divergences
    ]

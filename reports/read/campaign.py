"""A campaign on disk: written by whoever drives it, read without trust by whoever judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.disk.json_file import json_file
from reports.disk.layout import described, encoded, folders_in, write_atomically
from reports.disk.seal import seal
from reports.errors import RunUnreadable
from reports.read.consistency import record, schema_problems
from reports.record.campaign import (
    ATTEMPT_DIR,
    ATTEMPT_FILE,
    CAMPAIGN_FILE,
    CAMPAIGN_KIND,
    JOBS_DIR,
    Attempt,
    Campaign,
    Job,
)
from reports.record.codec import to_json
from reports.record.redaction import redacted
from reports.record.words import SCHEMA


def write_campaign(path: Path, about: Mapping[str, Any], jobs: Sequence[Job]) -> None:
    """Write ``campaign.json``.

    Args:
        path: The campaign's directory.
        about: What was asked for.
        jobs: What follows from it.

    Raises:
        OSError: If it can't be written.
    """
    content = {"schema": SCHEMA, "kind": CAMPAIGN_KIND, **redacted(described(about)), "jobs": [*map(to_json, jobs)]}
    write_atomically(path / CAMPAIGN_FILE, seal(encoded(content, indent=1)))


def write_attempt(path: Path, attempt: Attempt) -> None:
    """Write what became of an attempt, in its own directory.

    Args:
        path: The campaign's directory.
        attempt: The attempt.

    Raises:
        OSError: If it can't be written.
    """
    about = {"schema": SCHEMA, **to_json(attempt)}
    write_atomically(path / attempt.directory / ATTEMPT_FILE, seal(encoded(about, indent=1)), sync=False)


def is_campaign(path: Path) -> bool:
    """Say whether a directory is that of a campaign."""
    return (path / CAMPAIGN_FILE).is_file()


def read_campaign(path: Path) -> Campaign:
    """Read a campaign.

    Args:
        path: Its directory.

    Returns:
        What it holds; ``problems`` names what of it can't be believed.

    Raises:
        RunUnreadable: If there is no campaign.
    """
    problems: list[str] = []
    content = json_file(path, CAMPAIGN_FILE, problems, problems)
    if content is None:
        found = problems[0] if problems else f"no {CAMPAIGN_FILE} in it"
        raise RunUnreadable(f"{path}: {found}; expected the directory of a kv-lockstep campaign")
    problems += schema_problems(CAMPAIGN_FILE, {"schema": None, **content})
    if content.get("kind") != CAMPAIGN_KIND:
        problems.append(f"{CAMPAIGN_FILE} is of kind {content.get('kind')!r:.40}, expected {CAMPAIGN_KIND!r}")
    listed = content.pop("jobs", None)
    jobs = [record(Job, job, f"{CAMPAIGN_FILE}: job {n}", problems) for n, job in enumerate(_list(listed))]
    campaign = Campaign(path, content, [job for job in jobs if job is not None], problems=problems)
    if [job.number for job in campaign.jobs] != list(range(len(_list(listed)))) or not campaign.jobs:
        problems.append(f"{CAMPAIGN_FILE} does not list its jobs from 0 on, each once")
    for directory in _attempts(path):
        said: list[str] = []
        data = json_file(directory, ATTEMPT_FILE, said, said)
        problems += [f"{JOBS_DIR}/{directory.name}: {sentence}" for sentence in said]
        match = ATTEMPT_DIR.fullmatch(directory.name)
        attempt = data and record(Attempt, data, f"{JOBS_DIR}/{directory.name}", problems)
        if not attempt or not match:
            if not said and data is None and any(directory.iterdir()):  # empty: killed before anything began
                problems.append(f"{JOBS_DIR}/{directory.name} has no {ATTEMPT_FILE}, and holds something")
            continue
        if (attempt.job, attempt.number) != (int(match[1]), int(match[2])) or attempt.job >= len(campaign.jobs):
            problems.append(f"{JOBS_DIR}/{directory.name} holds the record of attempt {attempt.directory}")
            continue
        campaign.attempts.append(attempt)
    campaign.attempts.sort(key=lambda one: (one.job, one.number))
    return campaign


def campaign_files(path: Path) -> list[str]:
    """Return the names of everything that says which runs a campaign consists of."""
    return [CAMPAIGN_FILE, *(f"{JOBS_DIR}/{directory.name}/{ATTEMPT_FILE}" for directory in _attempts(path))]


def new_attempt(path: Path, job: int, least: int = 1) -> int:
    """Make the directory of a job's next attempt; of two that ask at once each gets one of its own.

    Args:
        path: The campaign's directory.
        job: The job's number.
        least: The first number to try.

    Returns:
        The attempt's number.

    Raises:
        OSError: If it can't be made.
    """
    (path / JOBS_DIR).mkdir(exist_ok=True)
    while True:
        try:
            (path / Attempt(job, least).directory).mkdir()
            return least
        except FileExistsError:
            least += 1


def _attempts(path: Path) -> list[Path]:
    return [folder for folder in folders_in(path / JOBS_DIR) if ATTEMPT_DIR.fullmatch(folder.name)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

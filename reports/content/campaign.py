"""What the page of a campaign says: what ran where, what differed over all runs, what was exercised, slow, or lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from reports.content import facts
from reports.content.facts import Judgement
from reports.content.groups import grouped
from reports.content.text import plural, seconds
from reports.record.campaign import Attempt, Campaign, Fate, Job
from reports.record.run import Run
from reports.record.words import EXIT_CODE

_RUN_PAGE = "report.html"
_MOST = {"jobs": 2000, "causes": 100, "coverage": 80, "slowest": 10, "lost": 100, "demands": 60, "rates": 120}
_SEEDS_NAMED = 8
_VERDICTS = {code: verdict.value for verdict, code in EXIT_CODE.items()}


class Judged(Judgement, Protocol):
    """A judgement with rates; ``validator.gate.judgement.Judgement`` is one."""

    @property
    def rates(self) -> Sequence[Any]: ...
    @property
    def spread(self) -> Sequence[str]: ...
    @property
    def groups(self) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to a run's own page, relative to the campaign's."""

    text: str
    href: str


Cell = str | Link


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page.

    Attributes:
        title: What it holds.
        columns: Titles.
        rows: Cells.
        n_names: How many columns at the left hold names.
        remarks: What to know of it, a sentence each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_names: int = 1
    remarks: tuple[str, ...] = ()


def state(campaign: Campaign) -> str:
    """Say in one line how far a campaign is."""
    fates = Counter(one.fate for one in campaign.counting().values())
    n_running = sum(one.fate is Fate.RUNNING for one in campaign.attempts)
    told = [(fates[Fate.JUDGED], "judged"), (fates[Fate.FAILED], "failed"), (n_running, "running")]
    n_superseded = len(list(campaign.superseded()))
    told += [(len(campaign.missing()) - n_running, "missing")]
    told += [(n_superseded, "attempt lost or stopped" if n_superseded == 1 else "attempts lost or stopped")]
    return f"{plural(len(campaign.jobs), 'job')}: " + ", ".join(f"{n:,} {what}" for n, what in told if n > 0)


def outcome(attempt: Attempt | None) -> str:
    """Say what became of an attempt: its verdict, else its fate."""
    if attempt is None:
        return "never ran"
    return _VERDICTS.get(attempt.code or 0, "") if attempt.fate is Fate.JUDGED else attempt.fate.value


def tables(campaign: Campaign, runs: Sequence[Run], judgement: Judged) -> Iterator[Table]:
    """Yield the tables of the page.

    Args:
        campaign: The campaign.
        runs: The runs that count.
        judgement: What the gate says of all of them.
    """
    by_job = _by_job(campaign, runs)
    yield _cut("causes", _causes(campaign, by_job))
    yield _cut("rates", _rates(judgement))
    yield _cut("jobs", _jobs(campaign, by_job))
    yield _cut("coverage", _coverage(runs))
    yield _cut("slowest", _slowest(campaign, by_job))
    yield _cut("lost", _lost(campaign))
    yield _cut("demands", _demands(judgement))


def _cut(name: str, table: Table) -> Table:
    most = _MOST[name]
    if len(table.rows) <= most:
        return table
    more = f"and {len(table.rows) - most:,} more"
    remarks = table.remarks if name == "slowest" else (*table.remarks, more)
    return Table(table.title, table.columns, table.rows[:most], table.n_names, remarks)


def _by_job(campaign: Campaign, runs: Sequence[Run]) -> dict[int, list[Run]]:
    jobs = campaign.folders()
    found: dict[int, list[Run]] = {}
    for run in runs:
        if (job := jobs.get(run.path.resolve().parent)) is not None:
            found.setdefault(job.number, []).append(run)
    return found


def _page_of(campaign: Campaign, run: Run, text: str) -> Cell:
    page = run.path / _RUN_PAGE
    return Link(text, quote(page.relative_to(campaign.path).as_posix())) if page.is_file() else text


def _causes(campaign: Campaign, by_job: Mapping[int, list[Run]]) -> Table:
    found: dict[tuple[str, str, str], list[tuple[int, int, Run]]] = {}
    for job, runs in sorted(by_job.items()):
        for run in runs:
            for group in grouped(run):
                key = (group.cause, group.fault, facts.words(group.dimension))
                found.setdefault(key, []).append((group.count, job, run))
    n_runs = sum(map(len, by_job.values()))
    rows: list[tuple[Cell, ...]] = []
    for key, seen in sorted(found.items(), key=lambda item: -sum(n for n, _, _ in item[1])):
        count, job, run = max(seen, key=lambda one: one[0])
        jobs = dict.fromkeys(_seed(campaign.jobs[each]) for _, each, _ in seen)
        named = ", ".join(list(jobs)[:_SEEDS_NAMED]) + (
            f" and {len(jobs) - _SEEDS_NAMED} more" * (len(jobs) > _SEEDS_NAMED)
        )
        total, where = sum(n for n, _, _ in seen), f"{len(seen):,} of {n_runs:,}"
        rows.append((*key, named, f"{total:,}", where, _page_of(campaign, run, f"{count:,} in job {job}")))
    columns = ("cause", "at fault", "in respect of", "seeds", "times", "in runs", "most in one")
    remarks = () if rows else ("Nothing differed in any run that counts.",)
    return Table("Divergences by cause, over all runs", columns, tuple(rows), 4, remarks)


def _rates(judgement: Judged) -> Table:
    rows = [("all runs", *_pair(pair)) for pair in _pairs(judgement.rates)]
    rows += [(f"{one.name} ({one.n_runs})", *_pair(pair)) for one in judgement.groups for pair in _pairs(one.rates)]
    remarks = ("Without waived divergences; each bound at 95 %.", *judgement.spread)
    return Table("Divergence rates", ("runs", "pool", "per lookup", "per episode"), tuple(rows), 4, remarks)


def _pairs(rates: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(rates[::2], rates[1::2], strict=True)


def _pair(pair: tuple[Any, Any]) -> tuple[str, str, str]:
    by_lookup, by_episode = pair
    return by_lookup.pool, str(by_lookup), str(by_episode)


def _jobs(campaign: Campaign, by_job: Mapping[int, list[Run]]) -> Table:
    counting = campaign.counting()
    last = {one.job: one for one in campaign.attempts}
    rows: list[tuple[Cell, ...]] = []
    for job in campaign.jobs:
        attempt, runs = counting.get(job.number, last.get(job.number)), by_job.get(job.number, [])
        shown: Cell = outcome(attempt)
        if runs:
            shown = _page_of(campaign, runs[-1], outcome(attempt))
        about = (str(job.number), job.command[0], _seed(job), job.primary or "-", job.settings or "-")
        where = attempt.host or "-" if attempt else "-"
        lookups, diverged = (sum(each) for each in ((r.totals.n_lookups for r in runs), map(_diverged, runs)))
        took = seconds(attempt.seconds) if attempt else "-"
        rows.append((*about, where, shown, took, f"{lookups:,}", f"{diverged:,}"))
    columns = ("job", "what", "seed", "primary", "settings", "machine", "verdict", "took", "lookups", "divergences")
    return Table("What ran where", columns, tuple(rows), 7, (state(campaign),))


def _diverged(run: Run) -> int:
    return max(run.totals.n_divergences, run.totals.n_differing, len(run.divergences))


def _coverage(runs: Sequence[Run]) -> Table:
    names = dict.fromkeys(name for run in runs for name in run.totals.coverage)
    rows = []
    for name in sorted(names):
        counts = [run.totals.coverage.get(name, 0) for run in runs]
        n_seen = sum(map(bool, counts))
        rows.append((facts.words(name), f"{sum(counts):,}", f"{min(counts):,}", f"{n_seen:,} of {len(runs):,}"))
    columns = ("what happened", "in all runs", "least in one run", "in runs")
    return Table("Coverage, united", columns, tuple(rows))


def _slowest(campaign: Campaign, by_job: Mapping[int, list[Run]]) -> Table:
    ended = sorted(campaign.counting().values(), key=lambda one: -one.seconds)
    rows = []
    for one in ended[: _MOST["slowest"]]:
        spent = [facts.overhead(run) for run in by_job.get(one.job, [])]
        rows.append((str(campaign.jobs[one.job]), one.host or "-", "; ".join(spent) or "-", seconds(one.seconds)))
    remarks: tuple[str, ...] = ()
    if ended:
        middle = ended[len(ended) // 2].seconds
        remarks = (f"The median job took {seconds(middle)}, all of them {seconds(sum(one.seconds for one in ended))}.",)
    return Table("Slowest jobs", ("job", "machine", "validating", "took"), tuple(rows), 3, remarks)


def _lost(campaign: Campaign) -> Table:
    counting = campaign.counting()
    rows = []
    for one in campaign.superseded():
        after = f"repeated as {counting[one.job].directory}" if one.job in counting else "not repeated to an end"
        rows.append((one.directory, str(campaign.jobs[one.job]), one.fate.value, one.reason, one.host or "-", after))
    columns = ("attempt", "job", "what became of it", "why", "machine", "and then")
    remarks = () if rows else ("No attempt was lost or stopped.",)
    return Table("Lost, stopped and repeated", columns, tuple(rows), 6, remarks)


def _demands(judgement: Judged) -> Table:
    rows = []
    for one in facts.by_gravity(judgement.demands):
        rows.append((one.verdict.value, one.demanded, "; ".join(filter(None, (one.found, one.where, one.remedy)))))
    return Table("What was demanded", ("shown", "demanded", "found, and what to do"), tuple(rows), 3)


def _seed(job: Job) -> str:
    return "-" if job.seed is None else str(job.seed)

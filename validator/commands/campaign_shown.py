"""What a person sees of a campaign while it runs: every job that runs with its counts, and each as it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from reports.content.campaign import outcome, state
from reports.content.text import line, plural, seconds
from reports.disk.process import alive
from reports.errors import RunUnreadable
from reports.read.campaign import read_campaign
from reports.read.follow import Follower
from reports.reader import find_runs
from reports.record.campaign import Attempt, Campaign, Fate, Job

_EVERY_S = 1.0
_PLAIN_EVERY_S = 30.0
_MOST_SHOWN = 16
_STYLES = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow"}


class Standing:
    """How far a campaign is; each look reads only what is new of the runs that are in progress."""

    def __init__(self) -> None:
        self._followers: dict[str, Follower] = {}

    def look(self, campaign: Campaign) -> tuple[int, list[Text]]:
        """Return how many jobs have ended, and a line for each that runs."""
        running = {one.directory: one for one in campaign.attempts if one.fate is Fate.RUNNING}
        for gone in self._followers.keys() - running.keys():
            self._followers.pop(gone).close()
        shown = [self._running(campaign, one) for one in list(running.values())[:_MOST_SHOWN]]
        if len(running) > _MOST_SHOWN:
            shown.append(Text(f"and {len(running) - _MOST_SHOWN:,} more are running"))
        return len(campaign.counting()), shown

    def close(self) -> None:
        """Let go of the files."""
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    def _running(self, campaign: Campaign, one: Attempt) -> Text:
        text = Text(line(campaign.jobs[one.job], 200))
        text.append(f"  {seconds(max(0.0, time.time() - one.begun))}")
        with contextlib.suppress(RunUnreadable, OSError):
            if one.directory not in self._followers:
                self._followers[one.directory] = Follower(find_runs(campaign.path / one.directory)[-1])
            totals = self._followers[one.directory].look()
            text.append(f"  {plural(sum(totals.ops.values()), 'operation')}")
            diverged = totals.n_divergences
            text.append(f"  {plural(diverged, 'divergence')}", "bold red" if diverged else "")
        return text


def ended_line(job: Job, attempt: Attempt) -> Text:
    """Say of one attempt what became of it."""
    said = outcome(attempt)
    text = Text(line(job, 200))
    text.append(f" {said}", _STYLES.get(said, "bold red"))
    text.append(f" in {seconds(attempt.seconds)}")
    text.append(f": {line(attempt.reason, 400)}" if attempt.reason else "")
    return text


class Shown:
    """Shows a campaign as it runs.

    Args:
        out: Where to.
        campaign: The campaign.
        live: What is drawn anew; None where there is no terminal.
    """

    def __init__(self, out: Console, campaign: Campaign, live: Live | None) -> None:
        self._out = out
        self._campaign = campaign
        self._live = live
        self._standing = Standing()
        columns = TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, auto_refresh=False)
        self._task = self._bar.add_task("", total=len(campaign.jobs))
        self._looked_at = time.monotonic()

    def changed(self, job: Job, attempt: Attempt) -> None:
        """Hear what became of an attempt."""
        if attempt.fate is not Fate.RUNNING:
            self._out.print(ended_line(job, attempt), soft_wrap=True)

    def looked(self) -> None:
        """Hear that time has passed."""
        every_s = _EVERY_S if self._live else _PLAIN_EVERY_S
        if time.monotonic() - self._looked_at < every_s:
            return
        self._looked_at = time.monotonic()
        done, lines = self._standing.look(self._campaign)
        if self._live:
            self._bar.update(self._task, completed=done)
            self._live.update(Group(*lines, self._bar), refresh=True)
        else:
            running = plural(len(lines), "job") if len(lines) != 1 else "1 job"
            self._out.print(f"{done:,} of {len(self._campaign.jobs):,} jobs ended, {running} running", soft_wrap=True)

    def close(self) -> None:
        """Let go of what was followed."""
        self._standing.close()


@contextmanager
def campaign_display(out: Console, campaign: Campaign, quiet: bool) -> Iterator[Shown]:
    """Show how a campaign goes: what runs on a terminal, a line for each job that ended everywhere.

    Args:
        out: Where to.
        campaign: The campaign.
        quiet: Show nothing.

    Yields:
        What to tell.
    """
    shown = Console(quiet=True) if quiet else out
    live = Live(console=shown, transient=True, auto_refresh=False) if shown.is_terminal and not quiet else None
    made = Shown(shown, campaign, live)
    try:
        with live or contextlib.nullcontext():
            yield made
    finally:
        made.close()


def watch_campaign(path: Path, out: Console, every_s: float, once: bool) -> int:
    """Follow a campaign that somebody else drives, until nothing of it runs.

    Args:
        path: Its directory.
        out: Where to.
        every_s: Seconds between looks.
        once: Look once.

    Returns:
        0: it could be shown.
    """
    standing, live = Standing(), Live(console=out, auto_refresh=False) if out.is_terminal and not once else None
    try:
        with live or contextlib.nullcontext():
            while True:
                campaign = read_campaign(path)
                lines = [Text(line(state(campaign), 400)), *standing.look(campaign)[1]]
                lines += [Text(line(problem, 400), "bold red") for problem in campaign.problems[:5]]
                if live:
                    live.update(Group(*lines), refresh=True)
                else:
                    out.print(*lines, sep="\n", end="\n\n", soft_wrap=True)
                if once or not any(one.fate is Fate.RUNNING and alive(one.driver) for one in campaign.attempts):
                    break
                time.sleep(every_s)
        out.print(line(f"its verdict: kv-lockstep gate {path}", 4000), soft_wrap=True)
    except KeyboardInterrupt:
        pass  # how one leaves it
    finally:
        standing.close()
    return 0

"""One campaign as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from reports.content import campaign as content
from reports.formats.html.page import PAGE_FILE, render_template
from reports.record.campaign import Campaign
from reports.record.run import Run

__all__ = ["PAGE_FILE", "render"]

MAX_BYTES = 2_000_000
_LONGEST = (400, 120, 40, 12)  # characters of one text: fewer until the page is small enough


def render(campaign: Campaign, runs: Sequence[Run], judgement: content.Judged) -> str:
    """Return the page of a campaign, below ``MAX_BYTES`` for thousands of runs.

    Args:
        campaign: The campaign.
        runs: The runs that count.
        judgement: What the gate says of all of them.
    """
    lookups, diverged = sum(run.totals.n_lookups for run in runs), sum(run.totals.n_divergences for run in runs)
    about = {
        "name": campaign.path.name,
        "state": content.state(campaign),
        "verdict": judgement.verdict,
        "reasons": judgement.reasons[:20],
        "figures": [("runs", f"{len(runs):,}"), ("lookups", f"{lookups:,}"), ("divergences", f"{diverged:,}")],
        "problems": campaign.problems[:20],
        "tables": list(content.tables(campaign, runs, judgement)),
    }
    for longest in _LONGEST:
        page = render_template("campaign.html", about, longest)
        if len(page.encode("utf-8", "backslashreplace")) <= MAX_BYTES:
            break
    return page

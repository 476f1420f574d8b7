"""``kv-lockstep watch``: follow a run, or a campaign, in progress until it ends."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable

from rich.live import Live
from rich.text import Text

from reports.content.facts import SIDES, words
from reports.content.text import line, plural, seconds, share
from reports.read.campaign import is_campaign
from reports.read.follow import Follower
from reports.reader import find_runs
from reports.record.totals import Totals
from validator.commands.campaign_shown import watch_campaign
from validator.commands.show import console
from validator.errors import LockstepError


def main(arguments: Namespace) -> int:
    """Follow.

    Args:
        arguments: ``run, every, once``; see ``arguments.py``.

    Returns:
        0: the run could be shown.

    Raises:
        LockstepError: If the time between looks is none.
    """
    if not 0.05 <= arguments.every <= 3600:
        raise LockstepError(f"--every: expected 0.05 to 3600 seconds, got {arguments.every}")
    out = console()
    if is_campaign(arguments.run):
        return watch_campaign(arguments.run, out, arguments.every, arguments.once)
    path = find_runs(arguments.run)[-1]
    follower = Follower(path)
    try:
        if out.is_terminal and not arguments.once:
            with Live(console=out, auto_refresh=False) as live:
                _follow(follower, arguments.every, lambda text: live.update(text, refresh=True))
        else:
            _follow(follower, arguments.every, lambda text: out.print(text, end="\n\n", soft_wrap=True), arguments.once)
        out.print(line(f"in full: kv-lockstep report {path}", 4000), soft_wrap=True)
    except KeyboardInterrupt:
        pass  # how one leaves it
    finally:
        follower.close()
    return 0


def _follow(follower: Follower, every_s: float, show: Callable[[Text], None], once: bool = False) -> None:
    before: Totals | None = None
    while True:
        totals = follower.look()
        show(_figures(follower, totals, before))
        if once or follower.state != "in progress":
            return
        before = totals
        time.sleep(every_s)


def _figures(follower: Follower, totals: Totals, before: Totals | None) -> Text:
    n_ops = sum(totals.ops.values())
    rates = totals.hit_rate()
    shown = ", ".join(f"{side} {share(rates[side])}" for side in SIDES)
    text = Text()
    style = {"closed": "green", "crashed": "red"}.get(follower.state, "yellow")
    text.append(follower.state, style)
    text.append(f", {seconds(totals.t_s)}, {plural(n_ops, 'operation')}{_rate(totals, before)}\n")
    outcomes = ", ".join(f"{words(name)} {count:,}" for name, count in totals.outcomes().items())
    text.append(f"lookups      {outcomes}\nhit rate     {shown}\n")
    n_diverged = totals.n_divergences
    text.append(f"divergences  {n_diverged:,}", "bold red" if n_diverged else "")
    if follower.last is not None:
        last = follower.last
        text.append(f"; the last: {last.fault.value} at fault, {last.cause.value}, operation {last.op_index:,}\n")
        text.append(f"             {line(last.explanation, 300)}")
    gone = ", ".join(f"rank {rank} without a close" for rank in follower.gone)
    for name, said in (("lost", follower.lost), ("hung", follower.stalled), ("gone", gone)):
        if said:
            text.append(f"\n{name:13}{line(said, 300)}", "bold red")
    return text


def _rate(totals: Totals, before: Totals | None) -> str:
    """Say how many operations a second ran, since the last look that saw a new window, else since the begin."""
    since = before if before is not None and totals.t_s > before.t_s else Totals()
    passed_s = totals.t_s - since.t_s
    n_ops = sum(totals.ops.values()) - sum(since.ops.values())
    return f", {n_ops / passed_s:,.0f} per second" if passed_s > 0 else ""

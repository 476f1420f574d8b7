"""``kv-lockstep report``: show one run in full; the default policy's verdict is shown, and is not the exit code."""

from __future__ import annotations

from argparse import Namespace

from reports.reader import find_runs, read_run
from reports.terminal import render
from validator.commands.show import console
from validator.gate import judge


def main(arguments: Namespace) -> int:
    """Show.

    Args:
        arguments: ``run``; see ``validator.cli``.

    Returns:
        0: the run could be shown.
    """
    run = read_run(find_runs(arguments.run)[-1])
    render(run, judge([run]), console())
    return 0

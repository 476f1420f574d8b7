"""``kv-lockstep gate``: judge runs by a policy; the exit code is the verdict's."""

from __future__ import annotations

from argparse import Namespace

from reports.reader import find_runs, read_run
from validator.commands.show import console, show_judgement
from validator.gate import judge
from validator.policy import GatePolicy


def main(arguments: Namespace) -> int:
    """Judge.

    Args:
        arguments: ``runs`` and ``policy``; see ``validator.cli``.

    Returns:
        The verdict's exit code.
    """
    policy = GatePolicy.load(arguments.policy) if arguments.policy else GatePolicy()
    runs = [read_run(path) for given in arguments.runs for path in find_runs(given)]
    judgement = judge(runs, policy)
    show_judgement(judgement, console())
    return judgement.exit_code

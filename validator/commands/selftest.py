"""``kv-lockstep selftest``: plant faults in sound caches, and show that the harness notices, names and charges them."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict

from reports.formats.terminal.layout import Page
from reports.record.words import EXIT_HARNESS
from validator.commands.show import console, counting
from validator.proof.selftest import EVERYTHING, Result, SelfTest, selftest


def main(arguments: Namespace) -> int:
    """Run the self-test.

    Args:
        arguments: ``full, ops, seed, verbose``; see ``arguments.py``.

    Returns:
        0 if it passed, 3 if not: what a harness says that misses planted faults is no verdict.
    """
    with counting(console(stderr=True), "planted faults") as shown:
        result = selftest(EVERYTHING, arguments.ops, arguments.seed, arguments.full, shown)
    _show(result, arguments.verbose)
    return 0 if result.passed else EXIT_HARNESS


def _show(result: SelfTest, verbose: bool) -> None:
    page = Page(console())
    said = result.summary()
    verdict = page.text("passed", "bold green") if result.passed else page.text("FAILED", "bold red")
    page.flush_left(page.text("self-test ") + verdict)
    n = said["planted"]
    page.prose(
        page.text(
            f"detected {said['detected']} of {n}, right cause {said['cause_right']}, right side {said['side_right']}, "
            f"false alarms {result.false_alarms} in {result.sound_operations:,} operations of sound pairs"
        )
    )
    families: dict[str, list[Result]] = defaultdict(list)
    for one in result.results:
        families[one.family].append(one)
    page.heading("By family")
    page.table(
        ["family", "planted", "detected", "right cause", "right side", "operations\nuntil named"],
        [
            [
                family,
                str(len(group)),
                str(sum(p.detected for p in group)),
                str(sum(p.cause_right for p in group)),
                str(sum(p.side_right for p in group)),
                str(max(p.operations for p in group)),
            ]
            for family, group in families.items()
        ],
    )
    wrong = [p for p in result.results if not (p.detected and p.cause_right and p.side_right)]
    shown = list(result.results) if verbose else wrong
    if shown:
        page.heading("Every planted fault" if verbose else "Missed or misnamed")
        page.table(
            ["planted", "in", "primary", "named"],
            [[p.name, p.where, p.primary, "; ".join(p.named) or "nothing"] for p in shown],
            n_names=4,
        )
    if result.harness_faults:
        page.heading("Faults of the harness itself")
        page.points(page.text(fault) for fault in result.harness_faults)

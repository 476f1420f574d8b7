"""``kv-lockstep selftest``: plant faults in sound caches, and show that the harness notices, names and charges them."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from importlib.util import find_spec

from reports.formats.terminal.layout import Page
from reports.record.words import EXIT_HARNESS
from validator.commands.show import console, counting
from validator.proof.hosts import planted_in_hosts
from validator.proof.hosts.planted import all_tried
from validator.proof.selftest import EVERYTHING, Result, SelfTest, selftest


def main(arguments: Namespace) -> int:
    """Run the self-test.

    Args:
        arguments: ``full, ops, seed, oracle, verbose``; see ``arguments.py``.

    Returns:
        0 if it passed, 3 if not: what a harness says that misses planted faults is no verdict.
    """
    if arguments.oracle:
        return _of_hosts()
    with counting(console(stderr=True), "planted faults") as shown:
        result = selftest(EVERYTHING, arguments.ops, arguments.seed, arguments.full, shown)
    _show(result, arguments.verbose)
    return 0 if result.passed else EXIT_HARNESS


def _of_hosts() -> int:
    """Plant faults in hosts, both caches sound; show what is said of each, with the oracle and without."""
    planted = planted_in_hosts()
    with counting(console(stderr=True), "planted faults") as shown:
        results = all_tried(planted, shown)
    page = Page(console())
    n, right = len(results), sum(each.cause_right for each in results)
    passed = all(each.is_right for each in results) and right >= 0.9 * n
    page.flush_left(
        page.text("self-test of hosts ") + page.text(*(("passed", "bold green") if passed else ("FAILED", "bold red")))
    )
    charged = sum(each.charged and each.only_host for each in results)
    page.prose(page.text(f"charged to the host and to nobody else {charged} of {n}, right cause {right}"))
    rows = [[each.name, each.host, each.with_oracle, each.without] for each in results]
    page.table(["the host's fault", "host", "with the oracle", "without"], rows, n_names=4)
    failures = [f"{each.name}: {failure}" for each in results for failure in each.failures]
    if failures:
        page.heading("Faults of the harness itself")
        page.points(page.text(failure) for failure in failures)
    if find_spec("transformers") is None:
        page.prose(page.text("transformers is not installed here, so nothing was planted in a model that generates"))
    return 0 if passed else EXIT_HARNESS


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

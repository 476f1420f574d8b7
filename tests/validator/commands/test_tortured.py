"""The short form of ``python -m tests.torture.directories``."""

from __future__ import annotations

from tests.torture.directories import torture


def test_no_mutated_run_directory_is_a_traceback_a_hang_or_a_wrong_pass() -> None:
    counts, wrong = torture(10)

    assert wrong == []
    assert sum(counts.values()) == 10

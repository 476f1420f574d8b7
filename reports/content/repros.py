"""What is said under a divergence of how to see it again: the test that it was shrunk to, or how to get one."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from reports.content.groups import Group
from reports.content.text import clean, plural
from reports.disk.repros import REPROS_DIR, read_repros
from reports.disk.trace import TRACE_DIR
from reports.record.repro import KeptRepro
from reports.record.run import Run
from reports.record.words import Fault

_MOST = 20_000  # characters of a test
_FEW = 12  # calls


class Again(NamedTuple):
    """How to see a divergence again.

    Attributes:
        said: One or two sentences.
        code: A test to be copied, empty if there is none.
        kept: What it was shrunk to, None if that was not tried.
    """

    said: str
    code: str = ""
    kept: KeptRepro | None = None


def again(run: Run, group: Group) -> Again:
    """Return how to see the divergences of a group again."""
    if group.first is None:
        return Again("")
    if group.fault == Fault.HOST.value:
        return Again("No test of the caches alone can show what the host does.")
    kept, problem = read_repros(run.path)
    shrink = f"kv-lockstep shrink {shlex.quote(str(run.path))}"
    if problem:
        return Again(f"Its test is not shown: {problem}. Make it again: {shrink}")
    own = [one for one in kept if (one.cause.value, one.fault.value) == (group.cause, group.fault)]
    # Of two, the one that is a test; of two tests, that of the divergence which is shown.
    found = max(own, key=lambda one: (bool(one.source), _is_of(one, group)), default=None)
    if found is None and not (run.path / TRACE_DIR).is_dir():
        return Again("It can't be made a test: this run recorded no trace.")
    if found is None:
        return Again(f"Not made a test yet: {shrink} --divergence {group.first.id}")
    if not found.source:
        return Again(
            f"No test was made of it: {found.said}. Try again: {shrink} --divergence {found.divergence}", "", found
        )
    said = f"The same in {plural(found.calls, 'call')}: {REPROS_DIR}/{found.file}. {_tried(found)}"
    if found.calls > _FEW:
        said += f" Given more time, it may get shorter: {shrink} --divergence {found.divergence}"
    if len(found.source) > _MOST:
        return Again(f"{said} It is too long to be shown here.", "", found)
    return Again(said, clean(found.source, _MOST), found)


def _tried(found: KeptRepro) -> str:
    if found.fails and found.passes:
        return "It was run: it fails on the cache at fault, and passes on a sound one."
    return "It was run, and does not fail." if not found.fails else "It was run, and fails on a sound cache too."


def _is_of(one: KeptRepro, group: Group) -> bool:
    return any(
        each is not None and (each.rank, each.id) == (one.rank, one.divergence) for each in (group.best, group.first)
    )

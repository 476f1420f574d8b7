"""One divergence in full, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from reports.content import facts
from reports.content.text import line, number
from reports.formats.terminal.layout import Page
from reports.record.records import Divergence, LeafDifference

_MAX_LEAVES = 12
_MAX_HISTORY = 20
_MAX_TEXT = 1200
_MAX_NAME = 80


def show_divergence(page: Page, divergence: Divergence) -> None:
    """Print everything that is known of one divergence: what, where, when, which tensors, after what."""
    page.prose(page.text(divergence.explanation, "bold", _MAX_TEXT, lines=True))
    page.facts(_place(page, divergence))
    if divergence.leaves:
        _leaves(page, divergence.leaves)
    if divergence.history:
        older = len(divergence.history) - _MAX_HISTORY
        remark = f"oldest first, after {older} that are not shown" if older > 0 else "oldest first"
        page.facts([("history", remark)])
        page.points((page.text(operation, limit=300) for operation in divergence.history[-_MAX_HISTORY:]), bullet="  •")


def _place(page: Page, divergence: Divergence) -> Iterator[tuple[str, Text | str]]:
    operation, cache = line(divergence.operation, _MAX_NAME), line(divergence.cache, _MAX_NAME)
    yield "where", f"op {divergence.op_index:,} · {operation} · cache {cache}"
    yield "", facts.entry(divergence)
    yield "when", facts.when(divergence)
    if divergence.outcome is not None:
        yield "outcome", facts.words(divergence.outcome.value)
    for side, error in (("control", divergence.control_error), ("candidate", divergence.candidate_error)):
        if error:
            yield side, page.text(f"raised {error}", limit=_MAX_TEXT, lines=True)
    yield "evidence", divergence.evidence or (f"none: {divergence.evidence_note}" if divergence.evidence_note else "")
    if divergence.evidence and divergence.evidence_note:
        yield "", divergence.evidence_note


def _leaves(page: Page, leaves: tuple[LeafDifference, ...]) -> None:
    columns = ["tensor", "rung", "mismatched", "max abs", "at", "max rel"]
    columns += ["at"] if page.wide else []
    with_special = not all(leaf.is_finite for leaf in leaves)
    columns += ["NaN\nctl/cand", "Inf\nctl/cand"] if with_special else []
    page.table(columns, (_leaf(leaf, page.wide, with_special) for leaf in leaves[:_MAX_LEAVES]), n_names=2)
    if len(leaves) > _MAX_LEAVES:
        page.prose(page.text(f"and {len(leaves) - _MAX_LEAVES} more tensors that differ", "dim"))
    described: dict[tuple[str, str], list[str]] = {}
    for leaf in leaves[:_MAX_LEAVES]:
        sides = line(leaf.control, 2 * _MAX_NAME), line(leaf.candidate, 2 * _MAX_NAME)
        described.setdefault(sides, []).append(line(leaf.name, _MAX_NAME))
    for (control, candidate), names in described.items():
        which = f"{', '.join(names)}: " if len(described) > 1 else ""
        if control == candidate:
            page.facts([("both", f"{which}{control}")])
        else:
            page.facts([("control", f"{which}{control}"), ("candidate", f"{which}{candidate}")])


def _leaf(leaf: LeafDifference, wide: bool, with_special: bool) -> list[str]:
    compared = f"{leaf.n_mismatched:,}/{leaf.n_elements:,}" if leaf.n_elements else "not compared"
    cells = [line(leaf.name, _MAX_NAME), leaf.rung, compared]
    cells += [number(leaf.max_abs_diff), _index(leaf.max_abs_index), number(leaf.max_rel_diff)]
    cells += [_index(leaf.max_rel_index)] if wide else []
    if with_special:
        cells += [
            f"{leaf.n_nan_control:,}/{leaf.n_nan_candidate:,}",
            f"{leaf.n_inf_control:,}/{leaf.n_inf_candidate:,}",
        ]
    return cells


def _index(index: tuple[int, ...] | None) -> str:
    return "-" if index is None else f"[{','.join(map(str, index))}]"

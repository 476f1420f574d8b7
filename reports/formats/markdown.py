"""One run as Markdown: for a pull request, an issue or the step summary of a CI run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reports.content import facts
from reports.content.facts import SIDES, Judgement
from reports.content.groups import Group, grouped
from reports.content.ranks import HEAD, N_NAMES, of_ranks
from reports.content.text import clean, line, micros, number, plural, ratio
from reports.record.records import Divergence
from reports.record.run import Run
from reports.record.words import Outcome, Verdict

MOST_CHARACTERS = 60_000  # GitHub takes 65,536 in a comment
_MAX_ROWS = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]#+!|~$&])")
_SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "⚠️"}


def render(run: Run, judgement: Judgement) -> str:
    """Return the report, at most ``MOST_CHARACTERS`` long.

    Args:
        run: What was recorded.
        judgement: What follows from it.
    """
    text = "\n".join(_parts(run, judgement)) + "\n"
    if len(text) <= MOST_CHARACTERS:
        return text
    end = text.rfind("\n", 0, MOST_CHARACTERS - 200)
    open_fence = "\n```\n" if text[:end].count("\n```") % 2 else "\n"
    return f"{text[:end]}{open_fence}\nCut here: the whole report has {len(text):,} characters.\n"


def plain(value: object, limit: int = 400) -> str:
    """Return data as text on one line that Markdown shows as it is: no markup, no link, no mention."""
    escaped = _SPECIAL.sub(r"\\\1", line(value, limit))
    for mark, entity in (("<", "&lt;"), (">", "&gt;"), ("@", "&#64;"), ("://", "&#58;//"), ("www.", "www&#46;")):
        escaped = escaped.replace(mark, entity)
    return escaped


def fenced(value: str) -> str:
    """Return text in a code block that nothing in it can end."""
    longest = max(map(len, re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{value}\n{fence}"


def _parts(run: Run, judgement: Judgement) -> Iterator[str]:
    groups = grouped(run)
    name, state, length = facts.ran(run)
    yield f"## {_SIGNS[judgement.verdict]} {judgement.verdict.value}: {facts.meaning(run, judgement)}\n"
    yield from (f"- {plain(reason, 1000)}" for reason in judgement.reasons[:_MAX_ROWS])
    yield ""
    yield from (f"- **{side}** {plain(facts.classes(run, side))}" for side in SIDES)
    yield f"- **run** {plain(name)}, {plain(state)}, {length}"
    total = sum(group.count for group in groups)
    counted = f"{plural(total, 'divergence')} in {plural(run.totals.n_lookups, 'lookup')}"
    yield f"\n### What differed, and whose fault\n\n{counted}\n"
    if groups:
        head = ("at fault", "cause", "in respect of", "times", "first")
        yield from _table(head, map(_group, groups[:_MAX_ROWS]), 3)
    yield from _outcomes(run)
    first = next((group.best for group in groups if group.best), None)
    if first is not None:
        yield from _divergence(first)
    n_unmet = sum(demand.verdict is not Verdict.PASS for demand in judgement.demands)
    yield f"\n### Was enough exercised\n\n{n_unmet} of {plural(len(judgement.demands), 'demand')} not met\n"
    demands = facts.by_gravity(judgement.demands)[:60]
    shown = ((facts.MARKS[d.verdict], plain(d.demanded), plain(d.found)) for d in demands)
    yield from _table(("", "demanded", "found"), shown, 3)
    yield from _cost(run)
    if rows := of_ranks(run):
        yield "\n### Ranks\n"
        yield from _table(HEAD, ([plain(cell) for cell in row] for row in rows), N_NAMES)
    yield "\n### Provenance\n"
    yield from (f"- {name}: {plain(said)}" for name, said in facts.provenance(run))


def _group(group: Group) -> Sequence[str]:
    first = f"\\#{group.first.id}" if group.first else "not kept"
    return plain(group.fault), plain(group.cause), plain(group.dimension), f"{group.count:,}", first


def _outcomes(run: Run) -> Iterator[str]:
    if not run.totals.lookups:
        return
    head = ("pool", *(facts.words(outcome.value) for outcome in Outcome), *(f"hit rate {side}" for side in SIDES))
    rows = []
    for pool, counts, rates in facts.pools(run, _MAX_ROWS):
        cells = [f"{counts.get(outcome.value, 0):,}" for outcome in Outcome]
        rows.append(["**all**" if pool is None else plain(pool), *cells, *rates])
    yield ""
    yield from _table(head, rows, 1)


def _divergence(one: Divergence) -> Iterator[str]:
    yield f"\n### Show me: divergence \\#{one.id}\n\n{plain(one.explanation, 1200)}\n"
    where = f"operation {one.op_index:,} {one.operation}, pool {one.pool}, env {one.env_id}, key {one.key}"
    yield f"- {plain(where)}, weights {one.weight_version:,}"
    for side, error in (("control", one.control_error), ("candidate", one.candidate_error)):
        if error:
            yield f"- {side} raised\n\n{fenced(clean(error, 2000))}\n"
    if one.leaves:
        head = ("tensor", "what differs", "mismatched", "max abs", "at", "control", "candidate")
        rows = (
            (
                *(plain(leaf.name), plain(leaf.rung)),
                *(f"{leaf.n_mismatched:,} of {leaf.n_elements:,}", number(leaf.max_abs_diff)),
                *(plain(leaf.max_abs_index), plain(leaf.control), plain(leaf.candidate)),
            )
            for leaf in one.leaves[:12]
        )
        yield ""
        yield from _table(head, rows, 2)
    if one.history:
        yield "\n" + fenced("\n".join(line(operation, 300) for operation in one.history[-20:]))


def _cost(run: Run) -> Iterator[str]:
    totals = run.totals
    yield "\n### What it costs or gains\n"
    head = ("operation", "control p50 µs", "candidate p50 µs", "ratio", "control p99 µs", "candidate p99 µs")
    rows = []
    for name in totals.operations[:_MAX_ROWS]:
        p50 = {side: totals.latency(side, name, 0.5) for side in SIDES}
        p99 = {side: totals.latency(side, name, 0.99) for side in SIDES}
        cells = [micros(p50["control"]), micros(p50["candidate"]), ratio(p50["candidate"], p50["control"])]
        rows.append([plain(name), *cells, micros(p99["control"]), micros(p99["candidate"])])
    if rows:
        yield from _table(head, rows, 1)
    yield f"\n- memory: {plain(facts.memory(run))}\n- overhead: {plain(facts.overhead(run))}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], n_names: int) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' if position < n_names else '---:' for position in range(len(head)))}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)

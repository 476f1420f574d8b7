"""A run on a terminal, in the order in which it is asked: may I ship, what differed, show me, enough seen, what cost?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.text import Text

from reports.groups import Group, grouped
from reports.page import STYLES, Page
from reports.terminal_divergence import show_divergence
from reports.text import micros, plural, ratio, seconds, share, short, size
from validator.records import Outcome, Verdict
from validator.run import Run

SIDES = ("control", "candidate")
_MEANING = {
    Verdict.PASS: "the candidate may ship",
    Verdict.FAIL: "the candidate must not ship",
    Verdict.INCONCLUSIVE: "not enough evidence to ship",
}
_MARKS = {Verdict.PASS: "ok", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "missing"}
_MAX_SHOWN = 3
_MAX_ROWS = 20
_SETTINGS = ("rtol", "atol", "audit_share", "digest_share", "max_divergences")


class Demand(Protocol):
    """What was demanded of a run and what it shows."""

    @property
    def demanded(self) -> str: ...  # noqa: D102
    @property
    def found(self) -> str: ...  # noqa: D102
    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def where(self) -> str: ...  # noqa: D102


class Judgement(Protocol):
    """A verdict with what it rests on; ``validator.gate.Judgement`` is one."""

    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def reasons(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def demands(self) -> Sequence[Demand]: ...  # noqa: D102


def first_lines(run: Run, judgement: Judgement, console: Console) -> None:
    """Print the verdict with its reasons, and who was compared with whom.

    Args:
        run: What was recorded.
        judgement: What follows from it.
        console: Where to.
    """
    page = Page(console)
    verdict = judgement.verdict
    page.bar(Text.assemble((verdict.value, STYLES[verdict]), f": {_MEANING[verdict]}"))
    page.points(page.text(reason, limit=1000) for reason in judgement.reasons)
    page.facts(_header(page, run))


def render(run: Run, judgement: Judgement, console: Console) -> None:
    """Print the whole report.

    Args:
        run: What was recorded.
        judgement: What follows from it.
        console: Where to; colour, width and encoding are its own.
    """
    first_lines(run, judgement, console)
    page = Page(console)
    groups = grouped(run)
    _what_differed(page, run, groups)
    _show_me(page, groups)
    _enough(page, run, judgement)
    _cost(page, run)
    page.heading("Provenance")
    page.facts(_provenance(run))


def _header(page: Page, run: Run) -> Iterator[tuple[str, Text | str]]:
    style = {"complete": "green", "in progress": "yellow"}.get(run.state, "red")
    name = f"{run.manifest.get('run_id', run.path.name)}, "
    ended = f", {seconds(run.totals.t_s)}, {plural(sum(run.totals.ops.values()), 'operation')}"
    yield "run", Text.assemble(page.text(name), page.text(run.state, style), page.text(ended))
    pairs = [(line, "" if len(run.caches) == 1 else f"{line['cache']}: ") for line in run.caches]
    for side in SIDES:
        seen = dict.fromkeys(
            f"{name}{line.get(side, '?')}{' (primary: the host received its answers)' * (line.get('primary') == side)}"
            for line, name in pairs
        )
        yield side, "; ".join(seen) or "nothing was shadowed"


def _what_differed(page: Page, run: Run, groups: list[Group]) -> None:
    count = short if not page.wide else "{:,}".format
    lookups = plural(run.totals.n_lookups, "lookup")
    page.heading(
        "What differed, and whose fault", f"{plural(sum(group.count for group in groups), 'divergence')} in {lookups}"
    )
    columns = [
        "pool",
        "both hit,\nequal",
        "both hit,\ndiffer",
        "control\nonly",
        "candid.\nonly",
        "both\nmiss",
        "\nerror",
    ]
    columns += ["hit rate\ncontrol", "hit rate\ncandid."]
    rows = []
    for pool in (*sorted(run.totals.lookups), None):
        counts = run.totals.outcomes() if pool is None else run.totals.lookups[pool]
        rates = run.totals.hit_rate(pool)
        cells: list[Text | str] = [pool or "all pools"]
        for outcome in Outcome:
            found = counts.get(outcome.value, 0)
            harmless = outcome in (Outcome.BOTH_HIT_EQUAL, Outcome.BOTH_MISS)
            cells.append(page.text(count(found), "" if harmless else "bold red" if found else "dim"))
        rows.append([*cells, share(rates["control"]), share(rates["candidate"])])
    if run.totals.lookups:
        page.table(columns, rows if len(rows) > 2 else rows[:1])
    if groups:
        page.bar(Text())
        first = [f"#{group.first.id}" if group.first else "not written" for group in groups]
        page.table(
            ["at fault", "cause", "in respect of", "times", "first"],
            (
                [
                    page.text(group.fault, "bold red" if group.fault != "control" else "yellow"),
                    group.cause,
                    group.dimension,
                ]
                + [f"{group.count:,}", number]
                for group, number in zip(groups[:_MAX_ROWS], first, strict=False)
            ),
            n_names=3,
        )


def _show_me(page: Page, groups: list[Group]) -> None:
    shown = [group for group in groups if group.first is not None]
    for group in shown[:_MAX_SHOWN]:
        if group.first is not None:
            page.heading(f"Show me: divergence #{group.first.id}", f"{group.fault} at fault, {group.cause}")
            show_divergence(page, group.first)
    if len(shown) > _MAX_SHOWN:
        page.bar(Text())
        rest = ", ".join(f"#{group.first.id} {group.cause}" for group in shown[_MAX_SHOWN:] if group.first)
        page.prose(page.text(f"first ones of the other causes: {rest}", "dim", limit=1000))


def _enough(page: Page, run: Run, judgement: Judgement) -> None:
    missing = sum(demand.verdict is not Verdict.PASS for demand in judgement.demands)
    page.heading(
        "Was enough exercised", f"{missing} of {plural(len(judgement.demands), 'demand')} not met" if missing else ""
    )
    order = sorted(judgement.demands, key=lambda demand: demand.verdict is Verdict.PASS)
    page.table(
        ["", "demanded", "found"],
        ([page.text(_MARKS[d.verdict], STYLES[d.verdict]), d.demanded, page.text(d.found, limit=600)] for d in order),
        n_names=3,
    )
    page.bar(Text())
    seen = {name: count for name, count in run.totals.coverage.items() if count}
    page.facts(
        [
            ("exercised", _counts(seen) or "nothing"),
            ("never", ", ".join(name.replace("_", " ") for name, count in run.totals.coverage.items() if not count)),
            ("envs", _envs(run.totals.envs)),
            (
                "dropped",
                page.text(
                    _counts(run.totals.dropped, words=False) or "nothing", "yellow" if run.totals.dropped else ""
                ),
            ),
            ("settings", _settings(run.manifest)),
            ("events", _events(run)),
        ]
    )
    if run.problems:
        page.facts([("problems", page.text(plural(len(run.problems), "problem") + " of the record itself", "yellow"))])
        page.points(page.text(problem) for problem in run.problems[:_MAX_ROWS])
        if len(run.problems) > _MAX_ROWS:
            page.prose(page.text(f"and {len(run.problems) - _MAX_ROWS} more", "dim"))


def _cost(page: Page, run: Run) -> None:
    totals = run.totals
    page.heading("What it costs or gains", "latency in µs, within 6 %; ratio is candidate to control at p50")
    operations = sorted({name.partition(".")[2] for name in totals.latency_ns})
    columns = ["operation", *(f"{side}\n{mark}" for side in SIDES for mark in ("p50", "p90", "p99")), "\nratio"]
    rows = []
    for operation in operations[:_MAX_ROWS]:
        cells = [micros(totals.latency(side, operation, mark)) for side in SIDES for mark in (0.5, 0.9, 0.99)]
        p50 = {side: totals.latency(side, operation, 0.5) for side in SIDES}
        rows.append([operation, *cells, ratio(p50["candidate"], p50["control"])])
    if rows:
        page.table(columns, rows)
        page.bar(Text())
    held = totals.bytes_held
    both = ratio(held.get("candidate"), held.get("control"))
    memory = ", ".join(
        f"{side} {size(held[side])}" for side in (*SIDES, *sorted(held.keys() - set(SIDES))) if side in held
    )
    n_ranks = run.manifest.get("world_size")
    wall_s = totals.t_s * (n_ranks if isinstance(n_ranks, int) and n_ranks > 0 else 1)
    part = share(totals.harness_ns / 1e9 / wall_s) if wall_s else "-"
    page.facts(
        [
            ("memory", f"{memory} ({both})" if memory else "not measured"),
            ("overhead", f"{seconds(totals.harness_ns / 1e9)} of {seconds(wall_s)} were spent on validating ({part})"),
        ]
    )


def _provenance(run: Run) -> Iterator[tuple[str, str]]:
    manifest = run.manifest
    versions = manifest.get("versions")
    if isinstance(versions, Mapping):
        yield "versions", " · ".join(f"{name} {version}" for name, version in versions.items())
    git = manifest.get("git")
    if isinstance(git, Mapping):
        yield "commit", f"{git.get('commit', '?')!s:.12}{', with uncommitted changes' if git.get('dirty') else ''}"
    about = [
        f"{name.replace('_', ' ')} {manifest[name]}" for name in ("seed", "device", "world_size") if name in manifest
    ]
    about += [f"{name} {manifest[name]}" for name in ("platform", "host", "created") if name in manifest]
    yield "made by", " · ".join(about)
    switches = manifest.get("switches")
    if isinstance(switches, Mapping):
        yield "switches", ", ".join(f"{name}={value}" for name, value in switches.items())
    yield "from", str(run.path)


def _settings(manifest: Mapping[str, object]) -> str:
    config = manifest.get("config")
    nested = config.get("cache_validation", config) if isinstance(config, Mapping) else {}
    known = [f"{name}={nested[name]}" for name in _SETTINGS if name in nested] if isinstance(nested, Mapping) else []
    exact = isinstance(nested, Mapping) and "rtol" in nested and nested["rtol"] is None and nested.get("atol") is None
    return ("exact comparison, " if exact else "") + ", ".join(name for name in known if "=None" not in name)


def _events(run: Run) -> str:
    counted: dict[str, int] = {}
    for event in run.events:
        counted[event["event"]] = counted.get(event["event"], 0) + 1
    return _counts(counted)


def _counts(counts: Mapping[str, int], words: bool = True) -> str:
    named = [(name.replace("_", " ") if words else name, count) for name, count in counts.items() if count]
    more = f", and {len(named) - _MAX_ROWS} more" if len(named) > _MAX_ROWS else ""
    return ", ".join(f"{name} {count:,}" for name, count in named[:_MAX_ROWS]) + more


def _envs(envs: Mapping[str, int]) -> str:
    if not envs:
        return ""
    fewest = min(envs, key=lambda env: envs[env])
    return f"{plural(len(envs), 'env')}; fewest lookups: env {fewest} with {envs[fewest]:,}"

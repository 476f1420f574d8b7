"""What stands behind a verdict, on a terminal: what was exercised, what it costs, what ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Protocol

from reports.page import STYLES, Page
from reports.text import micros, plural, ratio, seconds, share, size
from validator.records import Verdict
from validator.run import Run

SIDES = ("control", "candidate")
_MARKS = {Verdict.PASS: "ok", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "missing"}
_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
_SETTINGS = ("audit_share", "digest_share", "history", "max_divergences", "evidence_mb", "evidence_each_mb")
_WHAT = ("host", "seed", "device", "world_size", "platform")
_MAX_ROWS = 20


class Demand(Protocol):
    """What was demanded of a run and what it shows."""

    @property
    def demanded(self) -> str: ...
    @property
    def found(self) -> str: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def where(self) -> str: ...


class Judgement(Protocol):
    """A verdict with what it rests on; ``validator.gate.Judgement`` is one."""

    @property
    def verdict(self) -> Verdict: ...
    @property
    def reasons(self) -> Sequence[str]: ...
    @property
    def demands(self) -> Sequence[Demand]: ...


def show_coverage(page: Page, run: Run, judgement: Judgement) -> None:
    """Print the demands with what was found, unmet ones first, then all that was counted, dropped or went wrong."""
    n_unmet = sum(demand.verdict is not Verdict.PASS for demand in judgement.demands)
    said = f"{n_unmet} of {plural(len(judgement.demands), 'demand')} not met" if n_unmet else "every demand is met"
    page.heading("Was enough exercised", said)
    page.table(
        ["", "demanded", "found"],
        (
            [
                page.text(_MARKS[demand.verdict], STYLES[demand.verdict]),
                demand.demanded,
                page.text(demand.found, limit=600),
            ]
            for demand in sorted(judgement.demands, key=lambda demand: _ORDER[demand.verdict])
        ),
        n_names=3,
    )
    page.space()
    coverage, dropped = run.totals.coverage, run.totals.dropped
    page.facts(
        [
            ("exercised", _counts(coverage) or "nothing"),
            ("never", ", ".join(sorted(_words(name) for name, count in coverage.items() if not count))),
            ("envs", _envs(run.totals.envs)),
            ("dropped", page.text(_counts(dropped) or "nothing", "yellow" if any(dropped.values()) else "")),
            ("tolerance", _tolerance(run.manifest)),
            ("settings", _settings(run.manifest)),
        ]
    )
    _show_events(page, run)
    if run.problems:
        page.facts([("problems", page.text(f"{plural(len(run.problems), 'problem')} of the record itself", "yellow"))])
        page.points((page.text(problem) for problem in run.problems[:_MAX_ROWS]), bullet="  •")
        if len(run.problems) > _MAX_ROWS:
            page.prose(page.text(f"and {len(run.problems) - _MAX_ROWS} more", "dim"))


def show_cost(page: Page, run: Run) -> None:
    """Print latency and memory of both sides, and what the validation itself took."""
    totals = run.totals
    page.heading("What it costs or gains", "latency in µs, within 6 %; ratio: candidate to control")
    operations = sorted({name.partition(".")[2] for name in totals.latency_ns})
    named = ("control", "candidate" if page.wide else "candid.")
    columns = ["\noperation", *(f"{name}\n{mark}" for name in named for mark in ("p50", "p90", "p99")), "p50\nratio"]
    rows = []
    for operation in operations[:_MAX_ROWS]:
        cells = [micros(totals.latency(side, operation, mark)) for side in SIDES for mark in (0.5, 0.9, 0.99)]
        control, candidate = (totals.latency(side, operation, 0.5) for side in SIDES)
        rows.append([operation, *cells, ratio(candidate, control)])
    if rows:
        page.table(columns, rows)
        page.space()
    held = totals.bytes_held
    memory = ", ".join(
        f"{side} {size(held[side])}" for side in (*SIDES, *sorted(held.keys() - set(SIDES))) if side in held
    )
    times = ratio(held.get("candidate"), held.get("control"))
    n_ranks = run.manifest.get("world_size")
    wall_s = totals.t_s * (n_ranks if isinstance(n_ranks, int) and 0 < n_ranks < 10**6 else 1)
    spent_s = totals.harness_ns / 1e9
    page.facts(
        [
            ("memory", f"{memory}; candidate to control {times}" if memory else "not measured"),
            (
                "overhead",
                f"{seconds(spent_s)} of {seconds(wall_s)} went into validating ({share(spent_s / wall_s)})"
                if wall_s
                else "not measured",
            ),
        ]
    )


def show_provenance(page: Page, run: Run) -> None:
    """Print what ran, where, and where its record lies."""
    page.heading("Provenance")
    page.facts(_provenance(run))


def _provenance(run: Run) -> Iterator[tuple[str, str]]:
    manifest = run.manifest
    versions, git, switches = (manifest.get(name) for name in ("versions", "git", "switches"))
    if isinstance(versions, Mapping):
        yield "versions", " · ".join(f"{name} {version}" for name, version in versions.items())
    if isinstance(git, Mapping):
        yield "commit", f"{git.get('commit', '?')!s:.12}{', with uncommitted changes' if git.get('dirty') else ''}"
    what = [f"{name.replace('_', ' ')} {manifest[name]}" for name in _WHAT if name in manifest]
    yield "what", " · ".join([*what, *([f"on {manifest['hostname']}"] if "hostname" in manifest else [])])
    yield "when", _created(manifest)
    if isinstance(switches, Mapping):
        yield "switches", ", ".join(f"{name}={value}" for name, value in switches.items())
    yield "from", str(run.path)


def _show_events(page: Page, run: Run) -> None:
    """Print each kind of event once, with how often it came and what the first said."""
    details: dict[str, str] = {}
    for event in run.events:
        details.setdefault(event["event"], str(event.get("detail") or ""))
    if details:
        counted = run.n_events
        page.facts([("events", f"{plural(max(sum(counted.values()), len(details)), 'event')}; of each kind, the first")])
        rows = [f"{_words(name)} ({counted.get(name, 1):,}): {said}".removesuffix(": ") for name, said in details.items()]
        page.points((page.text(row, limit=800, lines=True) for row in rows[:_MAX_ROWS]), bullet="  •")


def _tolerance(manifest: Mapping[str, object]) -> str:
    settings = manifest.get("validation")
    if not isinstance(settings, Mapping) or "rtol" not in settings:
        return "not recorded"
    rtol, atol = settings.get("rtol"), settings.get("atol")
    return "none: bits must be equal" if rtol is None and atol is None else f"rtol {rtol}, atol {atol}: close is equal"


def _settings(manifest: Mapping[str, object]) -> str:
    settings = manifest.get("validation")
    if not isinstance(settings, Mapping):
        return ""
    return ", ".join(f"{_words(name)} {settings[name]}" for name in _SETTINGS if name in settings)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _counts(counts: Mapping[str, int]) -> str:
    named = [(_words(name), count) for name, count in counts.items() if count]
    more = f", and {len(named) - _MAX_ROWS} more" if len(named) > _MAX_ROWS else ""
    return ", ".join(f"{name} {count:,}" for name, count in named[:_MAX_ROWS]) + more


def _envs(envs: Mapping[str, int]) -> str:
    if not envs:
        return ""
    fewest = min(envs, key=lambda env: envs[env])
    return f"{len(envs):,} looked up; fewest lookups: {envs[fewest]:,} of env {fewest}"


def _created(manifest: Mapping[str, object]) -> str:
    moment = manifest.get("created")
    if isinstance(moment, (int, float)) and 0 <= moment < 2**33:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "" if moment is None else str(moment)

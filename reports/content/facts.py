"""What a run says of itself, in words: the same facts for every format of report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Protocol, TypeVar

from reports.content.groups import grouped
from reports.content.text import line, plural, ratio, seconds, share, size
from reports.read.packing import BUNDLED
from reports.record.records import Divergence
from reports.record.run import Run
from reports.record.totals import Timed
from reports.record.words import NOT_RECOMPUTED, RECOMPUTED, STATE_LOOKS, Fault, Verdict

SIDES = ("control", "candidate")
_MEANING = {
    Verdict.PASS: "the candidate may ship",
    Verdict.FAIL: "the candidate must not ship",
    Verdict.INCONCLUSIVE: "not enough evidence to ship",
}
MARKS = {Verdict.PASS: "ok", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "missing"}
_ORDER = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
_SETTINGS = (
    "audit_share",
    "overhead_budget",
    "sample_lookups",
    "digest_share",
    "history",
    "max_divergences",
    "evidence_mb",
    "evidence_each_mb",
)
_WHAT = ("host", "seed", "device", "world_size", "platform")
_MAX_NAMED = 20
_NEARLY_ALL = 0.9  # of the operations were timed: what was interrupted is not
_MAX_NAME = 80  # characters


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
    @property
    def remedy(self) -> str: ...


D = TypeVar("D", bound=Demand)


class Judgement(Protocol):
    """A verdict with what it rests on; ``validator.gate.judgement.Judgement`` is one."""

    @property
    def verdict(self) -> Verdict: ...
    @property
    def reasons(self) -> Sequence[str]: ...
    @property
    def demands(self) -> Sequence[Demand]: ...


def ran(run: Run) -> tuple[str, str, str]:
    """Return a run's id, its state with how its host ended, and how long it was."""
    length = f"{seconds(run.totals.t_s)}, {plural(sum(run.totals.ops.values()), 'operation')}"
    played = run.manifest.get("replayed")
    replayed = f"replayed from run {played.get('run_id', '?')!s:.80}" if isinstance(played, Mapping) else ""
    ended = run.ended and f"the host ended {run.ended}"
    told = (drill(run), run.state, replayed, _bundled(run.manifest), ended, run.lost)
    return str(run.manifest.get("run_id", run.path.name)), ", ".join(filter(None, told)), length


def drill(run: Run) -> str:
    """Say which fault a drill planted in a run, or nothing."""
    told = run.manifest.get("drill")
    name = told.get("fault") if isinstance(told, Mapping) else None
    return f"drill: fault {name!s:.80} planted" if name else ""


def _bundled(manifest: Mapping[str, object]) -> str:
    said = manifest.get(BUNDLED)
    names = said.get("left_out") if isinstance(said, Mapping) else None
    return f"bundled without {', '.join(map(str, names))}" if isinstance(names, list) else ""


def meaning(run: Run, judgement: Judgement) -> str:
    """Say in one line what a verdict means.

    Of a drill's run it says nothing about the candidate. Where divergences alone close the gate, and none of them is
    charged to the candidate, it says where to look instead.
    """
    if drill(run):
        return f"{drill(run)}, so this says nothing about the candidate"
    faults = {group.fault for group in grouped(run)}
    failed = [demand for demand in judgement.demands if demand.verdict is Verdict.FAIL]
    elsewhere = faults and faults <= {Fault.CONTROL.value, Fault.HOST.value} and not unexplained(run)
    if not elsewhere or not failed or any("diverge" not in demand.demanded for demand in failed):
        return _MEANING[judgement.verdict]
    sides = " or ".join(f"the {fault}" for fault in sorted(faults))
    return f"gate not passed: {sides} is at fault, not the candidate"


def classes(run: Run, side: str) -> str:
    """Name the classes that stood on one side, and whether the host received its answers."""
    names = []
    for pair in run.caches:
        which = f"{pair['cache']}: " if len(run.caches) > 1 else ""
        primary = " (primary: its answers went to the host)" if pair.get("primary") == side else ""
        names.append(f"{which}{pair.get(side, 'of unknown class')}{primary}")
    return "; ".join(dict.fromkeys(names)) or "nothing was shadowed"


def unexplained(run: Run) -> int:
    """Return how many lookups differed beyond the divergences that explain some."""
    return max(0, run.totals.n_differing - sum(group.count for group in grouped(run)))


def by_gravity(demands: Iterable[D]) -> list[D]:
    """Sort demands: what failed, what is missing, what holds."""
    return sorted(demands, key=lambda demand: _ORDER.index(demand.verdict))


def pools(run: Run, most: int | None = None) -> Iterator[tuple[str | None, Mapping[str, int], list[str]]]:
    """Yield each pool with its lookups by outcome and both sides' hit rates; all together as None, if they are many."""
    names = sorted(run.totals.lookups)
    for pool in (*names[:most], *([None] if len(names) > 1 else [])):
        rates = run.totals.hit_rate(pool)
        counts = run.totals.outcomes() if pool is None else run.totals.lookups[pool]
        yield pool, counts, [share(rates[side]) for side in SIDES]


def entry(one: Divergence) -> str:
    """Say which entry a divergence is about."""
    said = [f"pool {line(one.pool, _MAX_NAME)}"]
    said += [f"env {one.env_id}"] if one.env_id is not None else []
    said += [f"key {line(one.key, _MAX_NAME)}"] if one.key else []
    return " · ".join(said)


def when(one: Divergence) -> str:
    """Say when a divergence was seen, by every clock that the host told of."""
    told = {name: getattr(one, name) for name in ("train_iter", "env_step", "episode")}
    said = [f"{words(name)} {value:,}" for name, value in told.items() if value >= 0]
    return " · ".join([seconds(one.t_s), *said, f"weights {one.weight_version:,}"])


def exercised(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what was exercised, what never was, what was dropped, and how equality was understood."""
    coverage = run.totals.coverage
    said = [pair["assumed"] for pair in run.caches if isinstance(pair.get("assumed"), list)]
    yield "assumed", "; ".join(dict.fromkeys(str(each) for assumed in said for each in assumed))
    said_apart = {STATE_LOOKS, *RECOMPUTED}
    others = {name: n for name, n in coverage.items() if name not in said_apart and not name.startswith(NOT_RECOMPUTED)}
    yield "exercised", counted(others) or "nothing"
    yield "never", ", ".join(sorted(words(name) for name, count in coverage.items() if not count))
    yield "envs", _envs(run.totals.envs)
    yield "process state", _state_looks(run)
    yield "recomputed", _recomputed(run)
    yield "dropped", counted(run.totals.dropped) or "nothing"
    yield "tolerance", "; ".join((_tolerance(run.manifest), *_own_tolerances(run)))
    yield "settings", _settings(run.manifest)


def _recomputed(run: Run) -> str:
    """Say what was recomputed without a cache, what was left out and why, and what was measured beside."""
    counts = run.totals.coverage
    done = counted({name: counts[name] for name in RECOMPUTED if name in counts})
    left_out = counted({n.removeprefix(NOT_RECOMPUTED): c for n, c in counts.items() if n.startswith(NOT_RECOMPUTED)})
    measured = [line(event.get("detail", "")) for event in run.events if event.get("event") == "oracle_measured"]
    parts = [done, f"not judged: {left_out}" if left_out else "", *measured[:5]]
    validation = run.manifest.get("validation")
    asked = isinstance(validation, dict) and validation.get("oracle") is not None
    return "; ".join(filter(None, parts)) or ("nothing" if asked else "")


def memory(run: Run) -> str:
    """Say what both sides held at the end."""
    held = run.totals.bytes_held
    named = ", ".join(
        f"{words(side)} {size(held[side])}" for side in (*SIDES, *sorted(held.keys() - set(SIDES))) if side in held
    )
    times = ratio(held.get("candidate"), held.get("control"))
    return f"{named}; candidate to control {times}" if named else "not measured"


def overhead(run: Run) -> str:
    """Say what the validation itself took."""
    n_ranks = run.manifest.get("world_size")
    wall_s = run.totals.t_s * (n_ranks if isinstance(n_ranks, int) and 0 < n_ranks < 10**6 else 1)
    spent_s = run.totals.harness_ns / 1e9
    if not wall_s:
        return "not measured"
    said = f"{seconds(spent_s)} of {seconds(wall_s)} went into validating ({share(spent_s / wall_s)})"
    timed, n = Timed.of(run.totals.latency_ns), sum(run.totals.ops.values())
    if not timed.n:
        return said
    if timed.n < n * _NEARLY_ALL:  # on a device a share is timed, by events there
        return f"{said}; latencies are those of {timed.n:,} of {n:,} operations ({share(timed.n / n)})"
    ours, theirs = timed.control_ns / 1e9, timed.candidate_ns / 1e9
    secondary = ours if {pair.get("primary") for pair in run.caches} == {"candidate"} else theirs
    rest = max(0.0, spent_s - secondary)
    named = (("control", ours), ("candidate", theirs), ("kv-lockstep itself", rest))
    return f"{said}; of all time {', '.join(f'{name} {share(took / wall_s)}' for name, took in named)}"


def provenance(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what ran, where, and where its record lies."""
    manifest = run.manifest
    versions, git, switches = (manifest.get(name) for name in ("versions", "git", "switches"))
    if isinstance(versions, Mapping):
        yield "versions", " · ".join(f"{name} {version}" for name, version in versions.items())
    if isinstance(git, Mapping):
        yield "commit", f"{git.get('commit', '?')!s:.12}{', with uncommitted changes' if git.get('dirty') else ''}"
    what = [f"{name.replace('_', ' ')} {manifest[name]}" for name in _WHAT if name in manifest]
    yield "what", " · ".join([*what, *([f"on {manifest['hostname']}"] if "hostname" in manifest else [])])
    yield "when", created(manifest)
    if isinstance(switches, Mapping):
        yield "switches", ", ".join(f"{name}={value}" for name, value in switches.items())
    yield "from", str(run.path)


def events(run: Run) -> list[tuple[str, int, str]]:
    """Return each kind of event with how often it came and what the first said."""
    details: dict[str, str] = {}
    for event in run.events:
        details.setdefault(event["event"], str(event.get("detail") or ""))
    return [(name, run.n_events.get(name, 1), said) for name, said in details.items()]


def _tolerance(manifest: Mapping[str, object]) -> str:
    settings = manifest.get("validation")
    if not isinstance(settings, Mapping) or "rtol" not in settings:
        return "not recorded"
    rtol, atol = settings.get("rtol"), settings.get("atol")
    return "none: bits must be equal" if rtol is None and atol is None else f"rtol {rtol}, atol {atol}: close is equal"


def _own_tolerances(run: Run) -> Iterator[str]:
    """Say of which pairs another tolerance held, and how far apart was what counted as equal."""
    for pair in run.caches:
        if "rtol" in pair:
            yield f"of {pair.get('cache')} rtol {pair['rtol']}, atol {pair.get('atol')}: close is equal"
    yield from (str(event.get("detail")) for event in run.events if event["event"] == "within_tolerance")


def _settings(manifest: Mapping[str, object]) -> str:
    settings = manifest.get("validation")
    if not isinstance(settings, Mapping):
        return ""
    return ", ".join(f"{words(name)} {settings[name]}" for name in _SETTINGS if name in settings)


def words(name: str) -> str:
    """Turn a field's name into words."""
    return name.replace("_", " ")


def counted(counts: Mapping[str, int]) -> str:
    """Put the counts that are not zero in a row."""
    named = [(words(name), count) for name, count in counts.items() if count]
    more = f", and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return ", ".join(f"{name} {count:,}" for name, count in named[:_MAX_NAMED]) + more


def _state_looks(run: Run) -> str:
    looks, ops = run.totals.coverage.get(STATE_LOOKS, 0), sum(run.totals.ops.values())
    return f"compared around {looks:,} of {plural(ops, 'operation')} ({share(looks / ops)})" if looks and ops else ""


def _envs(envs: Mapping[str, int]) -> str:
    if not envs:
        return ""
    fewest = min(envs, key=lambda env: envs[env])
    return f"{len(envs):,} looked up; fewest lookups: {envs[fewest]:,} of env {fewest}"


def created(manifest: Mapping[str, object]) -> str:
    """Say when a run began."""
    moment = manifest.get("created")
    if isinstance(moment, (int, float)) and 0 <= moment < 2**33:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "" if moment is None else str(moment)

"""A run as pandas tables, for questions that no report answers. The one module that imports pandas."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from reports.reader import find_runs, read_run
from reports.record.histogram import midpoint, percentile
from reports.record.records import Divergence, Window
from reports.record.run import Run
from reports.record.totals import Totals
from reports.record.words import Outcome


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one run. A missing number is NaN or ``<NA>``; -1 means that the host did not say.

    Attributes:
        divergences: One row for each divergence written in full: ``id, rank, cache, op_index, operation, pool, env_id,
            key, outcome, dimension, cause, fault, explanation, n_leaves, n_mismatched`` (elements), ``max_abs_diff,
            control_error, candidate_error, train_iter, env_step, episode, weight_version, evidence, t_s`` (seconds).
        windows: One row for each window, or for neighbours added up where a pair has more than 4,096: ``rank, cache,
            seq, t_s`` (seconds), ``train_iter, env_step, ops, lookups``, the six outcomes, ``divergences, dropped,
            harness_ns, bytes_control, bytes_candidate``; everything countable is the number in this window.
        latencies: One row for each bucket of a histogram: ``side, operation, bucket, ns`` (middle of the bucket,
            nanoseconds, within 6 %), ``count``.
        coverage: One row for each thing exercised: ``name, count``.
    """

    divergences: pd.DataFrame
    windows: pd.DataFrame
    latencies: pd.DataFrame
    coverage: pd.DataFrame

    def percentiles(self) -> pd.DataFrame:
        """Return ``side, operation, count, p50_ns, p90_ns, p99_ns``."""
        rows = []
        for (side, operation), part in self.latencies.groupby(["side", "operation"]):
            counts = dict(zip(part["bucket"].astype(str), part["count"], strict=True))
            marks = {f"p{mark}_ns": percentile(counts, mark / 100) for mark in (50, 90, 99)}
            rows.append({"side": side, "operation": operation, "count": int(part["count"].sum()), **marks})
        return pd.DataFrame(rows, columns=["side", "operation", "count", "p50_ns", "p90_ns", "p99_ns"])

    def to_parquet(self, directory: Path | str) -> list[Path]:
        """Write each table as ``<name>.parquet``.

        Args:
            directory: Where to; made if missing.

        Returns:
            The files.

        Raises:
            ModuleNotFoundError: If pyarrow is missing, with the command that installs it.
        """
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError:
            raise ModuleNotFoundError("Parquet needs pyarrow: pip install 'kv-lockstep[parquet]'") from None
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for table in fields(self):
            path = directory / f"{table.name}.parquet"
            getattr(self, table.name).to_parquet(path, index=False)
            written.append(path)
        return written


def load(run: Run | Path | str) -> Tables:
    """Load a run.

    Args:
        run: A run, its directory, or a directory of runs for the latest one.

    Returns:
        Its tables.

    Raises:
        RunUnreadable: If nothing of a run is there.
    """
    if not isinstance(run, Run):
        run = read_run(find_runs(run)[-1])
    return Tables(
        _frame([_divergence(one) for one in run.divergences], _DIVERGENCE),
        _frame([_window(one) for one in run.windows], _WINDOW),
        _frame(_latencies(run), ("side", "operation", "bucket", "ns", "count")),
        _frame([{"name": name, "count": count} for name, count in run.totals.coverage.items()], ("name", "count")),
    )


_DIVERGENCE = (
    *("id", "rank", "cache", "op_index", "operation", "pool", "env_id", "key", "outcome", "dimension", "cause"),
    *("fault", "explanation", "n_leaves", "n_mismatched", "max_abs_diff", "control_error", "candidate_error"),
    *("train_iter", "env_step", "episode", "weight_version", "evidence", "t_s"),
)
_WINDOW = (
    *("rank", "cache", "seq", "t_s", "train_iter", "env_step", "ops", "lookups", *(o.value for o in Outcome)),
    *("divergences", "dropped", "harness_ns", "bytes_control", "bytes_candidate"),
)
_TEXT = (
    *("cache", "operation", "pool", "key", "outcome", "dimension", "cause", "fault", "explanation"),
    *("control_error", "candidate_error", "evidence", "side", "name"),
)
_DTYPES = {
    **dict.fromkeys(_TEXT, "string"),
    **dict.fromkeys(("env_id", "bytes_control", "bytes_candidate"), "Int64"),
    **dict.fromkeys(("t_s", "max_abs_diff", "ns"), "float64"),
}


def _divergence(one: Divergence) -> dict[str, Any]:
    row = {name: getattr(one, name, None) for name in _DIVERGENCE}
    for name in ("outcome", "dimension", "cause", "fault"):
        row[name] = getattr(row[name], "value", None)
    gaps = [leaf.max_abs_diff for leaf in one.leaves if leaf.max_abs_diff is not None]
    row |= {"n_leaves": len(one.leaves), "n_mismatched": sum(leaf.n_mismatched for leaf in one.leaves)}
    return row | {"max_abs_diff": max(gaps, default=None)}


def _window(one: Window) -> dict[str, Any]:
    counts = Totals(lookups=one.lookups).outcomes()
    row = {name: getattr(one, name) for name in ("rank", "cache", "seq", "t_s", "train_iter", "env_step", "harness_ns")}
    row |= {name: sum(getattr(one, name).values()) for name in ("ops", "divergences", "dropped")}
    held = {f"bytes_{side}": one.bytes_held.get(side) for side in ("control", "candidate")}
    return row | counts | {"lookups": sum(counts.values())} | held


def _latencies(run: Run) -> list[dict[str, Any]]:
    return [
        {"side": side, "operation": operation, "bucket": bucket, "ns": midpoint(bucket), "count": count}
        for name, counts in run.totals.latency_ns.items()
        for side, _, operation in [name.partition(".")]
        for bucket, count in sorted((int(index), count) for index, count in counts.items())
    ]


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Build a table whose dtypes don't depend on which rows there are, nor on the version of pandas."""
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({name: _DTYPES.get(name, "int64") for name in columns})

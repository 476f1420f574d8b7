"""Tables for analysis, comparison, following, trackers: what the other commands are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import reports
from reports.content.comparison import Compared, compare
from reports.content.series import MOST, over_training
from reports.read.follow import Follower
from reports.reader import read_run
from reports.record.totals import fold, summarise
from reports.writer import RunWriter
from tests.reports.records_for_tests import CACHE, MANIFEST, divergence, window, write_run
from validator.gate.judgement import judge

STALE = "value|stale version of this key|candidate"
LEAK = "presence|duplicate-key slot leak|control"


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    windows = (window(0, divergences={STALE: 1}), window(1, divergences={STALE: 1}))
    return write_run(tmp_path, "failing", windows=windows, divergences=(divergence(), divergence(id=1, env_id=None)))


def test_nothing_that_draws_or_tabulates_comes_with_writing_reading_or_training() -> None:
    heavy = ("pandas", "jinja2", "reports.formats.html.page")
    program = (
        f"import sys, reports.writer, reports.reader, validator.commands.train; print({{*{heavy}}} & {{*sys.modules}})"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])

    assert done.stdout.strip() == "set()"


class TestLoad:
    def test_columns_and_types_do_not_depend_on_the_rows(self, failing: Path, tmp_path: Path) -> None:
        empty = reports.load(write_run(tmp_path, "empty", windows=()))
        full = reports.load(failing)

        for name in ("divergences", "windows", "latencies", "coverage"):
            assert list(getattr(empty, name).dtypes) == list(getattr(full, name).dtypes), name
            assert list(getattr(empty, name).columns) == list(getattr(full, name).columns), name

    def test_documented_columns_are_there(self, failing: Path) -> None:
        from reports.formats.tables import Tables

        tables = reports.load(failing)

        documented = (Tables.__doc__ or "").replace("\n", " ")
        for frame in (tables.divergences, tables.windows, tables.latencies, tables.coverage):
            for column in frame.columns:
                assert column in documented or column.startswith(("both_", "control_only", "candidate_only", "error"))

    def test_numbers_are_those_of_the_run(self, failing: Path) -> None:
        tables = reports.load(failing)

        assert tables.windows["ops"].sum() == 200
        assert tables.windows["both_hit_equal"].sum() == 112
        assert tables.divergences["n_mismatched"].tolist() == [24, 24]
        assert tables.divergences["max_abs_diff"].tolist() == [0.731, 0.731]
        assert tables.divergences["env_id"].isna().tolist() == [False, True]
        marks = tables.percentiles().set_index(["side", "operation"])
        assert marks.loc[("control", "set.init"), "count"] == 40

    def test_parquet_comes_back(self, failing: Path, tmp_path: Path) -> None:
        pd = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        tables = reports.load(failing)

        files = tables.to_parquet(tmp_path / "parquet")

        assert [file.name for file in files] == [
            *("divergences.parquet", "windows.parquet", "latencies.parquet", "coverage.parquet")
        ]
        assert pd.read_parquet(files[0])["cause"].tolist() == tables.divergences["cause"].tolist()

    def test_without_pyarrow_it_names_the_command(
        self, failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)

        with pytest.raises(ModuleNotFoundError, match=r"pip install 'kv-lockstep\[parquet\]'"):
            reports.load(failing).to_parquet(tmp_path)


class TestOverTraining:
    def test_steps_add_up_to_the_run(self, tmp_path: Path) -> None:
        windows = tuple(window(n, divergences={STALE: n % 3}) for n in range(300))
        run = read_run(write_run(tmp_path, windows=windows))

        axis, steps = over_training(run)

        assert axis == "training iteration"
        assert len(steps) <= MOST
        assert sum(step.n_lookups for step in steps) == run.totals.n_lookups
        assert sum(step.divergences.get("candidate", 0) for step in steps) == run.totals.n_divergences

    def test_pairs_and_ranks_hold_memory_at_the_same_time(self, tmp_path: Path) -> None:
        windows = (window(0, cache="a"), window(0, cache="b"), window(1, cache="a"))
        run = read_run(write_run(tmp_path, windows=windows))

        assert run.totals.bytes_held["control"] == 2 * 3_145_728
        assert over_training(run)[1][-1].bytes_held["control"] == 2 * 3_145_728


class TestCompare:
    def compared(self, a: Path, b: Path) -> tuple[list[str], dict[str, Compared]]:
        runs = [read_run(path) for path in (a, b)]
        warnings, tables = compare(*runs, [judge([run]) for run in runs])
        return warnings, {table.title.partition(":")[0]: table for table in tables}

    def test_says_what_appeared_and_what_vanished(self, failing: Path, tmp_path: Path) -> None:
        other = write_run(tmp_path, "other", windows=(window(0, divergences={LEAK: 3}), window(1)))

        _, tables = self.compared(failing, other)

        rows = {row[1]: row for row in tables["Divergences"].rows}
        assert rows["stale version of this key (value)"] == (
            *("candidate", "stale version of this key (value)", "2", "0", "vanished"),
        )
        assert rows["duplicate-key slot leak (presence)"][-1] == "appeared"

    def test_ratio_is_b_to_a(self, failing: Path, tmp_path: Path) -> None:
        held = {"control": 3_145_728, "candidate": 3 * 1_572_864}
        other = write_run(tmp_path, "other", windows=(window(0, bytes_held=held), window(1, bytes_held=held)))

        _, tables = self.compared(failing, other)

        assert next(row for row in tables["Candidate"].rows if row[0] == "memory")[-1] == "3.00x"
        assert next(row for row in tables["Control"].rows if row[0] == "memory")[-1] == "1.00x"

    def test_swapped_sides_are_named_and_every_table_names_the_classes(self, failing: Path, tmp_path: Path) -> None:
        pen = RunWriter.create(tmp_path, "swapped", MANIFEST, evidence_limit_bytes=0)
        pen.cache("world_model", control=CACHE["candidate"], candidate=CACHE["control"], primary="control")
        pen.window(window(0))
        pen.close(summarise(fold([window(0)]), schema=1, run_id="swapped", state="complete"))

        warnings, tables = self.compared(failing, pen.path)

        assert warnings[0].startswith("sides are swapped")
        for table in tables.values():
            assert table.classes == "A: LegacyKVCache against KVCacheManager; B: KVCacheManager against LegacyKVCache"


class TestFollow:
    def test_reads_only_what_is_new_and_sees_the_end(self, tmp_path: Path) -> None:
        pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
        pen.cache("world_model", **CACHE)
        follower = Follower(pen.path)
        pen.window(window(0))
        first = follower.look()
        with (pen.path / "rank-0000.jsonl").open("ab") as file:
            file.write(b'{"type":"window","t_s":')  # caught in the middle of a line
        half = follower.look()
        with (pen.path / "rank-0000.jsonl").open("ab") as file:
            file.write(b'7,"cache":"world_model","seq":1,"ops":{"get.init":1}}\n')
        pen.divergence(divergence())
        second = follower.look()
        pen.close(summarise(second, schema=1, run_id="r1", state="complete"))
        follower.look()
        follower.close()

        assert sum(first.ops.values()) == sum(half.ops.values()) == 100
        assert sum(second.ops.values()) == 101
        assert second.n_divergences == 1
        assert follower.last == divergence()
        assert follower.state == "closed"

    def test_a_dead_process_is_seen(self, tmp_path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        follower = Follower(write_run(tmp_path, close=False, pid=dead.pid))

        follower.look()
        follower.close()

        assert follower.state == "crashed"

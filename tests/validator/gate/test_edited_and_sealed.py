"""A run directory edited and sealed again: another record contradicts whatever was changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from reports.reader import read_run
from reports.record.codec import from_json, to_json
from reports.record.records import Window
from reports.record.totals import fold, joined, summarise
from reports.record.words import Verdict
from reports.writer import RunWriter
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.gate.sealed import documents, edited, edits, places, write_sealed
from tests.validator.sessions import WrongAt, exercise
from tests.validator.trials import manager
from validator.commands.gate_evidence import find_sources, read_sources
from validator.config import ValidationConfig
from validator.gate.judgement import judge
from validator.session import Lockstep

PROVEN = {"selftest": {"passed": True, "planted": 61, "detected": 61}, "seed": 3, "num_layers": 1}
# Names of values that no rule of the gate reads, and that nothing but a digest contradicts: moments of single lines
# (clocks must go forward all the same), what an event says beside its name, and what is shown to people alone, as are
# latencies beside what they add up to, which is judged.
FREE_IN_LINES = {"t_s", "detail", "train_iter", "env_step", "rank", "ended", "latency_ns"}
FREE_IN_SUMMARY = {
    "latency_ns",
    "timed",
    "bytes_held",
    "writer",
    "first_divergence",
    "harness_faults",
    "schema",
    "ended",
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return {
            "passes": record(out / "1", manager(), monkeypatch),
            "two ranks": record(out / "2", manager(), monkeypatch, ranks=2),
            "fails": record(out / "3", WrongAt(3), monkeypatch),
        }


def record(out: Path, candidate: Any, monkeypatch: pytest.MonkeyPatch, ranks: int = 1) -> Path:
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        settings = ValidationConfig(run_id="run", selftest=False, window_s=0.0)
        with Lockstep(out, settings, manifest_extra=PROVEN) as lockstep:
            cache = lockstep.shadow(control=manager(), candidate=candidate)
            for key in range(4):
                cache.set_recur_cache(key, make_entry(key))
                cache.set_wm_cache(key, make_entry(key))
                cache.get_recur_cache(key)
                cache.hierarchical_get(0, key)
            for _ in range(4):  # so that there are several windows
                exercise(lockstep, cache)
    return out / "run"


def verdict(directory: Path) -> Verdict:
    return judge(read_sources(find_sources([directory]))).verdict


def passing_after(directory: Path, whole: bool, every: int = 1) -> list[str]:
    """Change each value once, seal again, and return the changes after which the gate passes."""
    passed, number = [], 0
    for name, lines in documents(directory).items():
        original = (directory / name).read_bytes()
        summary = (directory / "summary.json").read_bytes()
        for position, line in enumerate(lines):
            for where in places(line):
                number += 1
                if number % every:
                    continue
                value = line
                for part in where:
                    value = value[part]
                options = edits(value)
                new = options[number // every % len(options)]
                changed = [*lines[:position], edited(line, where, new), *lines[position + 1 :]]
                write_sealed(directory, name, changed, whole)
                if verdict(directory) is Verdict.PASS:
                    passed.append(f"{name}:{position + 1} {'.'.join(map(str, where))}: {value!r:.40} -> {new!r:.40}")
        (directory / name).write_bytes(original)
        (directory / "summary.json").write_bytes(summary)
    return passed


def is_free(said: str) -> bool:
    name, where = said.split(" ")[:2]
    parts = where.rstrip(":").split(".")
    return bool({*parts} & FREE_IN_LINES) if name.startswith("rank") else parts[0] in FREE_IN_SUMMARY


@guards("reports/read/consistency.py", 'None if lines.close.get("inventory") else said', "said")
def test_a_close_from_which_its_state_was_taken_is_no_complete_one(recorded: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(recorded["passes"], directory)
    lines = documents(directory)["rank-0000.jsonl"]
    assert lines[-1].pop("state") == "complete"
    write_sealed(directory, "rank-0000.jsonl", lines, True)
    assert verdict(directory) is not Verdict.PASS


@guards("reports/read/consistency.py", 'all(state == "complete" for state in states)', "True")
def test_one_rank_that_says_it_ended_otherwise_is_enough(recorded: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(recorded["two ranks"], directory)
    lines = documents(directory)["rank-0001.jsonl"]
    lines[-1]["state"] = "interrupted"
    write_sealed(directory, "rank-0001.jsonl", lines)
    assert verdict(directory) is not Verdict.PASS


@guards("reports/read/consistency.py", "if difference := parted(said, here):", "if False:")
@pytest.mark.parametrize(("name", "every"), [("passes", 7), ("two ranks", 17)])
def test_whatever_is_changed_in_a_run_that_passes_is_contradicted(
    recorded: dict[str, Path], name: str, every: int
) -> None:
    directory = recorded[name]
    assert verdict(directory) is Verdict.PASS, judge([read_run(directory)])

    passed = [said for said in passing_after(directory, True, every) if not is_free(said)]

    assert passed == []
    assert verdict(directory) is Verdict.PASS


def test_a_run_that_fails_is_not_edited_into_one_that_passes(recorded: dict[str, Path]) -> None:
    directory = recorded["fails"]
    assert verdict(directory) is Verdict.FAIL

    assert passing_after(directory, True, 11) == []


@guards("reports/read/consistency.py", 'summary.get("lines_digest") != first.get("digest")', "False")
def test_what_no_other_record_tells_is_told_by_the_digest_in_the_summary(recorded: dict[str, Path]) -> None:
    assert [said for said in passing_after(recorded["passes"], False, 19) if said.startswith("rank")] == []


@guards("reports/record/inventory.py", "if n_ops and not n_ops - fewer <= count <= n_ops:", "if False:")
@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("ops", "get.recur"), "lookups of recur are counted in"),
        (("lookups", "init", "both_hit_equal"), "lookups of init are counted in"),
        (("envs", "0"), "lookups by env are counted in"),
        (("coverage", "sets_of_2_layers"), "sets by layers are counted in"),
        (("coverage", "clears_all"), "clears all are counted in"),
        (("coverage", "evictions"), "evictions are counted in"),
    ],
)
def test_counts_and_operations_contradict_each_other_even_where_all_records_were_brought_into_line(
    recorded: dict[str, Path], tmp_path: Path, where: tuple[str, ...], said: str
) -> None:
    run = read_run(recorded["passes"])
    window = to_json(joined(run.windows))
    changed = edited(window, where, 1000)
    forged = RunWriter.create(tmp_path, "forged", {**run.manifest, "run_id": "forged"}, evidence_limit_bytes=0)
    for line in run.caches:
        forged.cache(line["cache"], **{name: value for name, value in line.items() if name != "cache"})
    forged.window(from_json(Window, changed))
    forged.close(summarise(fold([from_json(Window, changed)]), schema=2, run_id="forged", state="complete"))

    judgement = judge([read_run(forged.path)])

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert said in str(judgement)

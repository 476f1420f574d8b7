"""Ways to have looked at too little, each on disk and each not a PASS; and what a rollout must not overlook."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.disk.seal import seal
from reports.errors import RunUnreadable
from reports.record.words import Verdict
from tests.guards import guards
from tests.validator.campaign import DAY, busy_window, policy, write, write_streams
from tests.validator.gate.runs import divergence
from validator.commands.gate_evidence import find_sources, read_sources
from validator.gate.judgement import Judgement, judge
from validator.gate.policy import GatePolicy

NOW = time.time()
LOOKUPS = busy_window().lookups
COVERAGE = busy_window().coverage
VALIDATION: dict[str, Any] = {"digest_share": 1.0, "rtol": None, "atol": None}


def campaign(out: Path) -> Path:
    """Leave three shadow-stage seeds and a conformance result, as a team would."""
    for seed in (1, 2, 3):
        write(out, seed, now=NOW)
    write_streams(out)
    return out


def gate(*paths: Path, by: str = "shadow-to-canary") -> Judgement:
    return judge(read_sources(find_sources(paths)), policy(by) if by != "default" else GatePolicy())


def replaced(**changes: Any) -> Callable[[Path], object]:
    """Let seed 3 be another run."""

    def change(out: Path) -> None:
        shutil.rmtree(out / "run-3")
        window = busy_window(**{name: changes.pop(name) for name in list(changes) if hasattr(busy_window(), name)})
        write(out, 3, window, now=NOW, **changes)

    return change


def uncovered(*names: str) -> Callable[[Path], object]:
    return replaced(coverage={name: count for name, count in COVERAGE.items() if name not in names})


def lines_edited(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    def edit(out: Path) -> None:
        file = out / "run-3" / "rank-0000.jsonl"
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return edit


def resealed(name: str, **changes: Any) -> Callable[[Path], object]:
    """Change a file and make its digest right again, as somebody would who knows how."""

    def edit(out: Path) -> None:
        file = out / "run-3" / name
        content = json.loads(file.read_bytes())
        del content["digest"]
        file.write_bytes(seal(json.dumps({**content, **changes}).encode()))

    return edit


def second_name(out: Path) -> None:
    """Pass a copy of a run off as another one."""
    shutil.rmtree(out / "run-3")
    shutil.copytree(out / "run-2", out / "run-3")


def linked_elsewhere(out: Path) -> None:
    shutil.move(out / "run-3", out.parent / "elsewhere")
    (out / "run-3").symlink_to(out.parent / "elsewhere")


def linked_file(out: Path) -> None:
    file = out / "run-3" / "rank-0000.jsonl"
    shutil.move(file, out.parent / "lines")
    file.symlink_to(out.parent / "lines")


WAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a run is missing": (
        lambda out: shutil.rmtree(out / "run-3"),
        "sound runs of the shadow stage: at least 3, found 2",
    ),
    "nothing was looked up": (replaced(lookups={}, envs={}), "lookups: at least 10,000, found 0"),
    "a short run": (replaced(lookups={"init": {"both_hit_equal": 50}}), "lookups: at least 10,000, found 50"),
    "everything missed": (replaced(lookups={"init": {"both_miss": 30_000}}), "equally: at least 10,000, found 0"),
    "nothing was overwritten": (uncovered("overwrites"), "overwrites: at least 100, found 0"),
    "nothing was evicted": (uncovered("evictions"), "evictions: at least 1,000, found 0"),
    "no ring came round": (uncovered("ring_wraps"), "ring wraps: at least 100, found 0"),
    "nothing was cleared": (uncovered("clears_all", "clears_init_env", "clears_recur"), "clears: at least 10, found 0"),
    "never all was cleared": (uncovered("clears_all"), "clears of everything: at least 5, found 0"),
    "no episode was cleared": (uncovered("clears_init_env"), "clears of one env's init pool: at least 10, found 0"),
    "no search was cleared": (uncovered("clears_recur"), "clears of the recurrent pool: at least 100, found 0"),
    "the weights never moved": (uncovered("weight_updates"), "weight updates: at least 5, found 0"),
    "no episode ended": (uncovered("episodes"), "episode ends: at least 10, found 0"),
    "no search began": (uncovered("searches"), "searches: at least 100, found 0"),
    "an env was never seen": (replaced(envs={"0": 9000}), "1 of 2 envs never seen (1)"),
    "a layer held nothing": (
        replaced(coverage={**COVERAGE, "sets_of_2_layers": 0, "sets_of_0_layers": 900}),
        "900 sets of empty, where the model has 2 layers",
    ),
    "layers unknown": (replaced(num_layers=None), "how many layers the model has is not recorded"),
    "values were sampled": (
        replaced(validation={**VALIDATION, "digest_share": 0.1}),
        "digest_share 0.1: only that share of equal hits",
    ),
    "a tolerance hid bits": (replaced(validation={**VALIDATION, "rtol": 0.1, "atol": 0.1}), "rtol 0.1, atol 0.1"),
    "settings unknown": (replaced(validation=None), "settings of the validation are not recorded"),
    "comparisons were dropped": (replaced(dropped={"comparison failed": 7}), "7 x comparison failed"),
    "the harness never proved itself": (replaced(selftest=None), "no self-test recorded"),
    "the harness missed a fault": (replaced(selftest={"passed": False, "planted": 61, "detected": 60}), "60 of 61"),
    "killed": (replaced(close=False), "crashed"),
    "interrupted": (replaced(state="interrupted"), "crashed, summary says 'interrupted'"),
    "windows lost": (lines_edited(lambda lines: [lines[0], lines[-1]]), "1 lines can be read before its close"),
    "cut off": (lines_edited(lambda lines: [*lines[:-1], lines[-1][:20]]), "the last line is cut off"),
    "not UTF-8": (lines_edited(lambda lines: [lines[0], b"\xff\xfe\n", *lines[1:]]), "line 2: no UTF-8"),
    "a rank is missing": (replaced(world_size=2), "1 of 2 ranks left no file that can be read: rank 1"),
    "a clock that goes backwards": (
        lambda out: _two_windows(out, 10.0, 4.0),
        "the clock of 'collect' goes backwards, from 10 s to 4 s",
    ),
    "begun in the future": (replaced(created=NOW + DAY), "one of the clocks goes backwards"),
    "too old": (replaced(created=NOW - 40 * DAY), "40.0 days old"),
    "age unknown": (replaced(created=None), "when is not recorded"),
    "one seed again": (replaced(seed=2), "distinct seeds in the shadow stage: at least 3, found 2 (1, 2)"),
    "seed unknown": (replaced(seed=None), "distinct seeds in the shadow stage: at least 3, found 2 (1, 2)"),
    "of the other stage": (replaced(primary="candidate"), "sound runs of the shadow stage: at least 3, found 2"),
    "another candidate": (replaced(pair={"candidate": "Other"}), "Other of source 0b, where other runs have"),
    "another version": (
        replaced(pair={"sources": {"candidate": "ff"}}),
        "KVCacheManager of source ff, where other runs have KVCacheManager of source 0b",
    ),
    "version unknown": (replaced(pair={"sources": {}}), "KVCacheManager of unrecorded source, where other"),
    "a class against itself": (replaced(pair={"control": "KVCacheManager"}), "both are KVCacheManager"),
    "nothing was shadowed": (lines_edited(lambda lines: lines[1:]), "no shadowed pair"),
    "one run copied": (second_name, "run-2 more than once"),
    "a copy with an id of its own": (
        lambda out: (second_name(out), *(resealed(name, run_id="run-3")(out) for name in ("run.json", "summary.json"))),
        "rank-0000.jsonl belongs to run 'run-2', run.json to another",
    ),
    "another schema": (resealed("run.json", schema=9), "run.json is of schema 9, this kv-lockstep reads up to 2"),
    "a summary that says more": (resealed("summary.json", lookups={"both_hit_equal": 10**6}), "disagree on lookups"),
    "a run behind a link": (linked_elsewhere, "run-3 is a symbolic link, which is not followed"),
    "a run that lies deeper": (
        lambda out: write(out / "more", 9, busy_window(divergences={"value|rounding|candidate": 1}), now=NOW),
        "more holds runs of its own, which were not read",
    ),
    "lines behind a link": (linked_file, "rank-0000.jsonl is no plain file inside the run directory; not read"),
    "no adversarial streams": (
        lambda out: [file.unlink() for file in out.glob("conformance-*")],
        "streams that conformed: at least 20,000, found 0",
    ),
    "short streams": (lambda out: _streams(out, operations=19_999), "at least 20,000, found 19,999"),
    "streams of another class": (lambda out: _streams(out, candidate="Other"), "found 0, not counting"),
    "a changed conformance result": (
        lambda out: next(out.glob("conformance-*")).write_text(
            next(out.glob("conformance-*")).read_text().replace("100000", "900000")
        ),
        "was changed after it was written",
    ),
}


def _two_windows(out: Path, *times: float) -> None:
    shutil.rmtree(out / "run-3")
    write(out, 3, *(busy_window(seq=seq, t_s=t_s) for seq, t_s in enumerate(times)), now=NOW)


def _streams(out: Path, **changes: Any) -> None:
    for file in out.glob("conformance-*"):
        file.unlink()
    write_streams(out, **changes)


def test_the_campaign_itself_passes(tmp_path: Path) -> None:
    judgement = gate(campaign(tmp_path))

    assert judgement.verdict is Verdict.PASS, judgement
    assert len(WAYS) >= 25


@guards("reports/disk/json_file.py", "if not is_sealed(data):", "if False:")
@guards("reports/read/consistency.py", 'and lines.close.get("run_id") != manifest.get("run_id")', "and False")
@guards("reports/read/windows.py", "if window.t_s < self.latest_s:", "if False:")
@guards(
    "reports/reader.py", "if (child := path / name).is_symlink() and child.is_dir()]", "if (child := path) is name]"
)
@pytest.mark.parametrize("way", WAYS)
def test_too_little_never_passes_and_says_what_is_missing(tmp_path: Path, way: str) -> None:
    change, said = WAYS[way]
    change(campaign(tmp_path / "runs"))

    judgement = gate(tmp_path / "runs")

    assert judgement.verdict is Verdict.INCONCLUSIVE, judgement
    assert any(said in reason for reason in judgement.reasons), judgement


def test_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunUnreadable, match="expected a run directory"):
        gate(tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_run_is_needed(tmp_path: Path, seed: int) -> None:
    shutil.rmtree(campaign(tmp_path) / f"run-{seed}")

    judgement = gate(tmp_path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    found = ", ".join(str(other) for other in (1, 2, 3) if other != seed)
    wanted = f"record one more: kv-lockstep train --config configs/validate.toml --primary legacy --seed {seed}"
    assert judgement.reasons == (
        f"sound runs of the shadow stage: at least 3, found 2; {wanted}",
        f"distinct seeds in the shadow stage: at least 3, found 2 ({found}); {wanted}",
    )


def test_one_planted_divergence_fails_and_is_named(tmp_path: Path) -> None:
    shutil.rmtree(campaign(tmp_path) / "run-2")
    planted = divergence()
    window = busy_window(divergences={planted.group: 1})
    write(tmp_path, 2, window, now=NOW, before_close=lambda writer: writer.divergence(planted))

    judgement = gate(tmp_path)

    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons[0].startswith("no divergence, found 1 (candidate at fault in 1) in ")
    assert "get.recur, values corrupted, key 00000000000000ff, op 512" in judgement.reasons[0]


@guards("reports/read/lines.py", "(found or self.is_sealed)", "(found or True)")
@pytest.mark.parametrize("name", ["run.json", "rank-0000.jsonl", "summary.json"])
def test_no_byte_of_a_run_can_be_edited(tmp_path: Path, name: str) -> None:
    file = campaign(tmp_path) / "run-2" / name
    whole = file.read_bytes()

    unnoticed = []
    for position in range(0, len(whole), 17):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        judgement = gate(tmp_path / "run-2", by="default")
        if judgement.verdict is Verdict.PASS or not any(name in reason for reason in judgement.reasons):
            unnoticed.append(position)
    assert unnoticed == []


def test_an_edited_count_is_named_as_an_edit(tmp_path: Path) -> None:
    file = campaign(tmp_path) / "run-2" / "rank-0000.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"harness_ns":3', b'"harness_ns":1'))

    judgement = gate(tmp_path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "rank-0000.jsonl: changed after it was written: its digest does not fit its content" in str(judgement)


def test_a_pool_that_no_run_looked_up(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write(tmp_path, seed, busy_window(lookups={"init": {"both_hit_equal": 20_000}}), now=NOW)
    write_streams(tmp_path)

    judgement = gate(tmp_path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "divergence rate of pool wm below 0.001 per lookup at 95 %, found no lookup" in str(judgement)


def test_a_canary_stage_run_more_passes_canary_to_default(tmp_path: Path) -> None:
    campaign(tmp_path)
    assert gate(tmp_path, by="canary-to-default").verdict is Verdict.INCONCLUSIVE

    write(tmp_path, 4, now=NOW, primary="candidate")

    assert gate(tmp_path, by="canary-to-default").verdict is Verdict.PASS


def test_divergences_of_a_crashed_run_fail_beside_sound_ones(tmp_path: Path) -> None:
    campaign(tmp_path)
    write(tmp_path, 9, now=NOW, close=False, before_close=lambda writer: writer.divergence(divergence()))

    assert gate(tmp_path).verdict is Verdict.FAIL


def test_an_unreadable_run_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = campaign(tmp_path) / "run-3"
    (run / "run.json").write_bytes(b"\xff\xfe not text")

    judgement = gate(tmp_path)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "run.json can't be read as JSON" in str(judgement)


def test_a_result_behind_a_link_is_not_read(tmp_path: Path) -> None:
    runs = campaign(tmp_path / "runs")
    (result,) = runs.glob("conformance-*")
    result.replace(tmp_path / "result")
    result.symlink_to(tmp_path / "result")

    judgement = gate(runs)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "is no plain file inside the run directory; not read" in str(judgement)

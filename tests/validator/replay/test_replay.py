"""A recorded run is played again: the same divergences, on the same classes; and what can't be played is said."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.read.trace import find_traces
from reports.reader import find_runs, read_run
from reports.record.records import Divergence
from reports.record.words import Cause, Fault
from shadow.entry import leaves
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.sessions import open_session
from tests.validator.trials import legacy, manager
from validator.cli import main
from validator.proof.selftest import TERRAIN, SelfTest
from validator.proof.stream import Player, steps
from validator.replay.again import again
from validator.replay.bodies import Bodies, Body, CannotMake

NO_SELFTEST = {"selftest": False, "overhead_budget": 0.0}


class Forgetful(KVCacheManager):
    """Misses every fifth lookup of the recurrent pool."""

    n_lookups = 0

    def get_recur_cache(self, cache_key: int) -> Any:
        self.n_lookups += 1
        return None if not self.n_lookups % 5 else super().get_recur_cache(cache_key)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the legacy store against a manager that forgets, with a deep copy half-way."""
    with open_session(tmp_path_factory.mktemp("recorded"), **NO_SELFTEST) as lockstep:
        forgetful = Forgetful({"num_simulations": 2, "max_cache_size": 4}, 3)
        cache = lockstep.shadow(control=legacy(envs=3), candidate=forgetful)
        stream = list(steps(0, 300, replace(TERRAIN, one_layout=True, batches=(2,))))
        Player(cache, cache.observer).play_all(stream[:150])
        clone = copy.deepcopy(cache)
        Player(cache, cache.observer).play_all(stream[150:])
        Player(clone, clone.observer).play_all(stream[100:])
    return lockstep.run_dir


def replay(run: Path, out: Path, *flags: str) -> tuple[int, Any]:
    code = main(["replay", str(run), "--out", str(out), *flags])
    return code, read_run(find_runs(out)[-1])


def known(divergences: list[Divergence]) -> list[tuple[Any, ...]]:
    return [(d.cache, d.op_index, d.operation, d.env_id, d.key, d.cause, d.fault, d.explanation) for d in divergences]


@guards("validator/replay/play.py", "copied.append((copy.deepcopy(cache), self._lockstep.pairs[-1].name))", "pass")
def test_every_recorded_divergence_comes_again_and_two_replays_are_one(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_run(recorded)
    assert {"cache", "cache-copy"} == {d.cache for d in before.divergences}
    assert {Fault.CONTROL, Fault.CANDIDATE} <= {d.fault for d in before.divergences}
    code, run = replay(recorded, tmp_path / "one")
    said = capsys.readouterr().out
    assert code == 1
    n = len(before.divergences)
    assert f"{n:,} of {n:,} recorded divergences came again on the same two classes" in " ".join(said.split())
    assert known(run.divergences) == known(before.divergences)
    assert run.totals.lookups == before.totals.lookups
    assert (run.manifest["host"], run.manifest["replayed"]["run_id"]) == ("replay", "run")
    assert "complete, replayed from run run" in said
    again_code, second = replay(recorded, tmp_path / "two")
    assert again_code == 1
    assert known(second.divergences) == known(run.divergences)
    assert second.totals.coverage == run.totals.coverage


def test_a_replay_on_a_sound_candidate_charges_the_control_alone(recorded: Path, tmp_path: Path) -> None:
    _, run = replay(recorded, tmp_path, "--candidate", "new", "--primary", "new")
    assert {d.fault for d in run.divergences} == {Fault.CONTROL}
    assert {pair["candidate"] for pair in run.caches} == {"shadow.manager.KVCacheManager"}
    assert {pair["primary"] for pair in run.caches} == {"candidate"}


@guards("validator/commands/replay.py", "if same and found.missing and code == EXIT_CODE[Verdict.PASS]:", "if False:")
def test_what_does_not_come_again_on_the_same_classes_never_passes(
    monkeypatch: pytest.MonkeyPatch, recorded: Path, tmp_path: Path
) -> None:
    import validator.commands.replay as command

    monkeypatch.setattr(command, "judge_at_close", lambda *_: 0)
    one = read_run(recorded).divergences[0]
    monkeypatch.setattr(command, "read_run", lambda path: replaced(read_run(path), one))
    assert replay(recorded, tmp_path)[0] == 5


def replaced(run: Any, one: Divergence) -> Any:
    run.divergences = [*run.divergences, replace(one, op_index=10**6, cause=Cause.CORRUPTED)]
    return run


def test_divergences_are_told_apart_by_operation_cause_and_side(recorded: Path) -> None:
    one, two = read_run(recorded).divergences[:2]
    names = {(0, "cache"): "cache", (0, "cache-copy"): "cache-copy"}
    later = replace(one, op_index=one.op_index + 1)
    other_side = replace(two, fault=Fault.BOTH)
    host = replace(two, fault=Fault.HOST, cause=Cause.CORRUPTED, op_index=-1)
    found = again([one, two, host], [later, other_side, two], names)
    assert (found.came, found.missing, found.unrecorded) == ([two], [one], [host])
    assert found.more == [later, other_side]


def test_equal_bodies_stay_equal_and_different_ones_different() -> None:
    layouts = [
        (((1, 2, 8, 4), "float32", "cpu", 5),) * 4,
        (((2, 2, 8, 4), "bfloat16", "cuda:0", 8),) * 2,
        (((1, 1, 1, 2), "float32", "cpu", 1),) * 2,
        (((1, 1, 4, 3), "int64", "cpu", 2), ((1, 1, 4, 3), "int64", "cpu", 1)),
    ]
    for layout in layouts:
        make = Bodies()
        seen: dict[bytes, int] = {}
        for digest in [*range(64), *(1 << at for at in range(64))]:
            found = leaves(make(Body(digest, layout)))
            assert [(tuple(leaf.tensor.shape), leaf.size) for leaf in found] == [(one[0], one[3]) for one in layout]
            values = _valid_bytes(found)
            assert seen.setdefault(values, digest) == digest
        first = make(Body(7, layout))
        assert _valid_bytes(leaves(first)) == _valid_bytes(leaves(Bodies()(Body(7, layout))))
        parts = [leaf.tensor[:, :, :1].flatten().tolist() for leaf in leaves(first)]
        assert parts[0] != parts[1]  # K and V can be told apart


def _valid_bytes(found: list[Any]) -> bytes:
    regions = (leaf.tensor[:, :, : leaf.size].contiguous() for leaf in found)
    return b"".join(region.view(torch.uint8).numpy().tobytes() for region in regions)


@pytest.mark.parametrize(
    "layout",
    [
        (),
        (((1, 2), "float32", "cpu", 1),) * 2,
        (((1, 1, 1, 2), "no such", "cpu", 1),) * 2,
        (((1, 1, 1, 2), "float32", "cpu", 9),) * 2,
        (((1 << 20, 1 << 20, 1 << 20, 2), "float32", "cpu", 1),) * 2,
    ],
)
def test_what_can_t_be_made_is_refused(layout: Any) -> None:
    with pytest.raises(CannotMake):
        Bodies()(Body(1, layout))


class Local:
    @staticmethod
    def make() -> Any:
        class Hidden(KVCacheManager):
            pass

        return Hidden({"num_simulations": 2, "max_cache_size": 4}, 2)


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_session(tmp_path / "hidden", **NO_SELFTEST) as lockstep:
        lockstep.shadow(control=manager(), candidate=Local.make()).set_recur_cache(1, make_entry(1))
    with open_session(tmp_path / "off", record="off", **NO_SELFTEST) as without:
        without.shadow(control=manager(), candidate=manager()).get_recur_cache(1)
    with open_session(tmp_path / "empty", **NO_SELFTEST) as empty:
        empty.shadow(control=manager(), candidate=manager())
    hidden, out = str(lockstep.run_dir), ["--out", str(tmp_path / "out")]
    for argv, said in (
        (["replay", hidden, *out], "can't be imported here"),
        (["replay", hidden, "--candidate", "no.such:Cache", *out], "no cache implementation 'no.such:Cache'"),
        (["replay", hidden, "--candidate", "math:floor", *out], "can't be built"),
        (["replay", str(without.run_dir), *out], "holds no trace"),
        (["replay", str(empty.run_dir), *out], "no operation that could be played"),
        (["replay", str(tmp_path / "nowhere"), *out], "there is nothing"),
        (["replay", str(lockstep.run_dir / "run.json"), *out], "expected the index of a trace"),
        (["shrink", hidden], "holds no divergence to shrink"),
    ):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_trace_is_played_by_its_index_alone(monkeypatch: pytest.MonkeyPatch, recorded: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("validator.session.quick_selftest", lambda: SelfTest((), 0, 0, ()))  # seconds
    index = find_traces(recorded)[0]
    alone = tmp_path / "alone" / "trace"
    alone.mkdir(parents=True)
    for file in index.parent.glob(f"{index.stem}*"):
        (alone / file.name).write_bytes(file.read_bytes())
    code, run = replay(alone / index.name, tmp_path / "out")
    assert code == 1
    assert run.divergences

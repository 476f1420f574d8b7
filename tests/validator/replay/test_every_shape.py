"""Mappings, append caches and nests of tensors: recorded, played again, shrunk, and written as a test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from reports.read.trace import find_traces, read_trace
from reports.reader import find_runs, read_run
from shadow.entries import form_of, leaves
from tests.guards import guards
from tests.validator.replay.campaign import NAMED, record
from tests.validator.replay.faulty import _BY_NAME
from tests.validator.sessions import open_session
from validator.cli import main
from validator.proof.appends.caches import GrowingCache
from validator.proof.mappings import Plain
from validator.replay.bodies import Bodies, Body
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.replay.repro import repro
from validator.replay.shrinking import shrink_divergence

QUIET = {"selftest": False, "overhead_budget": 0.0}


def program_of(run: Path) -> Program:
    return Program(read_trace(find_traces(run)[0]))


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        ("pop_removes_nothing", 4),
        ("a_nest_loses_a_plain_value", 4),
        ("beams_are_not_reordered", 4),
        ("a_window_one_short", 3),
    ],
)
def test_a_fault_comes_again_and_becomes_a_test_that_needs_no_harness(fault: str, calls: int, tmp_path: Path) -> None:
    planted = _BY_NAME[fault]
    run = record(planted, tmp_path / "run", 120)
    recorded = read_run(run).divergences
    one = next(each for each in recorded if each.cause in planted.causes)
    assert main(["replay", str(run), "--out", str(tmp_path / "again"), "--candidate", NAMED + fault]) == 1
    replayed = read_run(find_runs(tmp_path / "again")[-1])
    assert [(each.op_index, each.cause, each.fault) for each in replayed.divergences] == [
        (each.op_index, each.cause, each.fault) for each in recorded
    ]
    program = program_of(run)
    sides = Sides(program.about, candidate=NAMED + fault)
    found = shrink_divergence(program, one, sides, 30.0)
    assert found is not None
    written = repro(found, sides, one, one.id, "run")
    assert (written.fails, written.passes, written.plain) == (True, True, True), written.source
    assert written.calls <= calls, written.source
    assert "validator.proof.trial" not in written.source


class Named(NamedTuple):
    k: Any
    v: Any


@dataclass
class Held:
    of: Any
    size: int


class Odd(dict):  # type: ignore[type-arg]
    """A dict by another name."""


@guards("validator/replay/nests.py", "return float(text)", "return text")
@pytest.mark.parametrize(
    "nest",
    [
        torch.ones(2),
        {"k": torch.ones(2, 3), "v": (torch.ones(1), [torch.zeros(2, dtype=torch.int8)]), "step": 3},
        {"a.b": torch.ones(1), 3: {(1, "x"): torch.ones(2)}, "empty": {}, "none": None, "nan": math.nan, "b": True},
        Named(torch.ones(2), Held(torch.ones(1, dtype=torch.bool), 5)),
        Odd(dtype=torch.bfloat16, x=torch.ones(2, dtype=torch.complex64), y=-1.5, text='it\'s, [a] "b"'),
    ],
)
def test_a_nest_is_made_again_of_its_form(nest: Any) -> None:
    found = leaves(nest)
    form = form_of(found)
    layout = tuple((tuple(t.shape), str(t.dtype).removeprefix("torch."), "cpu", size) for t, size in found)
    make = Bodies(anew=True)
    one, other, same = (make(Body(digest, layout, form)) for digest in (7, 8, 7))
    for made in (one, other, same):
        assert form_of(leaves(made)) == form
        assert [(t.shape, t.dtype) for t, _ in leaves(made)] == [(t.shape, t.dtype) for t, _ in found]
    parts = [[tensor for tensor, _ in leaves(each)] for each in (one, other, same)]
    assert all(map(torch.equal, parts[0], parts[2]))
    assert not all(map(torch.equal, parts[0], parts[1]))
    assert make.stand_ins == set()


def test_of_a_class_that_can_t_be_imported_another_stands_in_and_is_named() -> None:
    form = (("", "no.such.Entry"), ("k", "a tensor"))
    make = Bodies()
    assert list(make(Body(1, (((2,), "float32", "cpu", 1),), form))) == ["k"]
    assert make.stand_ins == {"no.such.Entry"}


@guards("validator/replay/recording.py", "verb = verbs.get(operation[0])", "verb = verbs.get(operation.name)")
def test_every_verb_of_a_mapping_and_every_key_comes_back(tmp_path: Path) -> None:
    with open_session(tmp_path, **QUIET) as lockstep:
        cache = lockstep.shadow(control=Plain(), candidate=Plain())
        keys = [1, -1, "text", ("a", (1, 2)), b"bytes", 2.5]
        for key in keys:
            cache[key] = {"k": torch.ones(2)}
        _ = [key in cache for key in keys], cache.get(1), cache.pop("text", None), cache.popitem()
        del cache[2.5]
        cache.clear()
    program = program_of(lockstep.run_dir)
    steps = list(program.steps())
    assert [step.verb for step in steps] == [
        *["__setitem__"] * 6,
        *["__contains__"] * 6,
        *("get", "pop", "popitem", "__delitem__", "clear"),
    ]
    assert [step.key for step in steps[:6]] == [1, -1, "text", ("a", (1, 2)), "bytes-2", 2.5]
    assert program.left_out == {}


def test_what_an_append_cache_is_told_comes_back_and_what_can_t_is_said(tmp_path: Path) -> None:
    class Told(GrowingCache):
        def activate_past_recording(self, *given: Any) -> None: ...

    with open_session(tmp_path, **QUIET) as lockstep:
        cache = lockstep.shadow(control=Told(), candidate=Told())
        for layer in range(3):
            cache.update(torch.ones(2, 1, 3, 4), torch.zeros(2, 1, 3, 4), layer)
        cache.reorder_cache(beam_idx=torch.tensor([1, 0]))
        cache.crop(-1)
        cache.activate_past_recording(torch.float32, object())
        cache.reset()
    program = program_of(lockstep.run_dir)
    steps = [(step.verb, step.env_id, step.key) for step in program.steps()]
    assert steps == [
        *(("update", layer, None) for layer in range(3)),
        ("reorder_cache", None, ((1, 0),)),
        ("crop", None, (-1,)),
        ("reset", None, ()),
    ]
    assert program.left_out == {"operations under keys that could not be told apart": 1}
    assert program.about["config"]["windows"] == [None, 4, None]


@guards("validator/registry.py", "            self._recorder.end_trace(gone.name)\n", "")
def test_caches_that_come_and_go_are_all_recorded(tmp_path: Path) -> None:
    with open_session(tmp_path, **QUIET) as lockstep:
        for _ in range(40):
            cache = lockstep.shadow(control=GrowingCache((None,)), candidate=GrowingCache((None,)))
            cache.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2), 0)
            del cache
    traces = [read_trace(path) for path in find_traces(lockstep.run_dir)]
    assert len(traces) == 40
    assert all(trace.whole and len(trace.records) == 1 for trace in traces)


def test_a_candidate_of_another_shape_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = record(_BY_NAME["crop_does_nothing"], tmp_path / "run", 20)
    for other, said in (("builtins:dict", "of another shape"), ("legacy", "can't be built by LegacyKVCache(")):
        assert main(["replay", str(run), "--candidate", other, "--out", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""A divergence becomes the shortest program that shows it, and a test that fails for the same reason."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.read.trace import find_traces, read_trace
from reports.reader import read_run
from reports.record.words import Cause, Fault
from shadow.manager import KVCacheManager
from shadow.pool import KVCachePool
from tests.guards import guards
from tests.validator.sessions import open_session
from tests.validator.trials import legacy, manager
from validator.cli import main
from validator.proof.selftest import TERRAIN
from validator.proof.shrink import Setting, Shrinker
from validator.proof.stream import LIFE_CYCLE, Player, Step, steps
from validator.replay.bodies import Body
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.replay.repro import repro
from validator.replay.shrinking import shrink_divergence, stretches

LAYOUT = (((1, 1, 1, 2), "float32", "cpu", 1),) * 2
# What the docstring of ``shadow.legacy`` names, in as many calls as a person needs.
SHORTEST = {Cause.SLOT_LEAK: 4, Cause.AGE_REFRESHED: 6, Cause.CAPACITY_EATEN: 5, Cause.REVERSE_MAP_SURVIVED: 5}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with open_session(tmp_path_factory.mktemp("recorded"), overhead_budget=0.0) as lockstep:
        cache = lockstep.shadow(control=legacy(envs=3), candidate=manager(envs=3))
        Player(cache, cache.observer).play_all(steps(0, 500, replace(TERRAIN, one_layout=True, batches=(2,))))
    return lockstep.run_dir


def test_each_quirk_of_the_legacy_store_becomes_a_test_that_fails_on_it_and_passes_on_the_manager(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shrink", str(recorded), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    found = {d.cause: d.id for d in reversed(read_run(recorded).divergences)}
    assert len(found) >= 3
    for cause, number in found.items():
        source = (tmp_path / f"test_divergence_{number:03d}.py").read_text()
        assert outcome(source, number) == "AssertionError"
        sound = source.replace("shadow.legacy", "shadow.manager").replace("LegacyKVCache", "KVCacheManager")
        assert outcome(sound, number) == "passed"
        calls = source[source.index("    cache = ") :].count("cache.")
        assert calls <= SHORTEST[cause], source
        assert f"{cause.value}, control at fault" in " ".join(source.split())
        assert f"#{number} {cause.value}, control at fault: {calls} calls in" in said


def outcome(source: str, number: int) -> str:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    try:
        namespace[f"test_divergence_{number:03d}"]()
    except Exception as error:
        return type(error).__name__
    return "passed"


@guards("validator/replay/shrinking.py", "return group in trial.causes()", "return bool(group and trial.causes())")
def test_the_shrinker_does_not_slip_to_another_cause(recorded: Path) -> None:
    run = read_run(recorded)
    program = Program(read_trace(find_traces(recorded)[0]))
    one = next(d for d in run.divergences if d.cause is Cause.CAPACITY_EATEN)
    assert shrink_divergence(program, replace(one, cause=Cause.ROUNDING), Sides(program.about), 20.0) is None
    assert shrink_divergence(program, replace(one, fault=Fault.CANDIDATE), Sides(program.about), 20.0) is None


class OneSlotLess(KVCacheManager):
    """Has one slot less than it should, and so none at all of the smallest size."""

    def __init__(self, config: Any, env_num: int) -> None:
        super().__init__(config, env_num)
        self.recur_pool = KVCachePool(self.recur_pool.pool_size - 1, name="recurrent")


@guards("validator/replay/shrinking.py", "return False  # sizes", "raise  # sizes")
def test_sizes_that_a_cache_does_not_bear_are_not_smaller_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"num_simulations": 1, "max_cache_size": 4}
    with open_session(tmp_path / "runs", overhead_budget=0.0, selftest=False) as lockstep:
        cache = lockstep.shadow(control=KVCacheManager(config, 2), candidate=OneSlotLess(config, 2))
        Player(cache, cache.observer).play_all(steps(0, 200, replace(TERRAIN, one_layout=True, batches=(2,))))

    assert main(["shrink", str(lockstep.run_dir), "--cause", "capacity off", "--out", str(tmp_path)]) == 0
    assert "candidate at fault" in capsys.readouterr().out


def test_what_does_not_come_again_is_said_with_code_5(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["shrink", str(recorded), "--divergence", "0", "--control", "new"]  # which has no such quirk
    assert main(argv) == 5
    assert "does not come again" in capsys.readouterr().out


def test_wrong_names_are_refused(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", str(recorded), "--divergence", "9999"]) == 2
    assert "holds no divergence 9999" in capsys.readouterr().err
    assert main(["shrink", str(recorded), "--cause", "rounding"]) == 2
    assert "holds no divergence of cause 'rounding'; it holds" in capsys.readouterr().err


def test_stretches_end_with_the_divergence_and_begin_with_the_shortest(recorded: Path) -> None:
    program = Program(read_trace(find_traces(recorded)[0]))
    one = [d for d in read_run(recorded).divergences if d.outcome is not None][-1]
    found = list(stretches(program, one))
    assert [len(part) for part in found] == sorted(len(part) for part in found)
    last = list(program.steps())[: len(found[-1])][-1]
    assert found[-1][-1] == last
    assert len([step for step in found[-1] if step.verb not in LIFE_CYCLE]) == one.op_index + 1


def evicts_early(program: Any, setting: Setting) -> bool:
    """Fail like a cache that drops the oldest key one set too early."""
    held: list[Any] = []
    for step in program:
        if step.verb.startswith("set"):
            fit = max(1, int(setting.config["num_simulations"]) - 1)
            held = [*(key for key in held if key != step.key), step.key][-fit:]
        elif step.key not in held and step.verb.startswith("get"):
            return True
    return False


def wide(count: int) -> list[Step]:
    sets = [Step("set_recur_cache", None, 1000 + key, Body(key, LAYOUT)) for key in range(count)]
    return [*sets, Step("get_recur_cache", None, 1000)]


@guards(
    "validator/proof/shrink.py",
    "return Setting({**dict.fromkeys(sizes, size), **kept}, env_num, sizes)",
    "return self.best.setting",
)
def test_capacities_shrink_too_so_an_eviction_takes_few_sets() -> None:
    shrinker = Shrinker(evicts_early)
    large = Setting({"num_simulations": 256, "max_cache_size": 256}, 1)
    assert shrinker.first([wide(256)], large)
    shrunk = shrinker.minimise()
    assert shrunk.setting.config["num_simulations"] <= 2
    assert len(shrunk.steps) <= 3


@guards("validator/proof/shrink.py", "            raise TimeIsUp", "            pass")
def test_when_time_is_up_the_best_so_far_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("validator.proof.shrink.time.monotonic", lambda: float(next(clock)))
    shrinker = Shrinker(lambda program, _: len(program) >= 4, seconds=12.0)
    assert shrinker.first([wide(200)], Setting({"num_simulations": 4}, 1))
    assert 4 <= len(shrinker.minimise().steps) < 200
    assert next(clock) < 20


def test_an_interrupt_leaves_the_best_so_far() -> None:
    plays = itertools.count()

    def fails(program: Any, _: Setting) -> bool:
        if next(plays) == 5:
            raise KeyboardInterrupt
        return len(program) >= 4

    shrinker = Shrinker(fails)
    assert shrinker.first([wide(200)], Setting({"num_simulations": 4}, 1))
    assert 4 <= len(shrinker.minimise().steps) < 200


@pytest.mark.parametrize("fault", ["the_host_s_own_entry_is_stored", "heads_swapped"])
def test_planted_faults_become_tests_that_pass_on_a_sound_cache(fault: str, tmp_path: Path) -> None:
    from tests.validator.replay import faulty

    if fault not in faulty._BY_NAME:
        fault = next(name for name, one in faulty._BY_NAME.items() if Cause.ALIASED_ON_SET in one.causes)
    planted = faulty._BY_NAME[fault]
    with open_session(tmp_path, overhead_budget=0.0) as lockstep:
        cache = lockstep.shadow(control=manager(envs=3), candidate=planted.make(manager(envs=3)))
        Player(cache, cache.observer).play_all(steps(0, 60, TERRAIN))
    one = next(d for d in read_run(lockstep.run_dir).divergences if d.cause in planted.causes)
    program = Program(read_trace(find_traces(lockstep.run_dir)[0]))
    sides = Sides(program.about, candidate=f"tests.validator.replay.faulty:{fault}")
    found = shrink_divergence(program, one, sides, 30.0)
    assert found is not None
    written = repro(found, sides, one, one.id, "run")
    assert (written.fails, written.passes, written.plain) == (True, True, True)
    assert written.calls <= 4

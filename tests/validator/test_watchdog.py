"""What is seen from outside of an operation: that it hangs, on which side, and that counts are told in time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reports.read.follow import Follower
from reports.reader import read_run
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.sessions import open_session
from tests.validator.trials import CONFIG, ENVS, manager

LONG_S = 30.0


class Hangs(KVCacheManager):
    """Waits in a lookup until it is told to go on, or is interrupted there."""

    def __init__(self) -> None:
        super().__init__(CONFIG, ENVS)
        self.go_on = threading.Event()
        self.is_interrupted = False

    def get_recur_cache(self, cache_key: int) -> Any:
        if self.is_interrupted:
            raise KeyboardInterrupt
        assert self.go_on.wait(LONG_S)
        return super().get_recur_cache(cache_key)


def until(holds: Any) -> Any:
    end = time.monotonic() + LONG_S
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


@guards("validator/watchdog.py", "now - began_ns >= self._stall_ns", "False")
@pytest.mark.parametrize("side", ["control", "candidate"])
def test_a_call_that_hangs_is_named_by_side_and_operation_once(
    tmp_path: Path, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs, other = Hangs(), manager()
    lockstep = open_session(tmp_path, stall_warning_s=0.1)
    cache = lockstep.shadow(**{side: hangs, "candidate" if side == "control" else "control": other}, name="mine")
    follower = Follower(lockstep.run_dir)
    actor = threading.Thread(target=cache.get_recur_cache, args=(1,))
    actor.start()
    assert until(lambda: follower.look() and follower.stalled)
    time.sleep(0.2)
    hangs.go_on.set()
    actor.join(LONG_S)
    lockstep.close()
    follower.close()

    (told,) = [line for line in read_run(lockstep.run_dir).events if line["event"] == "stalled"]
    assert told["detail"].startswith(f"mine: operation 0 hangs in the {side}'s get_recur_cache, after ")
    assert follower.stalled == told["detail"]
    assert capsys.readouterr().err.count("hangs in the") == 1


@guards("validator/watchdog.py", "now if was_elsewhere else found.began_ns or now", "found.began_ns or now")
def test_what_one_side_takes_is_not_counted_as_the_others(tmp_path: Path) -> None:
    sides = {"control": Hangs(), "candidate": Hangs()}
    lockstep = open_session(tmp_path, stall_warning_s=0.1)
    cache = lockstep.shadow(**sides, name="mine")

    def told() -> list[str]:
        return [line["detail"] for line in read_run(lockstep.run_dir).events if line["event"] == "stalled"]

    began = time.monotonic()
    actor = threading.Thread(target=cache.get_recur_cache, args=(1,))
    actor.start()
    (first,) = until(told)
    called_first = "control" if "control's" in first else "candidate"
    time.sleep(0.6)
    sides.pop(called_first).go_on.set()
    assert until(lambda: len(told()) == 2)
    taken = time.monotonic() - began
    for hangs in sides.values():
        hangs.go_on.set()
    actor.join(LONG_S)
    lockstep.close()

    (other,) = sides
    second = told()[1]
    assert f"{other}'s get_recur_cache, after " in second
    assert float(second.partition("after ")[2].split()[0]) <= taken - 0.5


def test_a_look_of_our_own_that_hangs_is_named_too(tmp_path: Path) -> None:
    go_on = threading.Event()

    class Peeks(KVCacheManager):
        def peek(self, *place: Any) -> Any:
            assert go_on.wait(LONG_S)
            return super().peek(*place)

    lockstep = open_session(tmp_path, stall_warning_s=0.2)
    cache = lockstep.shadow(control=manager(), candidate=Peeks(CONFIG, ENVS), name="mine")
    setter = threading.Thread(target=lambda: (cache.set_recur_cache(1, make_entry(1)), lockstep.weights_updated()))
    setter.start()
    assert until(lambda: read_run(lockstep.run_dir).events)
    go_on.set()
    setter.join(LONG_S)
    lockstep.close()
    assert " candidate's read, asked by kv-lockstep, after " in read_run(lockstep.run_dir).events[0]["detail"]


def test_quick_calls_are_no_stall(tmp_path: Path) -> None:
    with open_session(tmp_path, stall_warning_s=3.0, window_s=0.2) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=manager())
        for _ in range(8):
            cache.get_recur_cache(1)
            time.sleep(0.05)
    assert not read_run(lockstep.run_dir).events


@guards("validator/watchdog.py", "self._recorder.window(pair, force=False, from_outside=True)", "pass")
def test_counts_go_to_disk_within_window_s_though_nothing_is_asked_any_more(tmp_path: Path) -> None:
    lockstep = open_session(tmp_path, window_s=1.0)
    cache = lockstep.shadow(control=manager(), candidate=manager())
    cache.set_recur_cache(1, make_entry(1))
    began = time.monotonic()
    assert until(lambda: read_run(lockstep.run_dir).totals.ops)
    assert time.monotonic() - began < 15.0, "a second, on a machine that has time"
    lockstep.close()


def test_an_interrupt_names_the_side_that_it_struck(tmp_path: Path) -> None:
    hangs = Hangs()
    hangs.is_interrupted = True

    def host() -> None:
        with open_session(tmp_path) as lockstep:
            lockstep.shadow(control=manager(), candidate=hangs).get_recur_cache(1)

    with pytest.raises(KeyboardInterrupt):
        host()
    run = read_run(tmp_path / "run")
    assert run.ended.startswith("by KeyboardInterrupt, in the candidate's get_recur_cache, after ")
    (event,) = run.events
    assert "in the candidate's get_recur_cache" in event["detail"]


def test_a_session_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with open_session(tmp_path):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before

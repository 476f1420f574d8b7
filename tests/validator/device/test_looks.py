"""What comes back late: counted once, charged to its own operation, waited for nowhere but at barriers.

On a processor the same queue runs, and results are there one look later. What needs a device is at the end.
"""

from __future__ import annotations

import copy
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reports.reader import read_run
from reports.record.words import Cause, Fault, Outcome, Verdict
from shadow.entry import leaves
from shadow.interface import CacheCapacities
from shadow.legacy import LegacyKVCache
from shadow.wrapper.doors.pools import ShadowCache
from tests.guards import guards
from tests.shadow.entries import assert_equal_entries, make_entry, scribble_over
from tests.validator.device.devices import on, on_cuda, on_device
from tests.validator.sessions import WrongAt, exercise, open_session
from tests.validator.trials import CONFIG, ENVS, DictCache, charged, declared, manager, only
from tests.warm import script
from validator.config import ValidationConfig
from validator.device.looks import DeviceLooks
from validator.device.results import HostEvent
from validator.gate.judgement import judge
from validator.judge.counters import DIFFER, EQUAL
from validator.proof.faults.planted import PLANTED
from validator.proof.selftest import _judged, _places, _plant, _terrain, surroundings_kept
from validator.proof.stream import Terrain, steps
from validator.proof.trial import Trial

ROOT = Path(__file__).parents[3]


def late_trial(control: Any, candidate: Any, primary: str = "control", **settings: Any) -> Trial:
    return Trial(control, candidate, primary, ValidationConfig(deferred="always", **settings))


def looks(run: Trial) -> DeviceLooks:
    late = run.pair.looks
    assert late is not None
    return late


def counts(run: Trial) -> list[int]:
    """Outcomes over all pools, as far as they are counted."""
    return [sum(column) for column in zip(*run.pair.case.counters.lookups.values(), strict=True)]


class Wrong(DictCache):
    """Answers wrong values while ``wrong`` is set; what it stores stays right."""

    wrong = False

    def policy(self) -> Any:
        return declared()

    def _answer(self, held: Any) -> Any:
        own = held.clone()
        if self.wrong:
            leaves(own)[2].tensor[0, 1, 2, 1] += 1
        return own


class Mixed(Wrong):
    """Answers another key's entry while ``wrong`` is set."""

    def _get(self, place: Any, key: int) -> Any:
        return super()._get(place, key + self.wrong)

    def _answer(self, held: Any) -> Any:
        return held.clone()


# Lookups


def test_a_lookup_is_counted_once_and_only_when_its_result_is_here() -> None:
    run = late_trial(manager(), manager())
    run.cache.set_init_cache(0, 1, make_entry(1))
    run.cache.get_init_cache(0, 1)
    assert counts(run)[EQUAL] == 0
    run.finish()
    assert (counts(run)[EQUAL], sum(counts(run))) == (1, 1)
    assert run.pair.case.counters.coverage["lookups compared late"] == 1
    assert charged(run) == []


@guards("validator/observe/pair.py", "self.flush()\n        self.case.charge_early()\n        held", "held")
def test_a_window_waits_for_its_lookups() -> None:
    run = late_trial(manager(), manager())
    run.cache.set_init_cache(0, 1, make_entry(1))
    for _ in range(5):
        run.cache.get_init_cache(0, 1)
    window = run.pair.drain(1.0)
    assert window.lookups == {"init": {"both_hit_equal": 5}}
    assert window.ops == {"get.init": 5, "set.init": 1}


@guards("validator/device/looks.py", "DIFFER if any(compared.counts) else EQUAL", "EQUAL")
def test_a_difference_found_late_is_charged_to_the_operation_that_showed_it() -> None:
    candidate = Wrong()
    run = late_trial(manager(), candidate)
    run.cache.set_init_cache(1, 7, make_entry(1))
    run.cache.get_init_cache(1, 7)
    candidate.wrong = True
    run.cache.get_init_cache(1, 7)  # operation 2
    candidate.wrong = False
    for _ in range(3):
        run.cache.get_init_cache(1, 7)
    assert run.divergences == []
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.UNKNOWN, Fault.CANDIDATE)
    assert charge.explanation == (
        "The candidate (Wrong) answers values that were never stored; the result came from the device after the "
        "operation, and its tensors are gone."
    )
    assert (charge.op_index, charge.operation, charge.env_id, charge.key) == (2, "get.init", 1, f"{7:016x}")
    assert charge.outcome is Outcome.BOTH_HIT_DIFFER
    (leaf,) = charge.leaves
    assert (leaf.layer, leaf.part, leaf.rung, leaf.n_elements, leaf.n_mismatched) == (1, "K", "bits", 12, 1)
    assert (counts(run)[EQUAL], counts(run)[DIFFER], sum(counts(run))) == (4, 1, 5)


@guards("validator/device/looks.py", "            self._escalate(place.op_index)\n", "")
def test_after_a_late_difference_every_lookup_is_compared_at_once() -> None:
    candidate = Wrong()
    events: list[tuple[str, str]] = []
    run = late_trial(manager(), candidate)
    run.event = lambda name, detail="": events.append((name, detail))  # type: ignore[method-assign]
    run.cache.set_init_cache(0, 1, make_entry(1))
    candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    candidate.wrong = False
    run.pair.audit()
    candidate.wrong = True
    assert not looks(run).active
    assert events == [
        (
            "deferred_comparison_ended",
            "trial: a difference of operation 1 was found late; every lookup is compared at once from here on, with "
            "its tensors as evidence",
        )
    ]
    run.cache.get_init_cache(0, 1)
    assert charged(run) == [(Cause.UNKNOWN, Fault.CANDIDATE), (Cause.CORRUPTED, Fault.CANDIDATE)]
    assert run.divergences[1].leaves[0].max_abs_diff == 1.0
    assert counts(run)[DIFFER] == 2


def test_hashes_name_the_entry_that_was_answered_instead() -> None:
    candidate = Mixed()
    run = late_trial(manager(), candidate)
    for key in (1, 2):
        run.cache.set_init_cache(0, key, make_entry(key))
    candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    candidate.wrong = False
    run.finish()
    assert charged(run) == [(Cause.OTHER_KEY, Fault.CANDIDATE)]
    assert "the entry of key 0000000000000002" in run.divergences[0].explanation


def test_the_control_is_charged_where_the_control_is_wrong() -> None:
    control = Wrong()
    run = late_trial(control, manager(), "candidate")
    run.cache.set_init_cache(0, 1, make_entry(1))
    control.wrong = True
    run.cache.get_init_cache(0, 1)
    run.finish()
    assert only(run).fault is Fault.CONTROL


@guards(
    "validator/device/looks.py",
    "if (hashes := compared.hashes(index)) != stored.digest.contents:",
    "if (hashes := compared.hashes(index)) is None:",
)
def test_agreement_on_what_nobody_stored_is_charged_to_both() -> None:
    control, candidate = Wrong(), Wrong()
    run = late_trial(control, candidate)
    run.cache.set_init_cache(0, 1, make_entry(1))
    control.wrong = candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    run.pair.drain(1.0)
    assert only(run).fault is Fault.BOTH
    assert counts(run)[DIFFER] == 0  # drained: the sides agreed


def test_without_digests_a_late_difference_is_charged_to_nobody() -> None:
    candidate = Wrong()
    run = late_trial(manager(), candidate, digest_share=0.0)
    run.cache.set_init_cache(0, 1, make_entry(1))
    candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    candidate.wrong = False
    run.finish()
    assert only(run).fault is Fault.UNKNOWN


@guards("validator/device/looks.py", "if now is not None and side.digest(now) == found:", "if False:")
def test_what_still_lies_there_is_read_and_named_in_full() -> None:
    candidate = manager()
    run = late_trial(manager(), candidate)
    run.cache.set_init_cache(0, 1, make_entry(1))
    run.pair.drain(1.0)
    for tensor, size in leaves(candidate.peek("init", 0, 1)):
        tensor[:, :, :size] = tensor[:, :, :size].flip(2)
    run.cache.get_init_cache(0, 1)
    run.pair.drain(2.0)
    assert charged(run) == [(Cause.TOKENS_PERMUTED, Fault.CANDIDATE)]
    assert run.divergences[0].op_index == 1
    assert_equal_entries(candidate.peek("init", 0, 1), make_entry(1))  # mended


def test_entries_are_compared_as_they_were_when_they_were_looked_up() -> None:
    class Live(Wrong):
        """Hands out what it stores, as the legacy store does."""

        def policy(self) -> Any:
            return declared(live_results=True)

        def _answer(self, held: Any) -> Any:
            return held

    run = late_trial(Live(), Live())
    run.cache.set_init_cache(0, 1, make_entry(1))
    run.cache.get_init_cache(0, 1)
    for side in (
        run.pair.case.control,
        run.pair.case.candidate,
    ):  # behind the harness's back, before the result is back
        scribble_over(side.cache.pools["init", 0][1])
    run.pair.drain(1.0)
    assert [charge for charge in run.divergences if charge.cause is not Cause.ALIASED_ON_GET] == []


@guards("validator/observe/lookups.py", "self._looks.flush()\n            one, other", "one, other")
def test_a_presence_fault_is_judged_at_once_after_what_was_under_way() -> None:
    candidate = Wrong()
    run = late_trial(manager(), candidate)
    for key in (1, 2):
        run.cache.set_init_cache(0, key, make_entry(key))
    candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    del candidate.pools["init", 0][2]
    run.cache.get_init_cache(0, 2)
    assert [divergence.op_index for divergence in run.divergences] == [2, 3]
    assert charged(run)[1] == (Cause.SET_IGNORED, Fault.CANDIDATE)


@guards("validator/device/looks.py", " or mine.layout is not theirs.layout or mine.size != theirs.size", "")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda cache: setattr(cache, "_size", cache._size - 1), Cause.LENGTH_OFF),
        (lambda cache: setattr(cache, "_cache", cache._cache.double()), Cause.DTYPE_DRIFT),
        (lambda cache: setattr(cache, "_cache", cache._cache[:, :1]), Cause.SHAPE_OFF),
    ],
    ids=["length", "dtype", "shape"],
)
def test_another_structure_is_judged_at_once(change: Any, cause: Cause) -> None:
    class Other(Wrong):
        def _answer(self, held: Any) -> Any:
            own = held.clone()
            if self.wrong:
                for layer in own:
                    change(layer._k_cache)
                    change(layer._v_cache)
            return own

    candidate = Other()
    run = late_trial(manager(), candidate)
    run.cache.set_init_cache(0, 1, make_entry(1))
    candidate.wrong = True
    run.cache.get_init_cache(0, 1)
    assert charged(run) == [(cause, Fault.CANDIDATE)]
    assert counts(run)[DIFFER] == 1


def test_a_tolerance_needs_the_tensors_so_lookups_are_compared_at_once() -> None:
    run = late_trial(manager(), manager(), rtol=1e-3, atol=0.0)
    run.cache.set_init_cache(0, 1, make_entry(1))
    run.cache.get_init_cache(0, 1)
    assert counts(run)[EQUAL] == 1


@guards("validator/device/looks.py", "if given != stored.digest.contents:", "if False:")
def test_an_input_that_a_side_edits_is_found_late() -> None:
    class Edits(Wrong):
        def _store(self, kv_cache: Any) -> Any:
            own = kv_cache.clone()
            scribble_over(kv_cache)
            return own

    run = late_trial(manager(), Edits())
    run.cache.set_init_cache(0, 1, make_entry(1))
    assert run.divergences == []
    run.finish()
    assert charged(run)[0] == (Cause.INPUT_EDITED, Fault.CANDIDATE)


@guards("validator/device/looks.py", "+= self._lookups", "+= 0")
def test_a_device_that_fails_leaves_its_lookups_uncompared_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_trial(manager(), manager())
    run.cache.set_init_cache(0, 1, make_entry(1))
    for _ in range(3):
        run.cache.get_init_cache(0, 1)

    def fail(self: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(HostEvent, "synchronize", fail)
    window = run.pair.drain(1.0)
    assert window.dropped == {"harness faults": 1, "lookups never compared": 3}
    assert window.lookups == {}


def test_deep_copies_look_late_as_well() -> None:
    run = late_trial(manager(), manager())
    run.cache.set_init_cache(0, 1, make_entry(1))
    forks: list[Any] = []
    fork, run.fork = run.fork, lambda *args: forks.append(fork(*args)) or forks[-1]  # type: ignore[method-assign]
    twin: ShadowCache = copy.deepcopy(run.cache)
    twin.get_init_cache(0, 1)
    window = forks[0].drain(1.0)
    assert window.coverage["lookups compared late"] == 1
    assert charged(run) == []


# Planted faults


@pytest.mark.parametrize("number", range(0, len(PLANTED), 9), ids=lambda number: PLANTED[number].name)
def test_planted_faults_are_noticed_and_charged_to_nobody_innocent(number: int) -> None:
    fault = PLANTED[number]
    places = list(_places(True, fault))
    where, primary = places[number // 9 % len(places)]
    with surroundings_kept():
        made = _plant(fault, where, primary)
        run = late_trial(made.pair.case.control.cache, made.pair.case.candidate.cache, primary)
        run.play(steps(0, 400, _terrain(fault, where)))
        run.finish()
    assert run.failures == []
    found = _judged(fault, where, primary, run)
    assert found.detected, found
    assert found.side_right, found.named


def test_sound_pairs_stay_silent_and_every_lookup_is_counted() -> None:
    terrain = Terrain(ENVS, CacheCapacities.from_config(CONFIG, ENVS))
    for primary in ("control", "candidate"):
        late, plain = late_trial(manager(), manager(), primary), Trial(manager(), manager(), primary)
        for run in (late, plain):
            run.play(steps(3, 300, terrain))
            run.finish()
            assert charged(run) == []
        assert counts(late) == counts(plain)
        assert late.pair.case.counters.ops == plain.pair.case.counters.ops
        assert late.pair.case.counters.coverage["lookups compared late"] > 25


# Nothing waits


class Waits(RuntimeError):
    """A call that would wait for a device."""


class NoWaiting(TorchDispatchMode):
    """Refuses whatever brings values of a tensor to the host."""

    FORBIDDEN = ("_local_scalar_dense", "equal", "nonzero", "item", "is_nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.FORBIDDEN or (name == "_to_copy" and "device" in (kwargs or {})):
            raise Waits(name)
        return func(*args, **(kwargs or {}))


def production(cache: Any, made: Callable[[int], Any], searches: int, first: int = 0) -> int:
    """Play searches as a host does; return the operations."""
    done = 0
    for search in range(first, first + searches):
        for env_id in range(ENVS):
            cache.set_init_cache(env_id, search, made(search))
        cache.clear_recur_cache()
        for node in range(4):
            cache.hierarchical_get(node % ENVS, search if node < ENVS else 100 * search + node - 1)
            cache.set_recur_cache(100 * search + node, made(node))
        done += ENVS + 1 + 8
    return done


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Make waiting for a result, and reading a tensor's value, a fault of the harness."""

    def refuse(self: Any) -> None:
        raise Waits("synchronize")

    with pytest.MonkeyPatch.context() as patch, NoWaiting():
        patch.setattr(HostEvent, "synchronize", refuse)
        yield


@guards("validator/entries/digest.py", "if type(contents) is tuple:", "if True:")
def test_operations_wait_for_nothing() -> None:
    run = late_trial(manager(), manager())
    production(run.cache, make_entry, 24)  # the first audits are waited for, and the process's state is looked at
    with waiting_refused():
        production(run.cache, make_entry, 12, first=24)
        for number in range(8):
            run.cache.set_recur_cache(7, make_entry(number))
    assert run.failures == []
    run.finish()
    assert charged(run) == []
    assert run.pair.case.counters.coverage["lookups compared late"] == 4 * 36


@guards(
    "validator/observe/handed_out.py", "if primary.shows_nothing(stored.pool, stored.env_id, stored.key):", "if False:"
)
def test_a_side_that_can_be_looked_into_is_asked_nothing_but_what_the_host_asks() -> None:
    class Asked(LegacyKVCache):
        asked = 0

        def get_recur_cache(self, cache_key: int) -> Any:
            self.asked += 1
            return super().get_recur_cache(cache_key)

    control = Asked(CONFIG, ENVS)
    run = late_trial(control, manager())
    for search in range(4):  # what was answered in one is watched in the next, and gone from the store
        for key in range(3):
            run.cache.set_recur_cache(10 * search + key, make_entry(key))
            assert run.cache.get_recur_cache(10 * search + key) is not None
        run.cache.clear_recur_cache()
    assert control.asked == 12
    assert charged(run) == []


def test_waiting_in_an_operation_would_be_noticed() -> None:
    run = late_trial(manager(), manager())
    production(run.cache, make_entry, 24)
    looks(run).active = False  # the immediate way
    with waiting_refused():
        production(run.cache, make_entry, 1, first=24)
        with pytest.raises(Waits, match="local_scalar_dense"):
            bool(torch.zeros(1).any())
        with pytest.raises(Waits, match="equal"):
            torch.equal(torch.zeros(1), torch.zeros(1))
    assert {type(fault) for fault in run.failures} == {Waits}


def test_nothing_of_a_compared_entry_is_held() -> None:
    import weakref

    run = late_trial(Wrong(), Wrong())
    for number in range(80):  # past the answers that are all watched
        run.cache.set_recur_cache(number, make_entry(number))
        run.cache.get_recur_cache(number)
    run.pair.drain(1.0)
    for number in range(80, 84):
        run.cache.set_recur_cache(number, make_entry(number))
        answer = weakref.ref(leaves(run.cache.get_recur_cache(number))[0].tensor)
        assert answer() is None
    assert looks(run)._queue.pending


def test_modes_of_the_host_do_not_matter() -> None:
    run = late_trial(manager(), manager())
    for number in range(40):
        with torch.inference_mode(bool(number % 2)), torch.set_grad_enabled(number % 3 == 0):
            made = make_entry(number)
            if not torch.is_inference_mode_enabled():
                leaves(made)[0].tensor.requires_grad_()
            run.cache.set_recur_cache(number, made)
            run.cache.get_recur_cache(number)
            if number % 7 == 0:
                run.pair.audit()
    run.finish()
    assert charged(run) == []
    assert counts(run)[EQUAL] == 40


# Whole runs


def test_the_setting_is_one_of_three_words() -> None:
    with pytest.raises(ValueError, match="deferred"):
        ValidationConfig.from_mapping({"deferred": "sometimes"})


def test_a_killed_process_leaves_what_was_under_way_uncompared(tmp_path: Path) -> None:
    code = f"""
import os, signal
from tests.shadow.entries import make_entry
from tests.validator.sessions import exercise
from tests.validator.trials import manager
from validator.config import ValidationConfig
from validator.session import Lockstep
config = ValidationConfig(run_id="run", selftest=False, window_s=0.0, deferred="always")
lockstep = Lockstep({str(tmp_path)!r}, config)
cache = lockstep.shadow(control=manager(), candidate=manager())
exercise(lockstep, cache)
lockstep.recorder.window(lockstep.pairs[0], force=True)
for _ in range(5):
    cache.set_init_cache(0, 99, make_entry(99))
    cache.get_init_cache(0, 99)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = script(code, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = read_run(tmp_path / "run")
    assert (run.state, run.totals.outcomes()["both_hit_equal"]) == ("crashed", 24)
    assert judge([run]).verdict is Verdict.INCONCLUSIVE


def test_a_session_says_when_it_stopped_comparing_late(tmp_path: Path) -> None:
    with open_session(tmp_path, deferred="always") as lockstep:
        exercise(lockstep, lockstep.shadow(control=manager(), candidate=WrongAt(30)))
    run = read_run(lockstep.run_dir)
    assert run.problems == []
    assert lockstep.verdict.verdict is Verdict.FAIL
    assert "deferred_comparison_ended" in (lockstep.run_dir / "rank-0000.jsonl").read_text()
    assert run.totals.n_lookups == 24


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium", reason="the embedded host's environment is not installed")
    from shadow.hosts.unizero import load_config, train

    def config(**world_model: Any) -> Any:
        return load_config(ROOT / "configs" / "smoke.toml", total_env_steps=40, world_model_cfg=world_model)

    alone = train(config(cache_validation_mode=False))
    with open_session(tmp_path, deferred="always") as lockstep:
        watched = train(config(cache_validation_mode=True), validation=lockstep)
    assert watched.weights_digest == alone.weights_digest
    assert watched.actions_digest == alone.actions_digest
    assert watched.losses == alone.losses
    run = read_run(lockstep.run_dir)
    assert (run.totals.n_divergences, run.totals.dropped) == (0, {})
    assert run.totals.coverage["lookups compared late"] == run.totals.outcomes()["both_hit_equal"] > 100


# On a device


@contextmanager
def no_synchronisation() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the mode is a prototype
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


@on_cuda
def test_cuda_operations_do_not_synchronise() -> None:
    run = Trial(manager(), manager())
    made = [on_device(number) for number in range(64)]
    production(run.cache, made.__getitem__, 4)
    with no_synchronisation():
        production(run.cache, made.__getitem__, 12, first=4)
    assert run.failures == []
    run.finish()
    assert charged(run) == []
    assert run.pair.case.counters.coverage["lookups compared late"] == 4 * 16


@on_cuda
def test_cuda_later_writes_do_not_race_with_the_comparison() -> None:
    run = Trial(manager(), manager())
    scratch = on_device(0)
    for number in range(200):
        for layer in scratch:
            for cache in (layer._k_cache, layer._v_cache):
                cache._cache.fill_(float(number))
        run.cache.set_recur_cache(number, scratch)
        scribble_over(run.cache.get_recur_cache(number))
    run.finish()
    assert charged(run) == []
    assert counts(run)[EQUAL] == 200


@on_cuda
def test_cuda_a_difference_found_late_names_its_operation() -> None:
    candidate = Wrong()
    run = Trial(manager(), candidate)
    run.cache.set_init_cache(1, 7, on_device(1))
    run.cache.get_init_cache(1, 7)
    candidate.wrong = True
    run.cache.get_init_cache(1, 7)
    candidate.wrong = False
    run.cache.get_init_cache(1, 7)
    run.finish()
    assert only(run).fault is Fault.CANDIDATE
    assert run.divergences[0].op_index == 2
    assert only(run).leaves[0].control == "float32 (1, 2, 4, 2) on cuda:0, 3 valid"


@on_cuda
def test_cuda_an_entry_that_comes_back_on_another_device_has_drifted() -> None:
    class Moves(Wrong):
        def _answer(self, held: Any) -> Any:
            return on(held.clone(), "cpu")

    run = Trial(manager(), Moves())
    run.cache.set_init_cache(0, 1, on_device(1))
    run.cache.get_init_cache(0, 1)
    assert (Cause.DEVICE_DRIFT, Fault.CANDIDATE) in charged(run)


@on_cuda
def test_cuda_times_come_from_events() -> None:
    class Slow(Wrong):
        def _get(self, place: Any, key: int) -> Any:
            torch.cuda._sleep(20_000_000)  # about 10 ms on the device, nothing on the host
            return super()._get(place, key)

    run = Trial(manager(), Slow())
    run.cache.set_init_cache(0, 1, on_device(1))
    for _ in range(300):  # past the calls around which the process's state is looked at
        run.cache.get_init_cache(0, 1)
    window = run.pair.drain(1.0)
    from reports.record.histogram import percentile

    slow, fast = (percentile(window.latency_ns[f"{side}.get.init"], 0.5) for side in ("candidate", "control"))
    assert slow is not None
    assert fast is not None
    assert slow > 3e6 > fast


@on_cuda
def test_cuda_several_streams_are_told_apart() -> None:
    run = Trial(manager(), manager())
    streams = [torch.cuda.Stream() for _ in range(3)]
    made = [on_device(number) for number in range(16)]
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
    for number in range(240):
        with torch.cuda.stream(streams[number % 3]):
            run.cache.set_init_cache(number % ENVS, number, made[number % 16])
            run.cache.get_init_cache(number % ENVS, number)
    run.finish()
    assert charged(run) == []
    assert counts(run)[EQUAL] == 240


@on_cuda
def test_cuda_never_and_tolerance_compare_at_once() -> None:
    for settings in ({"deferred": "never"}, {"rtol": 1e-3, "atol": 0.0}):
        run = Trial(manager(), manager(), config=ValidationConfig(**settings))  # type: ignore[arg-type]
        run.cache.set_init_cache(0, 1, on_device(1))
        run.cache.get_init_cache(0, 1)
        assert counts(run)[EQUAL] == 1
        run.finish()
        assert charged(run) == []

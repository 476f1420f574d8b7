"""The inline store under validation: every dict access counted, the model served by its own objects, faults named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from reports.reader import read_run
from reports.record.run import Run
from reports.record.words import Cause, Fault
from shadow import KVCacheManager
from shadow.hosts.lightzero import LightZeroMismatch
from shadow.hosts.lightzero.inline import InlineStore
from shadow.hosts.lightzero.installation import Installation
from tests.shadow.entries import make_entry
from tests.shadow.hosts.lightzero.fakes import MainLegacy, Release020, deep_copier
from validator.session import Lockstep, open_from_settings

FAKES = (Release020, MainLegacy)


@pytest.fixture(autouse=True, params=["auto", "always"])
def deferred(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare at once, and as for entries on a device: the model must not meet the difference."""
    monkeypatch.setattr(Watched, "deferred", request.param)


class Faulty(KVCacheManager):
    """Answers the entry of the key before."""

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        return super().get_init_cache(env_id, cache_key - 1) or super().get_init_cache(env_id, cache_key)

    def hierarchical_get(self, env_id: int, cache_key: int) -> Any:
        return super().hierarchical_get(env_id, cache_key)


class Watched:
    """A model, its installation and what was recorded of it."""

    deferred = "auto"

    def __init__(self, tmp_path: Path, cls: Any, attach: bool = True, **switches: Any) -> None:
        switches.setdefault("cache_validation", {"out": str(tmp_path / "runs"), "deferred": self.deferred})
        self.installation = Installation(open_from_settings, force=True)
        self.model: Any = cls(**switches)
        self.plain: Any = cls(**switches)
        if attach:
            self.installation.attach(self.model)

    @property
    def session(self) -> Lockstep:
        assert isinstance(self.installation.validation, Lockstep)
        return self.installation.validation

    def closed(self) -> Run:
        self.session.close()
        return read_run(self.session.run_dir)


def search(model: Any, first: int = 10) -> None:
    """Play three searches of two envs: 4 root lookups, 6 in the search for roots, 6 for nodes."""
    asked: list[int | None] = [None, None]
    for step in range(3):
        roots = [first + 100 * step, first + 100 * step + 50]
        model.forward_initial_inference(asked, roots)
        model.retrieve_or_generate_kvcache(roots)
        nodes = [root + 1 for root in roots]
        for node in nodes:
            model.store_node(node)
        model.retrieve_or_generate_kvcache(nodes)
        asked = [*roots]


@pytest.mark.parametrize("cls", FAKES)
def test_every_lookup_is_compared_and_agrees(tmp_path: Path, cls: Any) -> None:
    watched = Watched(tmp_path, cls)

    search(watched.model)

    run = watched.closed()
    assert run.divergences == []
    assert run.totals.lookups["init"]["both_hit_equal"] == 4
    assert run.totals.lookups["hierarchical"]["both_hit_equal"] == 12
    assert "get.recur" not in run.totals.ops  # the search's second question belongs to its first
    assert run.totals.ops["set.init"] == 6
    assert run.totals.ops["set.recur"] == 6
    assert run.totals.ops["clear.recur"] == 3
    assert run.totals.coverage["searches"] == 3
    assert not run.totals.dropped


@pytest.mark.parametrize("cls", FAKES)
def test_the_model_reads_its_own_slot_objects_and_its_dicts_look_as_ever(tmp_path: Path, cls: Any) -> None:
    watched = Watched(tmp_path, cls)

    search(watched.model)
    search(watched.plain)

    slots = [slot for pool in watched.model.shared_pool_init_infer for slot in pool]
    slots += watched.model.shared_pool_recur_infer
    assert len(watched.model.answers) == len(watched.plain.answers) == 16
    assert None not in watched.model.answers
    assert all(any(answer is slot for slot in slots) for answer in watched.model.answers)
    for ours, plain in zip(
        watched.model.past_kv_cache_init_infer_envs, watched.plain.past_kv_cache_init_infer_envs, strict=True
    ):
        assert dict(ours) == plain
        assert len(ours) == len(plain)
    assert dict(watched.model.past_kv_cache_recurrent_infer) == watched.plain.past_kv_cache_recurrent_infer
    assert watched.model.shared_pool_index == watched.plain.shared_pool_index


def test_a_recurrent_miss_raises_as_in_the_release_and_is_named(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Release020)

    with pytest.raises(TypeError) as ours:
        watched.model.retrieve_or_generate_kvcache([7])
    with pytest.raises(TypeError) as plain:
        watched.plain.retrieve_or_generate_kvcache([7])

    assert str(ours.value) == str(plain.value)
    (found,) = watched.closed().divergences
    assert (found.cause, found.fault) == (Cause.RAISED, Fault.CONTROL)


@pytest.mark.parametrize("root", [7, 8], ids=["found", "missing"])
def test_the_harness_meets_no_exception_when_it_looks_for_a_node(tmp_path: Path, root: int) -> None:
    watched = Watched(tmp_path, Release020)
    model = watched.model
    model.store_root(0, 7)

    model.past_kv_cache_init_infer_envs[0].get(model.key(root))

    (pair,) = watched.session.pairs
    assert pair.case.control.cache.get_recur_cache(9) is None

    model.retrieve_or_generate_kvcache([7])

    assert pair.case.control.cache.get_recur_cache(9) is None


def test_a_recurrent_miss_is_a_miss_where_the_model_says_so(tmp_path: Path) -> None:
    watched = Watched(tmp_path, MainLegacy)

    watched.model.retrieve_or_generate_kvcache([7])

    assert watched.model.answers == [None]
    run = watched.closed()
    assert run.totals.lookups["hierarchical"]["both_miss"] == 1
    assert run.divergences == []


@pytest.mark.parametrize("cls", FAKES)
def test_a_root_s_miss_does_not_answer_for_a_node_of_the_same_key(tmp_path: Path, cls: Any) -> None:
    watched = Watched(tmp_path, cls)
    model = watched.model
    model.store_node(7)

    assert model.past_kv_cache_init_infer_envs[0].get(model.key(7)) is None
    assert model.past_kv_cache_recurrent_infer.get(model.key(7)) == 0

    run = watched.closed()
    assert run.totals.lookups["init"]["both_miss"] == 1
    assert run.totals.lookups["recur"]["both_hit_equal"] == 1


def test_what_a_search_stored_in_between_is_found(tmp_path: Path) -> None:
    class StoresInBetween(MainLegacy):
        def retrieve_or_generate_kvcache(self, numbers: list[int]) -> None:
            assert self.past_kv_cache_init_infer_envs[0].get(numbers[0]) is None
            self.store_node(numbers[0])
            self.answers.append(self.past_kv_cache_recurrent_infer.get(numbers[0]))

    watched = Watched(tmp_path, StoresInBetween)

    watched.model.retrieve_or_generate_kvcache([7])

    assert watched.model.answers == [0]
    assert watched.closed().totals.lookups["recur"]["both_hit_equal"] == 1


def test_a_dict_that_outlives_its_ring_is_named_in_the_release_and_absent_from_main(tmp_path: Path) -> None:
    causes = []
    for cls in FAKES:
        watched = Watched(tmp_path / cls.__name__, cls)
        for number in (1, 2, 3):
            watched.model.store_root(0, number)
        watched.model.forward_initial_inference([1], [])
        causes.append([d.cause for d in watched.closed().divergences])

    assert causes == [[Cause.DICT_OUTLIVES_RING], []]


@pytest.mark.parametrize("cls", FAKES)
def test_a_wrong_candidate_fails_and_the_model_never_meets_it(tmp_path: Path, cls: Any) -> None:
    settings = {"out": str(tmp_path / "runs"), "candidate": f"{__name__}:Faulty"}
    watched = Watched(tmp_path, cls, cache_validation=settings)
    watched.model.store_root(0, 10)
    watched.model.store_root(0, 11)

    watched.model.forward_initial_inference([11], [])

    assert watched.model.answers[0] is watched.model.shared_pool_init_infer[0][1]
    (found,) = watched.closed().divergences
    assert (found.cause, found.fault) == (Cause.OTHER_KEY, Fault.CANDIDATE)


@pytest.mark.parametrize("cls", FAKES)
def test_in_the_canary_stage_the_model_reads_the_candidates_entries(tmp_path: Path, cls: Any) -> None:
    watched = Watched(tmp_path, cls, use_new_cache_manager=True)

    search(watched.model)
    watched.model.retrieve_or_generate_kvcache([999])

    slots = [slot for pool in watched.model.shared_pool_init_infer for slot in pool]
    assert watched.model.answers[-1] is None
    assert not any(answer is slot for answer in watched.model.answers[:-1] for slot in slots)
    run = watched.closed()
    assert run.totals.lookups["init"]["both_hit_equal"] == 4
    assert [d.cause for d in run.divergences] == ([Cause.RAISED] if cls is Release020 else [])


def test_a_copy_has_a_recorder_of_its_own_once_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(tmp_path, Release020)
    deep_copier(watched.installation, Release020, monkeypatch)

    target = copy.deepcopy(watched.model)
    target.clear_caches()
    pairs_of_an_unused_copy = [pair.case.name for pair in watched.session.pairs]
    search(target)
    search(watched.model)

    run = watched.closed()
    assert pairs_of_an_unused_copy == ["collect+eval"]
    assert [line["cache"] for line in run.caches] == ["collect+eval", "target"]
    assert sum(window.ops.get("get.init", 0) for window in run.windows if window.cache == "target") == 4
    assert run.totals.lookups["init"]["both_hit_equal"] == 8
    assert run.divergences == []


def test_a_copy_made_in_the_middle_knows_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(tmp_path, Release020)
    deep_copier(watched.installation, Release020, monkeypatch)
    watched.model.store_root(0, 1)

    target = copy.deepcopy(watched.model)
    target.forward_initial_inference([1], [])
    watched.model.forward_initial_inference([1], [])

    run = watched.closed()
    assert target.answers[0] is target.shared_pool_init_infer[0][0]
    assert target.shared_pool_init_infer[0][0] is not watched.model.shared_pool_init_infer[0][0]
    assert run.totals.lookups["init"]["both_hit_equal"] == 2
    assert run.divergences == []


def test_a_copy_that_no_dict_is_told_of_is_made_and_said(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Release020)
    model = watched.model

    slot = model.custom_copy_kv_cache_to_shared_recur(make_entry(1))
    assert int(slot) == 0
    model.custom_copy_kv_cache_to_shared_recur(make_entry(1))
    model.past_kv_cache_recurrent_infer.clear()

    assert model.shared_pool_index == 2
    assert watched.closed().totals.dropped["harness faults"] == 2


def test_a_slot_number_from_elsewhere_is_entered_and_said(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Release020)

    watched.model.past_kv_cache_recurrent_infer["00000000000000ff"] = 3

    assert watched.model.past_kv_cache_recurrent_infer.raw == {"00000000000000ff": 3}
    assert watched.closed().totals.dropped["harness faults"] == 1


@pytest.mark.parametrize("key", ["00000000000000FF", "0x000000000000ff", "000000000000_0ff", "ff", "no hex digits at"])
def test_a_text_that_is_no_key_of_lightzero_s_is_looked_up_as_it_is_and_said(tmp_path: Path, key: str) -> None:
    watched = Watched(tmp_path, Release020)
    watched.model.past_kv_cache_recurrent_infer.raw[key] = 3

    assert watched.model.past_kv_cache_recurrent_infer.get(key) == 3

    del watched.model.past_kv_cache_recurrent_infer.raw[key]
    assert watched.closed().totals.dropped["harness faults"] == 1


def test_replaced_dicts_are_noticed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Release020)
    watched.model.past_kv_cache_recurrent_infer = {}

    search(watched.model)
    search(watched.plain)

    assert len(watched.model.answers) == len(watched.plain.answers)
    assert watched.closed().totals.dropped["harness faults"] == 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda model: delattr(model, "shared_pool_recur_infer"), "a list shared_pool_recur_infer"),
        (lambda model: setattr(model, "past_kv_cache_recurrent_infer", []), "a dict past_kv_cache_recurrent_infer"),
        (lambda model: model.shared_pool_init_infer.pop(), "one dict and one pool per env"),
        (lambda model: setattr(model, "custom_copy_kv_cache_to_shared_recur", None), "a method custom_copy_kv"),
        (lambda model: setattr(model, "shared_pool_recur_infer", []), "pools with at least one slot"),
    ],
)
def test_a_store_of_another_shape_is_refused_by_name(tmp_path: Path, spoil: Any, named: str) -> None:
    watched = Watched(tmp_path, Release020, attach=False)
    spoil(watched.model)

    with pytest.raises(LightZeroMismatch, match=r"kv-lockstep does not know this LightZero: .*Release020") as refused:
        watched.installation.attach(watched.model)

    assert named in str(refused.value)
    assert watched.installation.validation is None


def test_the_candidate_has_the_sizes_that_the_control_really_has(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Release020, max_cache_size=5000)

    (line,) = watched.closed().caches

    assert line["policy"]["control"]["kind"] == "legacy_dict"
    assert line["policy"]["candidate"]["capacities"] == {"init": 2, "recur": 8, "wm": 2}
    assert line["policy"]["control"]["capacities"] == line["policy"]["candidate"]["capacities"]
    assert line["assumed"] == []


def test_a_store_that_would_not_be_used_is_refused(tmp_path: Path) -> None:
    settings = {"out": str(tmp_path), "control": "new", "candidate": "new"}

    with pytest.raises(ValueError, match="one of them has to be 'legacy'"):
        Watched(tmp_path, Release020, cache_validation=settings)


def test_without_the_flag_a_model_is_left_alone(tmp_path: Path) -> None:
    installation = Installation(open_from_settings, force=False)

    assert not installation.wants(Release020())
    assert installation.wants(Release020(cache_validation_mode=True))


@pytest.mark.parametrize("cls", FAKES)
def test_a_repair_by_the_session_stores_as_the_host_does(cls: Any) -> None:
    model, twin = cls(), cls()
    store = InlineStore(model)
    store.text_keys = cls is Release020
    for number in (1, 2, 3):
        store.set_init_cache(0, number, make_entry(number))
        store.set_recur_cache(number, make_entry(number))
        twin.store_root(0, number)
        twin.store_node(number)

    assert model.past_kv_cache_init_infer_envs == twin.past_kv_cache_init_infer_envs
    assert model.past_kv_cache_recurrent_infer == twin.past_kv_cache_recurrent_infer
    assert getattr(model, "pool_idx_to_key_map_init_envs", 0) == getattr(twin, "pool_idx_to_key_map_init_envs", 0)
    for pool in ("init", "recur"):
        keys = store.live_keys(pool, 0)
        held = [number for number in (1, 2, 3) if store.peek(pool, 0, number) is not None]
        assert (list(keys), len(keys), 3 in keys, 9 in keys) == (held, len(held), True, False)
    assert len(store.live_keys("wm")) == 0

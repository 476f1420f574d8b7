"""The two switches: which cache runs, whose answers the model receives, and how to go back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from shadow import switch
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.switch import build_cache, implementation
from tests.shadow.entries import assert_equal_entries, make_entry

SMALL = {"num_simulations": 3, "max_cache_size": 4}


class Recording:
    """Stands in for a validation session: keeps what it was asked to shadow, answers with the primary itself."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def shadow(self, **asked: Any) -> Any:
        self.asked.append(asked)
        return asked[asked["primary"]]

    def weights_updated(self) -> None: ...

    def episode_ended(self, env_id: int) -> None: ...

    def search_started(self) -> None: ...

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None: ...


class ThirdCache(KVCacheManager):
    """A cache of somebody else, named by ``tests.shadow.test_switch:ThirdCache``."""


THIRD = f"{__name__}:ThirdCache"
NOT_A_CLASS = 3
FORM = "no full module name before, or no class after, a colon"


def config(**switches: Any) -> dict[str, Any]:
    return {**SMALL, **switches}


# Which system is built


@pytest.mark.parametrize(
    ("switches", "cache_type"),
    [
        ({}, LegacyKVCache),
        ({"use_new_cache_manager": False}, LegacyKVCache),
        ({"use_new_cache_manager": False, "cache_validation_mode": False}, LegacyKVCache),
        ({"use_new_cache_manager": True}, KVCacheManager),
        ({"use_new_cache_manager": True, "cache_validation_mode": False}, KVCacheManager),
    ],
)
def test_without_validation_the_switch_alone_decides(switches: dict[str, bool], cache_type: type) -> None:
    session = Recording()
    built = build_cache(config(**switches), env_num=2, validation=session)
    assert type(built.cache) is cache_type
    assert built.validation is None
    assert session.asked == []


@pytest.mark.parametrize(("use_new", "side"), [(False, "control"), (True, "candidate")])
def test_what_was_on_trial_is_what_runs_once_validation_is_over(use_new: bool, side: str) -> None:
    built = build_cache(config(use_new_cache_manager=use_new, cache_validation={side: THIRD}), env_num=2)
    other = build_cache(config(use_new_cache_manager=not use_new, cache_validation={side: THIRD}), env_num=2)

    assert type(built.cache) is ThirdCache
    assert type(other.cache) is (KVCacheManager if not use_new else LegacyKVCache)


@pytest.mark.parametrize(
    ("use_new", "primary", "primary_type"), [(False, "control", LegacyKVCache), (True, "candidate", KVCacheManager)]
)
def test_with_validation_both_run_and_the_switch_decides_whose_answers_count(
    use_new: bool, primary: str, primary_type: type
) -> None:
    session = Recording()
    built = build_cache(
        config(use_new_cache_manager=use_new, cache_validation_mode=True), 2, validation=session, name="collect"
    )
    (asked,) = session.asked
    assert (type(asked["control"]), type(asked["candidate"])) == (LegacyKVCache, KVCacheManager)
    assert (asked["primary"], asked["name"]) == (primary, "collect")
    assert type(built.cache) is primary_type
    assert built.validation is session


@dataclass
class DataConfig:
    num_simulations: int = 3
    max_cache_size: int = 4
    use_new_cache_manager: bool = True
    cache_validation_mode: bool = True
    cache_validation: Any = field(default_factory=lambda: {"candidate": THIRD})


@pytest.mark.parametrize(
    "given",
    [
        config(use_new_cache_manager=True, cache_validation_mode=True, cache_validation={"candidate": THIRD}),
        SimpleNamespace(
            **config(
                use_new_cache_manager=True,
                cache_validation_mode=True,
                cache_validation=SimpleNamespace(candidate=THIRD),
            )
        ),
        DataConfig(),
    ],
    ids=["dict", "namespace", "dataclass"],
)
def test_a_config_may_be_a_mapping_or_an_object(given: Any) -> None:
    session = Recording()
    build_cache(given, 2, validation=session)
    (asked,) = session.asked
    assert (type(asked["candidate"]).__name__, asked["primary"]) == ("ThirdCache", "candidate")
    assert asked["candidate"].policy().capacities == asked["control"].policy().capacities
    assert asked["control"].policy().capacities.init == 4


def test_both_sides_get_the_capacities_of_the_config() -> None:
    session = Recording()
    build_cache(config(cache_validation_mode=True), env_num=5, validation=session)
    (asked,) = session.asked
    for side in ("control", "candidate"):
        capacities = asked[side].policy().capacities
        assert (capacities.init, capacities.recur, capacities.wm) == (4, 15, 5)


def test_control_and_candidate_may_be_named() -> None:
    session = Recording()
    settings = {"control": THIRD, "candidate": "legacy"}
    build_cache(config(cache_validation_mode=True, cache_validation=settings), 2, validation=session)
    (asked,) = session.asked
    assert (type(asked["control"]).__name__, type(asked["candidate"])) == ("ThirdCache", LegacyKVCache)


@pytest.mark.parametrize("settings", [None, {}])
def test_empty_validation_settings_mean_legacy_against_new(settings: Any) -> None:
    session = Recording()
    build_cache(config(cache_validation_mode=True, cache_validation=settings), 2, validation=session)
    assert (type(session.asked[0]["control"]), type(session.asked[0]["candidate"])) == (LegacyKVCache, KVCacheManager)


def test_a_config_is_read_and_never_written() -> None:
    given = config(use_new_cache_manager=True, cache_validation_mode=True)
    before = dict(given)
    build_cache(given, 2, validation=Recording())
    assert given == before


# What is built works: statistics, operations, clears, rollback


@pytest.mark.parametrize("use_new", [False, True])
def test_either_system_stores_answers_and_counts(use_new: bool) -> None:
    cache = build_cache(config(use_new_cache_manager=use_new), env_num=2).cache
    cache.set_init_cache(0, 1, make_entry(1))
    cache.set_recur_cache(2, make_entry(2))
    assert_equal_entries(cache.get_init_cache(0, 1), make_entry(1))
    assert_equal_entries(cache.hierarchical_get(0, 2), make_entry(2))
    assert cache.get_init_cache(1, 1) is None
    summary = cache.get_stats_summary()
    assert summary["stats_enabled"] is True
    assert (summary["init_pools"]["env_0"]["hits"], summary["init_pools"]["env_1"]["misses"]) == (1, 1)
    assert summary["recur_pool"]["hit_rate"] == 1.0


@pytest.mark.parametrize("use_new", [False, True])
def test_either_system_forgets_when_cleared(use_new: bool) -> None:
    cache = build_cache(config(use_new_cache_manager=use_new), env_num=2).cache
    cache.set_init_cache(0, 1, make_entry(1))
    cache.set_recur_cache(1, make_entry(2))
    cache.clear_recur_cache()
    assert cache.get_recur_cache(1) is None
    assert_equal_entries(cache.hierarchical_get(0, 1), make_entry(1))
    cache.clear_all()
    assert cache.hierarchical_get(0, 1) is None


def test_rollback_is_a_matter_of_configuration_alone() -> None:
    stages = [
        {},
        {"cache_validation_mode": True},
        {"cache_validation_mode": True, "use_new_cache_manager": True},
        {"use_new_cache_manager": True},
        {"use_new_cache_manager": False},
    ]
    received = []
    for switches in stages:
        cache = build_cache(config(**switches), env_num=2, validation=Recording()).cache
        cache.set_init_cache(1, 7, make_entry(7))
        assert_equal_entries(cache.get_init_cache(1, 7), make_entry(7))
        received.append(type(cache))
    assert received == [LegacyKVCache, LegacyKVCache, KVCacheManager, KVCacheManager, LegacyKVCache]


# Log lines


@pytest.mark.parametrize(
    ("switches", "line"),
    [
        ({}, "Using OLD cache system (LegacyKVCache)"),
        ({"use_new_cache_manager": True}, "Using NEW KV cache manager (KVCacheManager)"),
        (
            {"cache_validation_mode": True},
            "Validating KV caches in lockstep, shadow stage: control LegacyKVCache, candidate KVCacheManager, the "
            "model receives the control's answers",
        ),
        (
            {"cache_validation_mode": True, "use_new_cache_manager": True},
            "Validating KV caches in lockstep, canary stage: control LegacyKVCache, candidate KVCacheManager, the "
            "model receives the candidate's answers",
        ),
        (
            {"cache_validation_mode": True, "cache_validation": {"candidate": THIRD}},
            "Validating KV caches in lockstep, shadow stage: control LegacyKVCache, candidate ThirdCache, the model "
            "receives the control's answers",
        ),
    ],
)
def test_one_log_line_names_the_classes_actually_constructed(
    switches: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="shadow.switch"):
        built = build_cache(config(**switches), 2, validation=Recording())
    assert [record.getMessage() for record in caplog.records] == [line]
    assert built.system == line


# Bad input


@pytest.mark.parametrize("name", ["use_new_cache_manager", "cache_validation_mode"])
@pytest.mark.parametrize("value", ["False", "true", 2, 0.5, [True]])
def test_a_switch_that_is_no_switch_is_refused(name: str, value: Any) -> None:
    # bool("False") is True: a mistyped switch would turn the new cache on.
    with pytest.raises(ValueError, match=name) as caught:
        build_cache(config(**{name: value}), 2, validation=Recording())
    assert str(caught.value) == f"{name} must be True or False, got {value!r}"


@pytest.mark.parametrize("value", [None, 0, False])
def test_none_and_zero_leave_a_switch_off(value: Any) -> None:
    built = build_cache(config(use_new_cache_manager=value, cache_validation_mode=value), 2)
    assert type(built.cache) is LegacyKVCache


@pytest.mark.parametrize("use_new", [False, True])
@pytest.mark.parametrize("validate", [False, True])
def test_an_impossible_size_is_refused_before_anything_runs(use_new: bool, validate: bool) -> None:
    session = Recording()
    given = {"num_simulations": -5, "use_new_cache_manager": use_new, "cache_validation_mode": validate}
    with pytest.raises(ValueError, match="num_simulations must be a whole number of at least 1, got -5"):
        build_cache(given, 2, validation=session)
    assert session.asked == []


@pytest.mark.parametrize("side", ["control", "candidate"])
def test_an_implementation_that_is_not_there_is_refused(side: str) -> None:
    given = config(cache_validation_mode=True, cache_validation={side: "nowhere.at:All"})
    with pytest.raises(ValueError, match=r"no cache implementation 'nowhere\.at:All'"):
        build_cache(given, 2, validation=Recording())


def test_implementations_are_found_by_name_and_by_path() -> None:
    assert implementation("legacy") is LegacyKVCache
    assert implementation("new") is KVCacheManager
    assert implementation("shadow.manager:KVCacheManager") is KVCacheManager
    assert implementation(THIRD).__name__ == "ThirdCache"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("old", FORM),
        ("", FORM),
        ("no_such_module:Cache", "No module named 'no_such_module'"),
        ("shadow.manager:NoSuchCache", "module 'shadow.manager' has no attribute 'NoSuchCache'"),
        ("shadow.manager:", FORM),
        (":KVCacheManager", FORM),
        (".manager:KVCacheManager", FORM),
        (["legacy"], FORM),
        (None, FORM),
        (f"{__name__}:NOT_A_CLASS", "NOT_A_CLASS is no class but of type int"),
    ],
)
def test_a_name_without_implementation_says_what_is_expected_and_why(name: Any, reason: str) -> None:
    with pytest.raises(ValueError, match="no cache implementation") as caught:
        implementation(name)
    assert str(caught.value) == (
        f"no cache implementation {name!r}: expected 'legacy', 'new' or 'package.module:Class' ({reason})"
    )


# Finding the installed validator


def test_without_a_session_the_installed_validator_is_opened_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    session, opened, searched = Recording(), [], []

    def open_session(settings: Any) -> Recording:
        opened.append(settings)
        return session

    def points(**where: str) -> list[Any]:
        searched.append(where)
        return [SimpleNamespace(load=lambda: open_session)]

    monkeypatch.setattr(switch, "entry_points", points)
    built = build_cache(config(cache_validation_mode=True, cache_validation={"out": "elsewhere"}), 2)
    assert built.validation is session
    assert opened == [{"out": "elsewhere"}]
    assert searched == [{"group": "kv_lockstep.validation", "name": "default"}]


def test_a_given_session_is_joined_and_none_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "entry_points", lambda **_: pytest.fail("looked for another session"))
    session = Recording()
    assert build_cache(config(cache_validation_mode=True), 2, validation=session).validation is session


def test_without_a_validator_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "entry_points", lambda **_: [])
    with pytest.raises(ValueError, match="cache_validation_mode is on") as caught:
        build_cache(config(cache_validation_mode=True), 2)
    assert str(caught.value) == (
        "cache_validation_mode is on but no validator is installed; run 'pip install kv-lockstep', or pass a Lockstep"
    )

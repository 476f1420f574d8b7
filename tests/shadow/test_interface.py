"""Reading configs and capacities, and the interface as a protocol."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from shadow.interface import CacheCapacities, CachePolicy, CacheStore, positive, read_field


@dataclass
class Config:
    num_simulations: int = 7


@pytest.mark.parametrize("config", [{"num_simulations": 7}, SimpleNamespace(num_simulations=7), Config()])
def test_a_field_is_read_from_any_kind_of_config(config: Any) -> None:
    assert read_field(config, "num_simulations", 50) == 7
    assert read_field(config, "max_cache_size", 5000) == 5000
    assert read_field(config, "max_cache_size") is None


def test_a_key_of_a_mapping_wins_over_a_method_of_its_name() -> None:
    assert read_field({"items": 3}, "items") == 3
    assert read_field({}, "items", "absent") == "absent"


def test_reading_never_writes_back() -> None:
    config: dict[str, Any] = {}
    CacheCapacities.from_config(config, 2)
    assert config == {}


def test_a_max_cache_size_below_the_floor_of_256_still_holds() -> None:
    assert CacheCapacities.from_config({"max_cache_size": 1}, 1).init == 1


def test_the_2025_rule_ignores_max_cache_size() -> None:
    config = {"cache_capacity_rule": "2025-10", "game_segment_length": 20, "max_cache_size": 3}
    assert CacheCapacities.from_config(config, 2) == CacheCapacities(init=20, recur=100, wm=2)


@pytest.mark.parametrize("value", [1, 2**40])
def test_positive_returns_what_it_was_given(value: int) -> None:
    assert positive("size", value) == value


@pytest.mark.parametrize("value", [0, -3, True, 1.0, "1", None, [1]])
def test_positive_says_what_was_found(value: Any) -> None:
    with pytest.raises(ValueError, match="size must be a whole number of at least 1") as caught:
        positive("size", value)
    assert str(caught.value) == f"size must be a whole number of at least 1, got {value!r}"


def test_capacities_and_policies_are_frozen() -> None:
    capacities = CacheCapacities(1, 2, 3)
    with pytest.raises(FrozenInstanceError):
        capacities.init = 5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        CachePolicy("fifo", capacities).kind = "lru"  # type: ignore[misc]


def test_an_object_that_lacks_a_method_is_no_cache() -> None:
    assert not isinstance(SimpleNamespace(get_init_cache=print), CacheStore)

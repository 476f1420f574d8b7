"""Settings from mappings: what is taken, what is refused, and the text a person reads then."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import pytest

from shadow.settings import SettingsError, from_mapping, nearest


@dataclass(frozen=True)
class Inner:
    level: int = 1
    label: str = "plain"


@dataclass(frozen=True)
class Settings:
    count: int = 3
    share: float = 0.5
    limit: float | None = None
    name: str = ""
    either: int | str = 0
    on: bool = False
    mode: Literal["record", "log"] = "record"
    inner: Inner = Inner()
    maybe_inner: Inner | None = None
    steps: tuple[int, ...] = ()
    table: dict[str, Any] = field(default_factory=dict)
    anything: Any = None
    derived: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")


@dataclass(frozen=True)
class Needy:
    must: int


def load(mapping: Any, cls: type = Settings) -> Any:
    return from_mapping(cls, mapping, "run.toml [train]")


def message_of(mapping: Any, cls: type = Settings) -> str:
    with pytest.raises(SettingsError) as caught:
        load(mapping, cls)
    return str(caught.value)


def test_an_empty_mapping_gives_the_defaults() -> None:
    assert load({}) == Settings()


def test_every_kind_of_value_is_taken() -> None:
    loaded = load(
        {
            "count": 5,
            "share": 0.25,
            "limit": 1.5,
            "name": "mine",
            "either": "text",
            "on": True,
            "mode": "log",
            "inner": {"level": 2},
            "maybe_inner": {"label": "fancy"},
            "steps": [1, 2],
            "table": {"a": 1},
            "anything": object,
        }
    )
    assert loaded == Settings(
        count=5,
        share=0.25,
        limit=1.5,
        name="mine",
        either="text",
        on=True,
        mode="log",
        inner=Inner(level=2),
        maybe_inner=Inner(label="fancy"),
        steps=(1, 2),
        table={"a": 1},
        anything=object,
    )


def test_a_whole_number_is_taken_where_a_float_is_asked_for() -> None:
    loaded = load({"share": 1, "limit": 2})
    assert (type(loaded.share), type(loaded.limit)) == (float, float)
    assert (loaded.share, loaded.limit) == (1.0, 2.0)


def test_none_is_taken_where_it_is_allowed() -> None:
    assert load({"limit": None, "maybe_inner": None}) == Settings()


def test_nested_settings_may_be_made_already() -> None:
    assert load({"inner": Inner(level=9)}).inner == Inner(level=9)


def test_the_mapping_is_never_written_to_and_its_tables_are_copied() -> None:
    table = {"a": 1}
    mapping = MappingProxyType({"table": table, "inner": MappingProxyType({"level": 2})})
    loaded = load(mapping)
    loaded.table["b"] = 2
    assert table == {"a": 1}


def test_lists_and_tuples_are_taken_alike() -> None:
    # EasyDict turns tuples into lists.
    assert load({"steps": (1, 2)}) == load({"steps": [1, 2]})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cuont": 1}, "run.toml [train]: unknown setting 'cuont'; did you mean 'count'?"),
        (
            {"xyzzy": 1},
            "run.toml [train]: unknown setting 'xyzzy'; known are anything, count, either, inner, limit, maybe_inner, "
            "mode, name, on, share, steps, table",
        ),
        ({"derived": 1}, "run.toml [train]: unknown setting 'derived'; known are "),
        ({7: 1}, "run.toml [train]: unknown setting 7; known are "),
        ({"inner": {"levle": 1}}, "run.toml [train]: inner: unknown setting 'levle'; did you mean 'level'?"),
        ({"inner": {"level": "1"}}, "run.toml [train]: inner: level: expected int, got '1' (str)"),
        ({"inner": 3}, "run.toml [train]: inner: expected a table of settings, got int"),
        ({"count": "3"}, "run.toml [train]: count: expected int, got '3' (str)"),
        ({"count": 3.0}, "run.toml [train]: count: expected int, got 3.0 (float)"),
        ({"count": True}, "run.toml [train]: count: expected int, got True (bool)"),
        ({"share": True}, "run.toml [train]: share: expected float, got True (bool)"),
        ({"share": "0.5"}, "run.toml [train]: share: expected float, got '0.5' (str)"),
        ({"limit": "x"}, "run.toml [train]: limit: expected float, got 'x' (str)"),
        ({"name": 3}, "run.toml [train]: name: expected str, got 3 (int)"),
        ({"name": None}, "run.toml [train]: name: expected str, got None (NoneType)"),
        ({"on": 1}, "run.toml [train]: on: expected bool, got 1 (int)"),
        ({"on": "False"}, "run.toml [train]: on: expected bool, got 'False' (str)"),
        ({"mode": "loud"}, "run.toml [train]: mode: expected one of 'record', 'log', got 'loud'"),
        ({"mode": ["log"]}, "run.toml [train]: mode: expected one of 'record', 'log', got ['log']"),
        ({"steps": 3}, "run.toml [train]: steps: expected a list, got 3"),
        ({"steps": "12"}, "run.toml [train]: steps: expected a list, got '12'"),
        ({"steps": [1, "2"]}, "run.toml [train]: steps: expected int, got '2' (str)"),
        ({"table": [1]}, "run.toml [train]: table: expected a table, got [1]"),
        ({"count": 0}, "run.toml [train]: count must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_refused_saying_where_what_and_what_instead(mapping: Any, message: str) -> None:
    text = message_of(mapping)
    assert text == message or (message.endswith("known are ") and text.startswith(message))


def test_a_union_of_types_names_all_of_them() -> None:
    assert message_of({"either": 1.5}) == "run.toml [train]: either: expected int or str, got 1.5 (float)"


@pytest.mark.parametrize("mapping", [None, [], "count=1", 3])
def test_what_is_no_mapping_is_refused(mapping: Any) -> None:
    expected = f"run.toml [train]: expected a table of settings, got {type(mapping).__name__}"
    assert message_of(mapping) == expected


def test_a_missing_setting_without_default_is_named() -> None:
    assert "'must'" in message_of({}, Needy)


def test_a_settings_error_is_a_value_error() -> None:
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alpah", "did you mean 'alpha'?"), ("zzz", "known are alpha, beta"), ("", "known are alpha, beta")],
)
def test_the_nearest_known_name_is_offered_or_all_are_listed(name: str, expected: str) -> None:
    assert nearest(name, ["beta", "alpha"]) == expected


def test_reading_settings_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None\nimport importlib.util as u\n" + (
        "spec = u.spec_from_file_location('settings', sys.argv[1]); m = u.module_from_spec(spec)\n"
        "sys.modules['settings'] = m; spec.loader.exec_module(m); print(m.nearest('a', ['ab']))"
    )
    import shadow.settings

    done = subprocess.run(
        [sys.executable, "-c", program, str(shadow.settings.__file__)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("did you mean 'ab'?\n", "")

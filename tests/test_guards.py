"""What tests say that they guard is there, and the runner tells a test that notices from one that doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guards import ROOT, Guard, found
from tests.mutate import NOTICED, SURVIVED, outcome

TESTS = """
from answers import answer
from tests.guards import guards

class TestAnswer:
    @guards("answers.py", "42", "41")
    @guards("answers.py", "return", "return not")
    def test_it_is_42(self):
        assert answer() == 42

@guards("answers.py", "42", "43")
def test_it_is_there():
    assert answer
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one module, two tests of it and three guards."""
    (tmp_path / "answers.py").write_text("def answer():\n    return 42\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "guards.py").write_text((ROOT / "tests/guards.py").read_text(encoding="utf-8"), "utf-8")
    (tmp_path / "tests" / "test_answers.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


def test_what_is_guarded_stands_in_its_file_once_and_is_taken_away() -> None:
    guarded = list(found())
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in {guard.file for guard in guarded}}

    assert [guard for guard in guarded if sources[guard.file].count(guard.old) != 1 or guard.old == guard.new] == []
    assert len(guarded) > 100


def test_guards_are_found_on_functions_and_methods(checkout: Path) -> None:
    assert [(guard.test, guard.new) for guard in found(checkout)] == [
        ("tests/test_answers.py::TestAnswer::test_it_is_42", "41"),
        ("tests/test_answers.py::TestAnswer::test_it_is_42", "return not"),
        ("tests/test_answers.py::test_it_is_there", "43"),
    ]


def test_a_test_that_passes_without_what_it_guards_is_told(checkout: Path) -> None:
    noticing, _, blind = found(checkout)
    lost = Guard(blind.test, blind.file, "not in there", "")

    assert outcome(noticing, checkout) == NOTICED
    assert outcome(blind, checkout) == SURVIVED
    assert outcome(lost, checkout) == "the text stands there 0 times"

"""Faults planted in mappings are noticed, named and charged to the right side; sound ones conform."""

from __future__ import annotations

import pytest

from validator.proof.conformance import MAPPINGS, conformance
from validator.proof.mappings import PLANTED_IN_MAPPINGS, Plain
from validator.proof.selftest import SelfTest, selftest


@pytest.fixture(scope="module")
def tested() -> SelfTest:
    return selftest(PLANTED_IN_MAPPINGS, operations=120)


@pytest.mark.parametrize("name", [each.name for each in PLANTED_IN_MAPPINGS])
def test_a_fault_planted_in_a_mapping_is_noticed_and_named(tested: SelfTest, name: str) -> None:
    (found,) = [each for each in tested.results if each.name == name]
    assert (found.detected, found.cause_right, found.side_right) == (True, True, True), found.named
    assert (tested.false_alarms, tested.harness_faults) == (0, ())


def test_it_is_charged_to_whichever_side_has_it_under_either_primary() -> None:
    some = [each for each in PLANTED_IN_MAPPINGS if each.name in ("a lookup is no use", "k and v are swapped")]
    result = selftest(some, operations=120, full=True)
    assert len(result.results) == 10
    assert [each.named for each in result.results if not (each.detected and each.side_right)] == []


def test_sound_mappings_conform_and_a_broken_one_does_not_and_its_program_is_short() -> None:
    def sound(config: dict[str, int], _: int) -> Plain:
        return Plain(config["capacity"])

    result = conformance(sound, sound, 600, ground=MAPPINGS)
    assert result.conforms
    assert result.operations == 600

    broken = next(each for each in PLANTED_IN_MAPPINGS if each.name == "pop removes nothing")
    result = conformance(sound, lambda config, n: broken.make(sound(config, n)), 300, ground=MAPPINGS)
    assert not result.conforms
    (program, said), *_ = result.programs.values()
    assert [step.verb for step in program][-1] == "pop"
    assert len(program) == 2
    assert "removed" in said

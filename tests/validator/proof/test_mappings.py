"""Faults planted in mappings are noticed, named and charged to the right side; sound ones conform."""

from __future__ import annotations

import pytest

from validator.proof.conformance import MAPPINGS, conformance
from validator.proof.mappings import PLANTED_IN_MAPPINGS, Plain
from validator.proof.selftest import selftest


@pytest.mark.parametrize("planted", PLANTED_IN_MAPPINGS, ids=lambda each: each.name)
def test_a_fault_planted_in_a_mapping_is_noticed_and_named(planted: object) -> None:
    result = selftest((planted,), operations=120, full=True)  # type: ignore[arg-type]
    missed = [(p.where, p.primary, p.named) for p in result.results if not (p.detected and p.side_right)]
    assert missed == []
    assert [p.named for p in result.results if not p.cause_right and p.where != "both"] == []
    assert (result.false_alarms, result.harness_faults) == (0, ())


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

"""Sequences recomputed: sound generations are silent and the same to the last bit, each planted fault is the host's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.transformers.conftest import generated, prompts, tiny
from tests.transformers.test_generate import MODES, dynamic, same
from validator.config import OracleConfig, ValidationConfig
from validator.session import Lockstep

ALL = OracleConfig(sequences=6, budget=0.0)
NAMES = (
    *("left padding", "the column", "a position", "new tokens", "another token", "a cache never", "a cache reordered"),
    *("a prefix", "the last layer"),
)


def watched(tmp_path: Path, model: Any, oracle: OracleConfig | None = ALL, **more: Any) -> tuple[Any, Any]:
    settings = ValidationConfig(selftest=False)
    with Lockstep(tmp_path, settings) as lockstep, lockstep.shadow_generate(candidate=dynamic, oracle=oracle):
        answer = generated(model, *prompts(), **more)
    return answer, lockstep.on_disk()


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma2", "Mistral"])
@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_a_sound_generation_agrees_and_is_the_same_to_the_last_bit(tmp_path: Path, kind: str, mode: str) -> None:
    model = tiny(kind)
    for implementation in ({}, {"cache_implementation": "static"}):
        alone = generated(model, *prompts(), **MODES[mode], **implementation)
        answer, run = watched(tmp_path, model, **MODES[mode], **implementation)
        counted = run.totals.coverage

        assert same(alone, answer)
        assert (run.totals.n_divergences, run.totals.dropped) == (0, {})
        assert counted["recomputations"] == counted["recomputations that agreed"] >= 6
        assert "prepare_inputs_for_generation" not in vars(model)


def test_a_model_in_training_mode_is_not_judged_and_that_is_said(tmp_path: Path) -> None:
    _, run = watched(tmp_path, tiny("Llama").train())

    assert run.totals.coverage["recomputations not judged: the model is in training mode"] == 1
    assert "recomputations" not in run.totals.coverage


def test_without_a_table_nothing_is_recomputed(tmp_path: Path) -> None:
    _, run = watched(tmp_path, tiny("Llama"), oracle=None)

    assert [name for name in run.totals.coverage if "recomput" in name] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_fault_is_charged_to_the_host_with_its_cause_and_seen_by_nobody_else(name: str) -> None:
    from validator.proof.hosts.planted import tried
    from validator.proof.hosts.transformers import PLANTED_IN_TRANSFORMERS

    (planted,) = (each for each in PLANTED_IN_TRANSFORMERS if each.name.startswith(name))
    found = tried(planted)

    assert (found.is_right, found.cause_right, found.without) == (True, True, "PASS"), found


def test_every_fault_that_is_planted_is_tried_here() -> None:
    if find_spec("transformers") is None:
        pytest.skip("nothing is planted without transformers")
    from validator.proof.hosts.transformers import PLANTED_IN_TRANSFORMERS

    assert len(PLANTED_IN_TRANSFORMERS) == len(NAMES)

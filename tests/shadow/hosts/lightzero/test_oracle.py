"""A host's own mistakes, which both caches share, are charged to it by recomputing the histories of its envs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.record.run import Run
from reports.record.words import NOT_RECOMPUTED, Cause, Dimension, Fault
from shadow.hosts.lightzero.installation import Installation
from shadow.hosts.lightzero.oracle import ATTRIBUTE, NODES
from shadow.settings import SettingsError
from tests.guards import guards
from tests.lightzero import host_faults
from tests.lightzero.by_hand import COLLECTED, EVALUATED, EVERYTHING, SEARCH, play
from tests.shadow.hosts.lightzero.computing import ComputingModel
from validator.oracle.oracle import Oracle

STEPS = COLLECTED + EVALUATED


def charged(run: Run) -> set[tuple[Dimension, Fault, Cause]]:
    assert run.totals.outcomes()["both_hit_equal"] == run.totals.n_lookups > 0
    return {(found.dimension, found.fault, found.cause) for found in run.divergences}


def hosts(cause: Cause) -> set[tuple[Dimension, Fault, Cause]]:
    return {(Dimension.RECOMPUTE, Fault.HOST, cause)}


@guards("shadow/hosts/lightzero/lineage.py", "if chain.length < self.context - 1:", "if True:")
@guards("shadow/hosts/lightzero/oracle.py", "return root.chain\n", "return None\n")
def test_a_sound_host_is_never_charged_and_all_of_it_is_recomputed(tmp_path: Path) -> None:
    run, _ = play(ComputingModel(), tmp_path, oracle=EVERYTHING)

    coverage = run.totals.coverage
    assert charged(run) == set()
    assert coverage["recomputations"] == coverage["recomputations that agreed"] == STEPS * 2 * (1 + SEARCH)
    assert any("shift error" in event["detail"] for event in run.events if event["event"] == "oracle_measured")


@guards(
    "shadow/hosts/lightzero/oracle.py",
    "            return _gone_on_from(got, step)\n        want",
    "            return None\n        want",
)
def test_what_the_budget_leaves_out_is_gone_on_from_as_it_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count()
    monkeypatch.setattr(Oracle, "affords", lambda self: next(asked) % 3 == 0)
    run, _ = play(ComputingModel(), tmp_path, oracle=EVERYTHING)

    coverage = run.totals.coverage
    assert charged(run) == set()
    assert coverage["recomputations"] == coverage["recomputations that agreed"] == -(-STEPS * 2 * (1 + SEARCH) // 3)
    assert [name for name in coverage if "not seen" in name or "not followed" in name] == []


def swap_rows(world_model: Any) -> None:
    find = world_model.retrieve_or_generate_kvcache
    world_model.retrieve_or_generate_kvcache = lambda states: find(states)[::-1]


@guards("shadow/hosts/lightzero/suspects.py", "yield from _of_others(lineage, step)", "yield from ()")
@guards(
    "shadow/hosts/lightzero/oracle.py",
    "self._actions.get(self._rows[row], action)",
    "action",
)
@guards(
    "shadow/hosts/lightzero/oracle.py",
    "begins = anew or (step == 0 and self._steps_count and (last is None or last.step != 0))",
    "begins = bool(anew)",
)
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ({"plant": swap_rows}, Cause.OTHER_HISTORY),
        ({"policy": host_faults.ForgetsActions}, Cause.OTHER_TOKEN),
        ({"policy": host_faults.ForgetsEpisodeEnds}, Cause.STALE_HISTORY),
        ({"policy": host_faults.SharesRoots}, Cause.STALE_HISTORY),
    ],
    ids=["rows swapped", "another action", "episode not ended", "roots shared"],
)
def test_a_broken_host_is_charged_while_both_caches_agree(tmp_path: Path, how: dict[str, Any], cause: Cause) -> None:
    run, _ = play(ComputingModel(), tmp_path / "with", oracle={**EVERYTHING, "envs": 1}, **how)
    without, _ = play(ComputingModel(), tmp_path / "without", oracle=None, **how)

    assert charged(run) == hosts(cause)
    assert charged(without) == set()


def test_being_recomputed_changes_nothing(tmp_path: Path) -> None:
    outputs = []
    for oracle in (None, EVERYTHING):
        model = ComputingModel()
        _, policy = play(model, tmp_path / str(bool(oracle)), oracle=oracle)
        outputs.append((policy.outputs, torch.get_rng_state().tolist()))

    assert outputs[0] == outputs[1]


@guards(
    "shadow/hosts/lightzero/lineage.py", "if world_model.training or world_model.transformer.training:", "if False:"
)
def test_a_model_in_training_mode_is_counted_and_not_judged(tmp_path: Path) -> None:
    run, _ = play(
        ComputingModel(), tmp_path, oracle=EVERYTHING, plant_late=lambda world_model: world_model.transformer.train()
    )

    reason = "inferences of a model in training mode, with its dropout"
    assert run.totals.coverage[f"{NOT_RECOMPUTED}{reason}"] == STEPS
    assert "recomputations" not in run.totals.coverage


@guards("shadow/hosts/lightzero/oracle.py", "if weights != self._weights:", "if False:")
def test_a_history_made_by_older_weights_is_forgotten(tmp_path: Path) -> None:
    def moves_weights(world_model: Any) -> None:
        infer, calls = world_model.forward_initial_inference, []

        def inferred(*args: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                with torch.no_grad():
                    world_model.transformer.blocks[0].attn.key.weight.mul_(1.5)
            return infer(*args)

        world_model.forward_initial_inference = inferred

    run, _ = play(ComputingModel(), tmp_path, oracle=EVERYTHING, plant_late=moves_weights)

    assert run.totals.coverage[f"{NOT_RECOMPUTED}steps of a history whose beginning was not seen"] > 0
    assert charged(run) == set()


@guards("shadow/hosts/lightzero/lineage.py", "    if problems:\n", "    if False:\n")
def test_a_model_that_is_not_known_is_refused_before_it_trains_unless_no_oracle_asks(tmp_path: Path) -> None:
    def break_it(world_model: Any) -> None:
        world_model.num_observations_tokens = 16

    with pytest.raises(SettingsError, match=r"should have one token per observation .*; known are release"):
        play(ComputingModel(), tmp_path, oracle=EVERYTHING, plant=break_it)
    play(ComputingModel(), tmp_path, oracle=None, plant=break_it)


@guards("shadow/hosts/lightzero/installation.py", "oracle.put_in()", "pass")
def test_a_deep_copy_leaves_the_oracle_with_the_model_that_it_is_of(tmp_path: Path) -> None:
    def copied(world_model: Any) -> None:
        clone = Installation(None, force=True).copy(world_model, {})
        assert not {ATTRIBUTE, NODES} & clone.__dict__.keys()

    run, _ = play(ComputingModel(), tmp_path, oracle=EVERYTHING, plant_late=copied)

    assert run.totals.coverage["recomputations that agreed"] == STEPS * 2 * (1 + SEARCH)

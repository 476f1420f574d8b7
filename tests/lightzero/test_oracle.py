"""A recomputation without a cache judges LightZero 0.2.0 itself: sound, with its own faults, and with planted ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reports.record.run import Run
from reports.record.words import NOT_RECOMPUTED, NOT_RECOMPUTED_RAISED, Cause, Dimension, Fault
from shadow.hosts.lightzero.lineage import Lineage
from shadow.settings import SettingsError
from tests.lightzero import host_faults
from tests.lightzero.by_hand import COLLECTED, EVALUATED, EVERYTHING, SEARCH, build, play

pytestmark = pytest.mark.filterwarnings("ignore")  # LightZero and what it imports give dozens
STEPS = COLLECTED + EVALUATED


def agreed(run: Run) -> bool:
    """Tell whether all of both envs was recomputed, and agreed."""
    coverage = run.totals.coverage
    whole = STEPS * 2 * (1 + SEARCH)
    return coverage["recomputations"] == coverage["recomputations that agreed"] == whole


def charged(run: Run) -> set[tuple[Dimension, Fault, Cause]]:
    """List what was charged; both caches always agree, so the recomputation alone sees it."""
    outcomes = run.totals.outcomes()
    assert outcomes["both_hit_equal"] + outcomes["both_miss"] == run.totals.n_lookups > 0
    return {(found.dimension, found.fault, found.cause) for found in run.divergences}


def hosts(*causes: Cause) -> set[tuple[Dimension, Fault, Cause]]:
    return {(Dimension.RECOMPUTE, Fault.HOST, cause) for cause in causes}


@pytest.mark.parametrize("rotary", [True, False])
def test_a_sound_host_whose_envs_are_in_step_is_never_charged(tmp_path: Path, rotary: bool) -> None:
    model = build(2, rotary)

    run, _ = play(model, tmp_path, oracle=EVERYTHING)

    assert charged(run) == set()
    assert agreed(run)
    assert any("shift error" in event["detail"] for event in run.events if event["event"] == "oracle_measured")


def test_the_released_host_attends_to_padding_where_envs_are_of_unequal_length(tmp_path: Path) -> None:
    run, _ = play(build(2), tmp_path, oracle=EVERYTHING, deep=False)

    assert charged(run) == hosts(Cause.PADDING_ATTENDED)


def test_one_env_alone_is_never_padded(tmp_path: Path) -> None:
    run, _ = play(build(1), tmp_path, oracle=EVERYTHING, deep=False)

    assert charged(run) == set()


def test_the_released_host_sets_positions_back_by_the_weights_from_before_they_were_initialised(tmp_path: Path) -> None:
    run, _ = play(build(2, rotary=False, fresh=True), tmp_path, oracle=EVERYTHING)

    assert charged(run) == hosts(Cause.POSITION_OFF)
    assert "positions were set back as older weights would" in run.divergences[0].explanation


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ({"plant": host_faults.rows_swapped_in_the_batch}, Cause.OTHER_HISTORY),
        ({"plant": host_faults.rows_swapped_when_stored}, Cause.OTHER_HISTORY),
        ({"plant": host_faults.keys_of_another_layer}, Cause.LAYER_MIXED),
        ({"plant": host_faults.length_of_the_batch_stored, "deep": False}, Cause.PADDED_LENGTH),
        ({"plant": host_faults.wrong_action_in_the_search}, Cause.OTHER_TOKEN),
        ({"plant": host_faults.positions_ahead}, Cause.POSITION_OFF),
        ({"plant": host_faults.positions_not_set_back, "rotary": False}, Cause.POSITION_OFF),
        ({"plant_late": host_faults.window_kept_too_long}, Cause.HISTORY_BEGINS_OFF),
        ({"policy": host_faults.ForgetsEpisodeEnds}, Cause.STALE_HISTORY),
        ({"policy": host_faults.SharesRoots}, Cause.STALE_HISTORY),
        ({"policy": host_faults.ForgetsActions}, Cause.OTHER_TOKEN),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else "",
)
def test_a_broken_host_is_charged_with_its_cause_while_both_caches_agree(
    tmp_path: Path, how: dict[str, Any], cause: Cause
) -> None:
    model = build(2, how.pop("rotary", True))

    run, _ = play(model, tmp_path, oracle={**EVERYTHING, "envs": 1}, **how)

    of_the_release = hosts(Cause.PADDING_ATTENDED) if "deep" in how else set()
    assert charged(run) - of_the_release == hosts(cause)


def test_being_recomputed_changes_nothing(tmp_path: Path) -> None:
    runs = []
    for oracle in (None, EVERYTHING):
        torch.manual_seed(1)
        run, policy = play(build(2), tmp_path / str(bool(oracle)), oracle=oracle, deep=False)
        runs.append((policy.outputs, torch.get_rng_state().tolist(), run.totals.lookups))
        assert bool(run.totals.coverage.get("recomputations")) is bool(oracle)

    assert runs[0] == runs[1]


def test_a_recomputation_that_raises_is_counted_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Lineage, "extend", raises)

    run, policy = play(build(1), tmp_path, oracle=EVERYTHING)

    assert len(policy.outputs) == 2 * STEPS * SEARCH
    assert (
        run.totals.coverage[f"{NOT_RECOMPUTED_RAISED}ZeroDivisionError"] == 3
    )  # an episode, the next one, an evaluation
    assert run.totals.coverage[f"{NOT_RECOMPUTED}nodes whose history is not followed"] > 0
    assert "recomputations" not in run.totals.coverage


def test_a_model_in_training_mode_is_not_judged(tmp_path: Path) -> None:
    run, _ = play(build(1), tmp_path, oracle=EVERYTHING, plant_late=lambda world_model: world_model.transformer.train())

    assert "recomputations" not in run.totals.coverage
    reason = "inferences of a model in training mode, with its dropout"
    assert run.totals.coverage[f"{NOT_RECOMPUTED}{reason}"] == STEPS


def test_a_model_that_is_not_known_is_refused_before_it_trains(tmp_path: Path) -> None:
    def break_it(world_model: Any) -> None:
        world_model.num_observations_tokens = 16

    with pytest.raises(SettingsError, match="should have one token per observation"):
        play(build(1), tmp_path, oracle=EVERYTHING, plant=break_it)
    play(build(1), tmp_path, oracle=None, plant=break_it)  # without an oracle nobody asks for it

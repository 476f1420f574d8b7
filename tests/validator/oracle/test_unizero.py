"""The embedded host: sound it is silent, and each of its planted faults is charged to it while both caches agree."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from shadow.hosts.unizero.oracle import UnizeroRecomputer
from shadow.recompute import UnknownModel
from tests.guards import guards
from tests.shadow.hosts.unizero.uncached import make_model
from validator.proof.hosts.planted import PlantedInHost, tried
from validator.proof.hosts.unizero import PLANTED_IN_UNIZERO, nothing, play


def test_a_sound_host_agrees_in_all_that_is_recomputed() -> None:
    trial = play(nothing, with_oracle=True)
    counted = trial.pair.counters.coverage

    assert (trial.divergences, trial.failures) == ([], [])
    assert counted["recomputations"] == counted["recomputations that agreed"] > 100
    assert [name for name in counted if "not judged" in name] == []


@pytest.mark.parametrize("planted", PLANTED_IN_UNIZERO, ids=[each.name for each in PLANTED_IN_UNIZERO])
def test_a_planted_fault_is_charged_to_the_host_with_its_cause_and_seen_by_nobody_else(planted: PlantedInHost) -> None:
    short = partial(planted.play, steps=9)  # every one shows within 8

    found = tried(replace(planted, play=short))

    assert (found.is_right, found.cause_right, found.without) == (True, True, "PASS"), found


@guards(
    "shadow/hosts/unizero/oracle.py",
    "            if anew:\n                self._lost.discard(env_id)",
    "            if False:\n                self._lost.discard(env_id)",
)
def test_what_follows_from_a_charge_is_no_charge_until_the_env_begins_anew() -> None:
    (swapped,) = (each for each in PLANTED_IN_UNIZERO if "layers" in each.name)
    trial = swapped.play(True)
    roots = [each for each in trial.divergences if each.pool == "init"]

    assert trial.pair.counters.coverage["recomputations not judged: what follows from what was charged"] > 0
    assert len({(each.env_id, each.episode, each.weight_version) for each in roots}) == len(roots) > 3


def test_a_model_that_it_does_not_know_is_refused_by_name() -> None:
    model = make_model()
    del model.network.next_latent_head
    with pytest.raises(UnknownModel, match="looked for next_latent_head in a Network"):
        UnizeroRecomputer(model, 3).attach(None)  # type: ignore[arg-type]  # is refused before
    assert "initial_inference" not in vars(model)
    assert torch.is_grad_enabled()

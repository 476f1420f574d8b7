"""Faults that the self-test does not plant: each noticed, fittingly named, and charged to the right side."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
import torch

from reports.record.words import Cause, Fault
from shadow.legacy import LegacyKVCache
from tests.guards import guards
from tests.validator.proof.unlisted_faults import CASES, SMALL
from tests.validator.trials import ENVS, charged, declared, manager, trial
from validator.proof.stream import Terrain, steps


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40


@pytest.fixture(autouse=True)
def _process_state_is_put_back() -> Any:
    kept = torch.get_rng_state(), random.getstate(), torch.is_grad_enabled()
    yield
    torch.set_rng_state(kept[0])
    random.setstate(kept[1])
    torch.set_grad_enabled(kept[2])


@guards(
    "validator/judge/case.py", 'self.charge(against(side, finding), Place(-1, "audit", "all"), errors=errors)', "pass"
)
@guards(
    "validator/judge/values.py", "words.EARLIER_VERSION if version.alive else words.EARLIER_LIFE", "words.EARLIER_LIFE"
)
@guards("validator/judge/values.py", "return foreign(owner, asked, env_id, expected.key)", "pass")
@guards(
    "validator/judge/values.py",
    "if None not in (owner.env_id, env_id) and owner.env_id != env_id:",
    "if False:",
)
@guards("validator/judge/referee.py", "lambda: named_rows(", "lambda: None and (")
@guards("validator/judge/rows.py", "if not any(map(any, wanted)):", "if False:")
@guards("validator/judge/roots.py", "if other is not None:", "if False:")
@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_noticed_named_and_charged_to_the_candidate(name: str, primary: str) -> None:
    case = CASES[name]
    sound = LegacyKVCache(*SMALL) if case.legacy else manager()
    run = trial(sound, case.make(), primary)
    terrain = Terrain(ENVS, declared().capacities, one_layout=True, batches=(2,)) if case.legacy else case.terrain
    stream = steps(1, 1_000, terrain)
    while not run.divergences and (part := list(islice(stream, 10))):
        run.play(part)
    run.play(islice(stream, 30))  # what follows must not be charged to the innocent
    run.finish()

    found = charged(run)
    assert found, "not noticed"
    assert {fault for _, fault in found} <= {Fault.CANDIDATE, Fault.UNKNOWN}, found
    assert found[0][1] is Fault.CANDIDATE
    most = run.causes().most_common(1)[0][0][0]
    assert found[0][0] in case.causes or most in case.causes, run.causes()


@guards("validator/judge/roots.py", "if known is not None:", "if False:")
@guards("validator/judge/presence.py", "return _outlived(side, *went[0])._replace(note=words.CHANGED_SINCE)", "pass")
@pytest.mark.parametrize(
    "name",
    [
        "recur and wm are one dict",
        "env pools are one object",
        "recur shares env 0's pool",
        "a clear leaves zeros",
        "the next env is cleared too",
        "never evicts",
        "wm is never cleared",
    ],
)
def test_one_defect_has_one_name_and_what_follows_is_counted_under_it(name: str) -> None:
    case = CASES[name]
    run = trial(manager(), case.make())
    run.play(steps(1, 900, case.terrain))
    run.finish()
    counts = run.pair.case.counters.divergences
    named = {group: n for group, n in counts.items() if Cause(group.split("|")[1]) in case.causes}
    assert sum(named.values()) >= 0.9 * sum(counts.values()), counts
